"""httpx as tests speak it: to 127.0.0.1, without TLS. It would read all authorities that the system
trusts for each call that is not a client's, twenty milliseconds of work.
"""

from __future__ import annotations

import ssl
from contextlib import closing, suppress
from functools import partial
from http.client import HTTPConnection, HTTPException

import httpx

TRUSTS_NOBODY = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

get = partial(httpx.get, verify=TRUSTS_NOBODY)
head = partial(httpx.head, verify=TRUSTS_NOBODY)
post = partial(httpx.post, verify=TRUSTS_NOBODY)
put = partial(httpx.put, verify=TRUSTS_NOBODY)
stream = partial(httpx.stream, verify=TRUSTS_NOBODY)
Client = partial(httpx.Client, verify=TRUSTS_NOBODY)


def looked_at(port: int, path: str) -> tuple[int, bytes] | None:
    """Status and body of a GET, None where nobody answers: made to be asked again and again."""
    with (
        suppress(OSError, HTTPException),
        closing(HTTPConnection("127.0.0.1", port, timeout=5)) as connection,
    ):
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    return None

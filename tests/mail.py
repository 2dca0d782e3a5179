"""A real mail server on this machine, for tests: aiosmtpd on a free port."""

from __future__ import annotations

import asyncio
import email
import email.policy
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from typing import Any

from aiosmtpd.smtp import SMTP

HOST = "127.0.0.1"


class Mailbox:
    """An aiosmtpd handler: keeps letters, refuses some recipients, says some answers first."""

    def __init__(self) -> None:
        self.letters: list[tuple[str, EmailMessage]] = []
        self.connections = 0
        self.refused: dict[str, str] = {}
        self.data_answers: list[str] = []

    async def handle_EHLO(
        self, server: Any, session: Any, envelope: Any, hostname: str, responses: list[str]
    ) -> list[str]:
        self.connections += 1
        session.host_name = hostname
        return responses

    async def handle_RCPT(
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        said = self.refused.get(address)
        if said is None:
            envelope.rcpt_tos.append(address)
        return said or "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:
        if self.data_answers:
            said = self.data_answers.pop(0)
            if not said.startswith("250"):
                return said
        letter: Any = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.letters.append((envelope.rcpt_tos[0], letter))
        return "250 OK"


@contextmanager
def mail_server(
    mailbox: Mailbox, port: int = 0, over_tls: ssl.SSLContext | None = None, **options: Any
) -> Iterator[int]:
    """Its port. ``over_tls``: for a way that is encrypted from the first byte on."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    async def start() -> asyncio.Server:
        return await loop.create_server(
            lambda: SMTP(mailbox, hostname="mail.test", loop=loop, **options),
            HOST, port, ssl=over_tls,
        )  # fmt: skip

    async def stop(server: asyncio.Server) -> None:
        server.close()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()

    server = asyncio.run_coroutine_threadsafe(start(), loop).result(10)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        asyncio.run_coroutine_threadsafe(stop(server), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()

"""SMS and push by HTTP: what is signed, what a provider's answers mean, and the lab's provider."""

from __future__ import annotations

import http.server
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest

from paytm_lab.backends.embedded.cache import EmbeddedCache
from paytm_lab.backends.embedded.wide_store import EmbeddedWideStore
from paytm_lab.core.clock import SimulatedClock, SystemClock
from paytm_lab.core.errors import BadInput, InvalidSetting, Unauthenticated, Unavailable
from paytm_lab.notifications.channels import TAKEN, Outgoing, Verdict
from paytm_lab.notifications.contacts import Contact, Contacts
from paytm_lab.notifications.local_provider import KEPT_S, LocalProvider
from paytm_lab.notifications.tables import WIDE_TABLES
from paytm_lab.notifications.webhook import (
    IDEMPOTENCY_KEY,
    SIGNATURE,
    TOLERANCE_S,
    Notice,
    Provider,
    WebhookChannel,
    require_signed,
    signature,
)
from tests.ports import free_port

SECRET = b"s3cret"
Serve = Callable[[Callable[[Any, bytes], int]], int]


@pytest.fixture
def contacts(tmp_path: Path) -> Iterator[Contacts]:
    store = EmbeddedWideStore(tmp_path / "wide.sqlite")
    store.create_tables(WIDE_TABLES)
    yield Contacts(store)
    store.close()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """``serve(answer)``: an HTTP server whose POSTs get the status that ``answer`` says."""
    with ExitStack() as running:

        def start(answer: Callable[[Any, bytes], int]) -> int:
            class Handler(http.server.BaseHTTPRequestHandler):
                protocol_version = "HTTP/1.1"

                def do_POST(self) -> None:
                    body = self.rfile.read(int(self.headers["Content-Length"]))
                    status = answer(self, body)
                    if status:
                        self.send_response(status)
                        self.send_header("Content-Length", "2")
                        self.end_headers()
                        self.wfile.write(b"ok")

                def log_message(self, *_: object) -> None:
                    pass

            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
            server.daemon_threads = True
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            running.callback(server.server_close)
            running.callback(server.shutdown)
            return int(server.server_address[1])

        yield start


def channel(contacts: Contacts, port: int, timeout_s: float = 2.0, **more: Any) -> WebhookChannel:
    provider = Provider(f"http://127.0.0.1:{port}/sms?a=b", SECRET, timeout_s)
    return WebhookChannel(provider, contacts, SystemClock(), **more)


def message(number: int = 0, user_id: str = "asha", kind: str = "sms") -> Outgoing:
    return Outgoing(user_id, f"id-{number}", kind, "paid", "", f"You paid ₹{number}", "p", 0)


def verdicts(answers: list[Any]) -> list[Verdict]:
    return [answer.verdict for answer in answers]


def test_one_signed_post_each_by_one_connection(contacts: Contacts, serve: Serve) -> None:
    seen: list[tuple[Any, dict[str, Any]]] = []

    def take(request: Any, body: bytes) -> int:
        require_signed(SECRET, request.headers[SIGNATURE], body, int(time.time()))
        assert request.headers["Content-Type"] == "application/json"
        seen.append((request.client_address, msgspec.json.decode(body)))
        assert request.headers[IDEMPOTENCY_KEY] == seen[-1][1]["notification_id"]
        assert request.path == "/sms?a=b"
        return 200

    contacts.store("asha", Contact(phone="+919812345678", push_token="token"))
    sent = channel(contacts, serve(take)).send(
        [message(0), message(1, "ravi"), message(2, kind="push")]
    )
    assert sent == [TAKEN] * 3
    assert len({address for address, _ in seen}) == 1
    assert [body["to"] for _, body in seen] == ["+919812345678", "", "token"]
    assert seen[0][1]["text"] == "You paid ₹0" and seen[1][1]["user_id"] == "ravi"


@pytest.mark.parametrize(
    ("status", "verdict"),
    [
        (200, Verdict.TAKEN), (202, Verdict.TAKEN), (400, Verdict.REFUSED), (401, Verdict.REFUSED),
        (404, Verdict.REFUSED), (422, Verdict.REFUSED), (408, Verdict.LATER), (409, Verdict.LATER),
        (429, Verdict.LATER), (500, Verdict.LATER), (503, Verdict.LATER), (302, Verdict.LATER),
    ],
)  # fmt: skip
def test_what_a_status_means(
    contacts: Contacts, serve: Serve, status: int, verdict: Verdict
) -> None:
    port = serve(lambda request, body: 200 if b"id-1" in body else status)
    answers = channel(contacts, port).send([message(0), message(1)])
    assert verdicts(answers) == [verdict, Verdict.TAKEN]
    assert verdict is Verdict.TAKEN or answers[0].why == f"{status} ok"


def test_one_that_does_not_answer_is_left_after_the_first(contacts: Contacts, serve: Serve) -> None:
    stop = threading.Event()

    def hang(request: Any, body: bytes) -> int:
        if b"id-0" not in body:
            stop.wait(20)
        return 200

    began = time.monotonic()
    answers = channel(contacts, serve(hang), 0.3).send([message(n) for n in range(4)])
    stop.set()
    assert verdicts(answers) == [Verdict.TAKEN, Verdict.UNKNOWN, Verdict.AWAY, Verdict.AWAY]
    assert time.monotonic() - began < 3


def raw_server(answer: Callable[[socket.socket], None]) -> tuple[socket.socket, int]:
    listener = socket.create_server(("127.0.0.1", 0))

    def run() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with connection, suppress(OSError):
                    connection.recv(65_536)
                    answer(connection)

    threading.Thread(target=run, daemon=True).start()
    return listener, int(listener.getsockname()[1])


def drip(connection: socket.socket) -> None:
    connection.sendall(b"HTTP/1.1 200 OK\r\n")
    while True:
        connection.sendall(b"X-A: b\r\n")
        threading.Event().wait(0.02)


@pytest.mark.parametrize(
    "answer",
    [
        drip,
        lambda connection: connection.sendall(b"SMTP here\r\n\r\n"),
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 90\r\n\r\nx"),
        lambda connection: connection.sendall(b"HTTP/1.1 200 OK\r\n" + b"A: b\r\n" * 5_000),
        lambda connection: None,
    ],
    ids=["drip", "another protocol", "half an answer", "endless head", "nothing"],
)
def test_an_answer_that_is_none(
    contacts: Contacts, answer: Callable[[socket.socket], None]
) -> None:
    listener, port = raw_server(answer)
    began = time.monotonic()
    with listener:
        answers = channel(contacts, port, 0.5).send([message(0), message(1)])
    assert verdicts(answers) == [Verdict.UNKNOWN, Verdict.AWAY]
    assert time.monotonic() - began < 3


def test_nobody_listens(contacts: Contacts) -> None:
    with pytest.raises(Unavailable, match="cannot be reached"):
        channel(contacts, free_port()).send([message()])


@pytest.mark.parametrize("url", ["", "sms", "ftp://a/b", "http://", "file:///etc/passwd"])
def test_an_address_that_is_none(contacts: Contacts, url: str) -> None:
    with pytest.raises(InvalidSetting):
        WebhookChannel(Provider(url, SECRET), contacts, SystemClock())


# -- the signature and the lab's provider ----------------------------------------------------------


def test_a_known_signature() -> None:
    # printf '1700000000.{"a":1}' | openssl dgst -sha256 -hmac s3cret
    digest = "1698a50bc74d1ff1db85c4e0a5297c2ad9fdba245d5737cdb789e4cc6e098940"
    assert signature(SECRET, b'{"a":1}', 1_700_000_000) == f"t=1700000000,v1={digest}"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda s: "", lambda s: s[:-1], lambda s: s.replace("t=1", "t=2"), lambda s: s + "0",
        lambda s: s.partition(",")[2], lambda s: "t=x,v1=y", lambda s: "t=١,v1=é",
        lambda s: "t=,v1=", lambda s: "t=" + "9" * 180, lambda s: "=," * 80,
        lambda s: s.partition(",")[0] + ",v1=" + "0" * 64,
    ],
)  # fmt: skip
def test_a_spoiled_signature_is_refused(spoil: Callable[[str], str]) -> None:
    now_s = 1_700_000_000
    good = signature(SECRET, b"{}", now_s)
    require_signed(SECRET, good, b"{}", now_s)
    with pytest.raises(Unauthenticated):
        require_signed(SECRET, spoil(good), b"{}", now_s)
    for secret, body in ((b"other", b"{}"), (SECRET, b"{} ")):
        with pytest.raises(Unauthenticated):
            require_signed(secret, good, body, now_s)


def test_an_old_signature_is_refused() -> None:
    good = signature(SECRET, b"{}", 1_700_000_000)
    for late_s in (-TOLERANCE_S, TOLERANCE_S):
        require_signed(SECRET, good, b"{}", 1_700_000_000 + late_s)
        with pytest.raises(Unauthenticated, match="too old"):
            require_signed(SECRET, good, b"{}", 1_700_000_000 + late_s + (1 if late_s > 0 else -1))


def notice(number: int = 0, channel: str = "sms") -> bytes:
    return msgspec.json.encode(Notice(f"id-{number}", channel, "asha", "", "text", "paid", "p"))


def taken_by(
    provider: LocalProvider, clock: SimulatedClock, body: bytes, key: str, channel: str = "sms"
) -> bool:
    signed = signature(SECRET, body, clock.now_us() // 1_000_000)
    return provider.take(channel, signed, key, body)


def test_the_labs_provider_takes_each_once_and_keeps_the_last() -> None:
    clock = SimulatedClock()
    provider = LocalProvider(SECRET, clock, EmbeddedCache(clock), kept_max=3)

    def take(body: bytes, key: str, channel: str = "sms") -> bool:
        return taken_by(provider, clock, body, key, channel)

    assert [take(notice(n), f"id-{n}") for n in (0, 1, 1, 2, 3)] == [True, True, False, True, True]
    assert [taken.notice.notification_id for taken in provider.messages()] == [
        "id-3", "id-2", "id-1",
    ]  # fmt: skip
    for body, key, kind in (
        (b"{", "id-9", "sms"), (b"[]", "id-9", "sms"), (notice(9), "id-8", "sms"),
        (notice(9), "", "sms"), (notice(9), "id-9", "push"), (b"\xff", "id-9", "sms"),
    ):  # fmt: skip
        with pytest.raises(BadInput):
            take(body, key, kind)
    with pytest.raises(Unauthenticated):
        provider.take("sms", "", "id-9", notice(9))
    assert len(provider.messages()) == 3


def test_several_processes_are_one_provider() -> None:
    clock = SimulatedClock()
    cache = EmbeddedCache(clock)
    one, two = (LocalProvider(SECRET, clock, cache, kept_max=20) for _ in range(2))
    for number in range(100):
        clock.advance(0.001)
        assert taken_by((one, two)[number % 2], clock, notice(number), f"id-{number}")
        assert not taken_by((two, one)[number % 2], clock, notice(number), f"id-{number}")
    newest = [f"id-{number}" for number in range(99, 79, -1)]
    for each in (one, two):
        assert [taken.notice.notification_id for taken in each.messages()] == newest
        assert [taken.notice.notification_id for taken in each.messages(3)] == newest[:3]
    # What is kept is bounded: what is past the newest has gone, but for a tenth.
    assert len(cache._entries) <= 22 and len(cache._windows) <= 23
    clock.advance(KEPT_S + 1)
    assert one.messages() == two.messages() == []


def test_a_provider_that_died_in_the_middle_takes_it_when_it_comes_again() -> None:
    clock = SimulatedClock()

    class Dies(EmbeddedCache):
        """After it has noted the key, before it keeps what came."""

        def set_many(self, values: Mapping[str, bytes], ttl_s: float) -> None:
            raise Unavailable("the cache does not answer")

    dying = Dies(clock)
    with pytest.raises(Unavailable):
        taken_by(LocalProvider(SECRET, clock, dying), clock, notice(), "id-0")
    cache = EmbeddedCache(clock)
    cache._windows = dying._windows
    provider = LocalProvider(SECRET, clock, cache)
    taken_by(provider, clock, notice(), "id-0")
    assert [taken.notice.notification_id for taken in provider.messages()] == ["id-0"]
    assert not taken_by(provider, clock, notice(), "id-0")
    assert len(provider.messages()) == 1


@pytest.mark.parametrize(
    "contact",
    [
        Contact(email="a"), Contact(email="a@b"), Contact(email="a@b.c\r\nBcc: d@e.f"),
        Contact(email="a b@c.d"), Contact(email="<a@b.c>"), Contact(email="a@b..c"),
        Contact(email="ä@b.c"), Contact(email="a" * 65 + "@b.c"), Contact(email="a@-b.c"),
        Contact(email="a@b.c\n"), Contact(phone="9812345678"), Contact(phone="+0123456789"),
        Contact(phone="+91 98123"), Contact(phone="+" + "1" * 16), Contact(phone="+٩١٩٨١٢٣٤"),
        Contact(push_token="a b"), Contact(push_token="a\n"), Contact(push_token="x" * 513),
    ],
)  # fmt: skip
def test_an_address_of_a_user_that_is_none(contacts: Contacts, contact: Contact) -> None:
    with pytest.raises(BadInput):
        contacts.store("asha", contact)
    assert contacts.of(["asha"]) == {}

"""Email by SMTP against real servers on this machine: one that keeps to the protocol, and bare
sockets that do not.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.smtp import AuthResult, LoginPassword

from paytm_lab.backends.embedded.wide_store import EmbeddedWideStore
from paytm_lab.core.clock import SystemClock
from paytm_lab.core.errors import BadInput, Unavailable
from paytm_lab.notifications.channels import TAKEN, Outgoing, Verdict, every_kind
from paytm_lab.notifications.consumer import NotificationConsumer
from paytm_lab.notifications.contacts import Contact, Contacts, email_of, lab_name
from paytm_lab.notifications.letters import Letters
from paytm_lab.notifications.smtp import Server, SmtpChannel
from paytm_lab.notifications.tables import CONTACTS, NOTIFICATIONS, WIDE_TABLES
from tests.mail import HOST, Mailbox, mail_server
from tests.ports import free_port
from tests.unit.consumer_world import (
    Port,
    World,
    as_records,
    crash_points,
    payment,
    payment_message,
)
from tests.unit.test_notifications_channels import HOSTILE_IDS


@pytest.fixture
def contacts(tmp_path: Path) -> Iterator[Contacts]:
    store = EmbeddedWideStore(tmp_path / "wide.sqlite")
    store.create_tables(WIDE_TABLES)
    yield Contacts(store)
    store.close()


@pytest.fixture
def mailbox() -> Mailbox:
    return Mailbox()


@pytest.fixture
def serve(mailbox: Mailbox) -> Iterator[Callable[..., int]]:
    """``serve(...)``: a mail server with these options; its port."""
    with ExitStack() as running:
        yield lambda **options: running.enter_context(mail_server(mailbox, **options))


def channel(contacts: Contacts, port: int, tls: str = "none", **more: Any) -> SmtpChannel:
    batch_s_max = more.pop("batch_s_max", 20.0)
    server = Server(HOST, port, tls, **{"timeout_s": 2.0, **more})
    return SmtpChannel(
        server, Letters("lab@example.com"), contacts, SystemClock(), batch_s_max=batch_s_max
    )


def message(user_id: str = "asha", number: int = 0, **more: Any) -> Outgoing:
    fields = {
        "user_id": user_id, "notification_id": f"0199-{number}.ab", "channel": "email",
        "template": "paid", "subject": f"You paid ₹{number}",
        "body": f"You paid ₹{number} to नमस्ते.\n.\n..two dots\nPayment p", "payment_id": "p",
        "sent_us": 1_767_225_600_000_000,
    }  # fmt: skip
    return Outgoing(**{**fields, **more})


def verdicts(answers: list[Any]) -> list[Verdict]:
    return [answer.verdict for answer in answers]


def test_a_batch_goes_by_one_connection(
    contacts: Contacts, mailbox: Mailbox, serve: Callable[..., int]
) -> None:
    contacts.store("asha", Contact("asha@example.org"))
    sent = channel(contacts, serve()).send([message(number=n) for n in range(50)])
    assert sent == [TAKEN] * 50 and mailbox.connections == 1
    assert [letter["Message-ID"] for _, letter in mailbox.letters] == [
        f"<0199-{n}.ab@example.com>" for n in range(50)
    ]
    to, letter = mailbox.letters[7]
    assert to == letter["To"] == "asha@example.org"
    assert letter["Subject"] == "You paid ₹7" and letter["From"] == "paytm_lab <lab@example.com>"
    assert letter["Date"] == "Thu, 01 Jan 2026 00:00:00 +0000"
    text, html = letter.iter_parts()
    lines = ["You paid ₹7 to नमस्ते.", ".", "..two dots", "Payment p"]
    assert text.get_content().splitlines() == lines
    assert "<p>You paid ₹7 to नमस्ते.</p>" in html.get_content()
    letters = Letters("lab@example.com")  # to the byte the same when it is sent again
    first, again = (letters.letter(message(number=7), "a@example.org") for _ in range(2))
    assert first == again and first.isascii()


def test_more_than_a_connection_may_carry(
    contacts: Contacts, mailbox: Mailbox, serve: Callable[..., int]
) -> None:
    assert channel(contacts, serve()).send([message(number=n) for n in range(230)]) == [TAKEN] * 230
    assert mailbox.connections == 3 and len(mailbox.letters) == 230


def test_nothing_in_a_user_id_or_subject_gets_into_the_head(
    contacts: Contacts, mailbox: Mailbox, serve: Callable[..., int]
) -> None:
    hostile = [
        *HOSTILE_IDS, "a@b, c@d", "a>\r\nRCPT TO:<x@y.z", "a b", '"a"', "A", "a", "u=" + "0" * 32,
    ]  # fmt: skip
    subjects = ["x\r\nBcc: evil@example.com", "x\n\nbody", "\u2028Bcc: a@b.c", "\x00", "y" * 5_000]
    messages = [message(user, n) for n, user in enumerate(hostile)]
    messages += [message(number=100 + n, subject=s, body=f"<b>{s}") for n, s in enumerate(subjects)]
    assert channel(contacts, serve()).send(messages) == [TAKEN] * len(messages)
    for to, letter in mailbox.letters:
        assert letter.get_all("Bcc") is None and len(letter.get_all("To") or ()) == 1
        assert to == letter["To"] and to.endswith("@lab.invalid") and to.isascii()
        assert len(letter["Subject"]) <= 200
        html = list(letter.iter_parts())[1].get_content()
        assert "<b>" not in html
    addresses = {email_of(user, None) for user in hostile}
    assert len(addresses) == len(set(hostile))  # nobody reads another's
    assert lab_name("asha_1-x") == "asha_1-x" and "=" in lab_name("u=" + "0" * 32)


def test_what_the_server_says_decides(
    contacts: Contacts, mailbox: Mailbox, serve: Callable[..., int]
) -> None:
    mailbox.refused = {
        "gone@lab.invalid": "550 no such user", "full@lab.invalid": "452 mailbox full",
    }  # fmt: skip
    mailbox.data_answers = ["250 OK", "451 try later", "554 looks like spam"]
    users = ["asha", "gone", "busy", "full", "spam", "last"]
    answers = channel(contacts, serve()).send([message(u, n) for n, u in enumerate(users)])
    assert verdicts(answers) == [
        Verdict.TAKEN, Verdict.REFUSED, Verdict.LATER, Verdict.LATER, Verdict.REFUSED,
        Verdict.TAKEN,
    ]  # fmt: skip
    assert answers[1].why == "550 no such user" and answers[2].why == "451 try later"
    assert [to for to, _ in mailbox.letters] == ["asha@lab.invalid", "last@lab.invalid"]


def test_a_server_that_closes_takes_no_more(
    contacts: Contacts, mailbox: Mailbox, serve: Callable[..., int]
) -> None:
    mailbox.refused = {"b@lab.invalid": "421 closing"}
    answers = channel(contacts, serve()).send([message(u, n) for n, u in enumerate("abc")])
    assert verdicts(answers) == [Verdict.TAKEN, Verdict.AWAY, Verdict.AWAY]
    mailbox.refused.clear()
    mailbox.data_answers = ["250 OK", "421 closing"]
    answers = channel(contacts, serve()).send([message(u, n) for n, u in enumerate("abc")])
    assert verdicts(answers) == [Verdict.TAKEN, Verdict.LATER, Verdict.AWAY]


# -- servers that do not keep to the protocol ------------------------------------------------------


@pytest.fixture
def scripted() -> Iterator[Callable[..., int]]:
    """``scripted(script)``: each connection is handed to the script, in a thread of its own."""
    with ExitStack() as open_:

        def listen(script: Callable[[Any], None]) -> int:
            listener = open_.enter_context(socket.create_server((HOST, 0)))

            def serve() -> None:
                with suppress(OSError):
                    while True:
                        connection, _ = listener.accept()
                        open_.callback(connection.close)

                        def talk(connection: socket.socket = connection) -> None:
                            with suppress(OSError):
                                script(connection)

                        threading.Thread(target=talk, daemon=True).start()

            threading.Thread(target=serve, daemon=True).start()
            return int(listener.getsockname()[1])

        yield listen


def converse(connection: socket.socket, letters: int) -> Any:
    """Keep to the protocol for so many letters, up to the last byte of the one after them."""
    reader = connection.makefile("rb")
    connection.sendall(b"220 hello\r\n")
    while line := reader.readline():
        if line.startswith(b"DATA"):
            connection.sendall(b"354 go on\r\n")
            while reader.readline() != b".\r\n":
                pass
            if letters == 0:
                return reader
            letters -= 1
        connection.sendall(b"250 OK\r\n")
    return reader


def test_one_that_dies_after_a_letters_last_byte_may_have_taken_it(
    contacts: Contacts, scripted: Callable[..., int]
) -> None:
    def die(connection: socket.socket) -> None:
        converse(connection, 1)
        connection.shutdown(socket.SHUT_RDWR)

    answers = channel(contacts, scripted(die)).send([message(u, n) for n, u in enumerate("abc")])
    assert verdicts(answers) == [Verdict.TAKEN, Verdict.UNKNOWN, Verdict.AWAY]


def test_one_that_dies_before_a_letter_has_taken_nothing(
    contacts: Contacts, scripted: Callable[..., int]
) -> None:
    def die(connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        connection.sendall(b"220 hello\r\n")
        for _ in range(2):
            reader.readline()
            connection.sendall(b"250 OK\r\n")
        reader.readline()
        connection.shutdown(socket.SHUT_RDWR)

    answers = channel(contacts, scripted(die)).send([message(u, n) for n, u in enumerate("ab")])
    assert verdicts(answers) == [Verdict.AWAY, Verdict.AWAY]


def took(call: Callable[[], Any]) -> tuple[Any, float]:
    began = time.monotonic()
    return call(), time.monotonic() - began


def test_one_that_says_nothing_more_is_left(
    contacts: Contacts, scripted: Callable[..., int]
) -> None:
    def hang(connection: socket.socket) -> None:
        converse(connection, 1)
        connection.recv(1 << 16)

    mail = channel(contacts, scripted(hang), timeout_s=0.3)
    answers, seconds = took(lambda: mail.send([message(u, n) for n, u in enumerate("abc")]))
    assert verdicts(answers) == [Verdict.TAKEN, Verdict.UNKNOWN, Verdict.AWAY]
    assert seconds < 3


@pytest.mark.parametrize("first", [b"", b"220"])
def test_one_that_greets_byte_by_byte_is_left(
    contacts: Contacts, scripted: Callable[..., int], first: bytes
) -> None:
    def drip(connection: socket.socket) -> None:
        stop = threading.Event()
        connection.sendall(first)
        while not stop.wait(0.05):
            connection.sendall(b"-")

    mail = channel(contacts, scripted(drip), timeout_s=0.3)
    began = time.monotonic()
    with pytest.raises(Unavailable):
        mail.send([message()])
    assert time.monotonic() - began < 3


def test_a_slow_one_gets_as_much_as_time_allows(
    contacts: Contacts, scripted: Callable[..., int]
) -> None:
    def slow(connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        connection.sendall(b"220 hello\r\n")
        while line := reader.readline():
            if line.startswith(b"DATA"):
                connection.sendall(b"354 go on\r\n")
                while reader.readline() != b".\r\n":
                    pass
                threading.Event().wait(0.1)
            connection.sendall(b"250 OK\r\n")

    mail = channel(contacts, scripted(slow), batch_s_max=0.5)
    answers, seconds = took(lambda: mail.send([message(number=n) for n in range(40)]))
    taken = verdicts(answers).count(Verdict.TAKEN)
    assert 1 <= taken <= 6 and verdicts(answers)[taken:] == [Verdict.AWAY] * (40 - taken)
    assert seconds < 2


def test_nobody_listens(contacts: Contacts) -> None:
    with pytest.raises(Unavailable, match="cannot be used"):
        channel(contacts, free_port()).send([message()])


@pytest.mark.parametrize(
    "greeting", [b"554 no\r\n", b"garbage\r\n", b"\xff\xfe\r\n", b"HTTP/1.1 400\r\n"]
)
def test_something_else_listens(
    contacts: Contacts, scripted: Callable[..., int], greeting: bytes
) -> None:
    port = scripted(lambda connection: connection.sendall(greeting * 3))
    with pytest.raises(Unavailable):
        channel(contacts, port, timeout_s=0.3).send([message()])


def test_only_a_crash_after_the_servers_answer_sends_a_letter_twice_and_shows_it(
    tmp_path: Path, mailbox: Mailbox, serve: Callable[..., int]
) -> None:
    port = serve()
    records = as_records([payment_message("PaymentFailed", payment("p"))])
    outcomes = set()

    def consumer(world: World) -> NotificationConsumer:
        mail = Port(channel(Contacts(world.real_store), port), world.plan)
        return NotificationConsumer(world.store, every_kind(mail), world.log, world.clock)

    def run(world: World) -> None:
        mailbox.letters.clear()
        consumer(world).handle(records)

    for where, world in crash_points(tmp_path, run):
        consumer(world).handle(records)
        consumer(world).handle(records)
        (row,) = world.real_store.scan(NOTIFICATIONS)
        assert row["state"] == "sent", where
        ids = {letter["Message-ID"] for _, letter in mailbox.letters}
        assert len(ids) == 1, where
        # Where it may be, it says so: also where dying came before the letter went.
        outcomes.add((where, len(mailbox.letters), row["possible_repeat"]))
    assert {outcome for outcome in outcomes if outcome[1:] != (1, 0)} == {
        ("after insert_if_absent", 1, 1), ("before send", 1, 1), ("after send", 2, 1),
        ("before upsert", 2, 1),
    }  # fmt: skip


# -- encryption and login -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, str]:
    """A server's context, and the file of who signed it (itself), made out to 127.0.0.1."""
    import datetime
    import ipaddress

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(1)).not_valid_after(now + datetime.timedelta(1))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address(HOST))]), False
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    folder = tmp_path_factory.mktemp("tls")
    pem, own = folder / "cert.pem", folder / "key.pem"
    pem.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    own.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem, own)
    return context, str(pem)


def check_login(server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
    good = isinstance(data, LoginPassword) and data == LoginPassword(b"lab", b"secret")
    return AuthResult(success=good, handled=False)


def test_starttls_and_login(
    contacts: Contacts, mailbox: Mailbox, serve: Callable[..., int],
    certificate: tuple[ssl.SSLContext, str],
) -> None:  # fmt: skip
    context, ca_file = certificate
    port = serve(
        tls_context=context, require_starttls=True, authenticator=check_login, auth_required=True
    )
    good = {"tls": "starttls", "ca_file": ca_file, "user": "lab"}
    assert channel(contacts, port, **good, password="secret").send([message()]) == [TAKEN]
    with pytest.raises(Unavailable) as wrong:
        channel(contacts, port, **good, password="hunter2").send([message()])
    assert "no such login (535)" in str(wrong.value) and "hunter2" not in str(wrong.value)
    for broken in (
        {**good, "ca_file": "", "password": "secret"},  # a certificate that nobody vouches for
        {**good, "tls": "none", "password": "secret"},
    ):
        with pytest.raises(Unavailable):
            channel(contacts, port, **broken).send([message()])
    assert len(mailbox.letters) == 1


def test_starttls_is_not_left_out_where_the_server_offers_none(
    contacts: Contacts, mailbox: Mailbox, serve: Callable[..., int]
) -> None:
    with pytest.raises(Unavailable, match="STARTTLS"):
        channel(contacts, serve(), "starttls").send([message()])
    assert mailbox.letters == []


def test_implicit_tls(
    contacts: Contacts, mailbox: Mailbox, serve: Callable[..., int],
    certificate: tuple[ssl.SSLContext, str],
) -> None:  # fmt: skip
    context, ca_file = certificate
    port = serve(over_tls=context)
    assert channel(contacts, port, "implicit", ca_file=ca_file).send([message()]) == [TAKEN]
    with pytest.raises(Unavailable):
        channel(contacts, port, "implicit").send([message()])
    assert len(mailbox.letters) == 1


def test_a_letter_that_cannot_be_made_holds_up_no_other(
    contacts: Contacts, mailbox: Mailbox, serve: Callable[..., int]
) -> None:
    encoded = Contact("=?utf-8?q?x?=@example.org")
    with pytest.raises(BadInput, match="not an email address"):
        contacts.store("evil", encoded)
    # As one that was stored before such were refused.
    contacts._store.upsert(CONTACTS, [{"user_id": "evil", **encoded._asdict()}])
    users = ("asha", "ravi", "evil", "mina")
    answers = channel(contacts, serve()).send([message(u, n) for n, u in enumerate(users)])
    assert verdicts(answers) == [Verdict.TAKEN, Verdict.TAKEN, Verdict.REFUSED, Verdict.TAKEN]
    assert "no letter can be made" in answers[2].why
    assert len(mailbox.letters) == 3, "each of the others once"


@pytest.mark.parametrize("how", ["421", "closed"])
def test_what_was_refused_stays_refused_however_the_server_leaves(
    contacts: Contacts, scripted: Callable[..., int], how: str
) -> None:
    def refuse_and_leave(connection: socket.socket) -> None:
        reader = connection.makefile("rb")
        connection.sendall(b"220 hello\r\n")
        while line := reader.readline():
            if line.startswith(b"RCPT"):
                connection.sendall(b"550 no such user\r\n")
            elif line.startswith(b"RSET"):
                if how == "421":
                    connection.sendall(b"421 too many mistakes\r\n")
                connection.shutdown(socket.SHUT_RDWR)
                return
            else:
                connection.sendall(b"250 OK\r\n")

    port = scripted(refuse_and_leave)
    answers = channel(contacts, port).send([message(u, n) for n, u in enumerate("ab")])
    assert verdicts(answers) == [Verdict.REFUSED, Verdict.AWAY]
    assert "550 no such user" in answers[0].why

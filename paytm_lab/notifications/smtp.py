"""Email by SMTP (RFC 5321): one connection for a batch, and each letter's own answer.

What the server said decides: 5xx is for good, 4xx for now, 421 ends the connection before a letter
was taken. Where the connection is lost after a letter's last byte nobody knows whether it was
taken; its Message-ID is the same when it is sent again, so that mail programs show it once.
"""

from __future__ import annotations

import re
import smtplib
import ssl
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

from paytm_lab.core.clock import Clock
from paytm_lab.core.errors import Unavailable
from paytm_lab.notifications.channels import TAKEN, Answer, Outgoing, Verdict
from paytm_lab.notifications.contacts import Contacts, email_of
from paytm_lab.notifications.cutoff import cutoff
from paytm_lab.notifications.letters import Letters

LETTERS_PER_CONNECTION_MAX = 100  # what many servers allow
BATCH_S_MAX = 5.0  # who sends has other providers, too, and must come back to its consumer group
# Whoever is silent for 30 s loses a partition to another consumer, who would send the same again.
CALL_S_MAX = 20.0
PATIENCE_S_MIN = 0.5
OUR_NAME = "paytm-lab.invalid"
_CLOSING = 421
_DOTS = re.compile(rb"^\.", re.MULTILINE)


class Server(NamedTuple):
    """``tls``: none, starttls, implicit. ``ca_file``: '' for the system's authorities. ``user``: ''
    for no login. ``timeout_s``: of one answer; a letter may take three times as long in all.
    """

    host: str
    port: int
    tls: str = "starttls"
    ca_file: str = ""
    user: str = ""
    password: str = ""
    timeout_s: float = 10.0


# A connection is ``held`` from before it is made, as a server may be slow from its first word on.
# Our own name is not looked up: that may take as long as the name server likes.


class _Connection(smtplib.SMTP):
    def __init__(self, held: list[smtplib.SMTP], server: Server) -> None:
        held.append(self)
        super().__init__(server.host, server.port, OUR_NAME, server.timeout_s)


class _TlsConnection(smtplib.SMTP_SSL):
    def __init__(self, held: list[smtplib.SMTP], server: Server, context: ssl.SSLContext) -> None:
        held.append(self)
        super().__init__(
            server.host, server.port, OUR_NAME, timeout=server.timeout_s, context=context
        )


class _Gone(Exception):
    """The connection is of no use any more; ``answer`` is the present letter's."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.why)
        self.answer = answer


class SmtpChannel:
    """A ``channels.Channel`` for email."""

    def __init__(
        self,
        server: Server,
        letters: Letters,
        contacts: Contacts,
        clock: Clock,
        *,
        batch_s_max: float = BATCH_S_MAX,
    ) -> None:
        self._server = server
        self._letters = letters
        self._contacts = contacts
        self._clock = clock
        self._batch_s_max = batch_s_max

    def send(self, messages: Sequence[Outgoing]) -> list[Answer]:
        """Unavailable where the server takes no connection, no login, or not ours."""
        contacts = self._contacts.of([message.user_id for message in messages])
        now_s = self._clock.monotonic_s()
        until_s, end_s = now_s + self._batch_s_max, now_s + max(self._batch_s_max, CALL_S_MAX)
        answers: list[Answer] = []
        while len(answers) < len(messages):
            rest = messages[len(answers) : len(answers) + LETTERS_PER_CONNECTION_MAX]
            addressed = [(m, email_of(m.user_id, contacts.get(m.user_id))) for m in rest]
            try:
                found, why = self._send_some(addressed, until_s, end_s)
            except Unavailable as error:
                if not answers:
                    raise
                found, why = [], str(error)
            answers += found
            if len(found) < len(rest):
                answers += [Answer(Verdict.AWAY, why)] * (len(messages) - len(answers))
        return answers

    def _send_some(
        self, addressed: Sequence[tuple[Outgoing, str]], until_s: float, end_s: float
    ) -> tuple[list[Answer], str]:
        """One connection's answers, fewer than letters where it ended early, and why it did. No
        letter is begun after ``until_s``, nothing waited for after ``end_s``.
        """
        answers: list[Answer] = []
        connection = self._connect(end_s)
        try:
            for message, to in addressed:
                if self._clock.monotonic_s() >= until_s:
                    return answers, "the batch took too long; the rest goes on later"
                try:
                    letter = self._letters.letter(message, to)
                except Exception as error:  # of this one: those before it were sent already
                    why = f"no letter can be made of it: {type(error).__name__}: {error}"
                    answers.append(Answer(Verdict.REFUSED, why))
                    continue
                with cutoff(lambda: connection.sock, self._patience_s(end_s)):
                    answers.append(self._send_one(connection, to, letter))
        except _Gone as gone:
            if gone.answer.verdict is not Verdict.AWAY:
                answers.append(gone.answer)
            return answers, gone.answer.why
        finally:
            self._leave(connection)
        return answers, ""

    def _send_one(self, connection: smtplib.SMTP, to: str, letter: bytes) -> Answer:
        def before(command: str) -> tuple[int, str]:
            """A step before the letter: what goes wrong here has sent nothing."""
            try:
                code, said = connection.docmd(command)
            except (smtplib.SMTPException, OSError) as error:
                raise _Gone(Answer(Verdict.AWAY, f"connection lost: {error}")) from error
            text = f"{code} {said.decode(errors='replace')}"
            if code == _CLOSING:
                raise _Gone(Answer(Verdict.AWAY, text))
            return code, text

        steps = (
            (f"MAIL FROM:<{self._letters.sender}>", (250,)),
            (f"RCPT TO:<{to}>", (250, 251)),
            ("DATA", (354,)),
        )
        for command, wanted in steps:
            code, text = before(command)
            if code not in wanted:
                try:
                    before("RSET")
                except _Gone:  # what it said of this letter counts, however it took its leave
                    raise _Gone(_answer(code, text)) from None
                return _answer(code, text)
        try:
            connection.send(_DOTS.sub(b"..", letter) + b".\r\n")
            code, said = connection.getreply()
        except (smtplib.SMTPException, OSError) as error:
            why = f"connection lost after the letter: {error}"
            raise _Gone(Answer(Verdict.UNKNOWN, why)) from error
        answer = _answer(code, f"{code} {said.decode(errors='replace')}")
        if code == _CLOSING:
            raise _Gone(answer)
        return answer

    # -- the connection ---------------------------------------------------------------------------

    def _patience_s(self, end_s: float) -> float:
        left_s = end_s - self._clock.monotonic_s()
        return max(PATIENCE_S_MIN, min(3 * self._server.timeout_s, left_s))

    def _connect(self, end_s: float) -> smtplib.SMTP:
        server = self._server
        held: list[smtplib.SMTP] = []
        try:
            with cutoff(lambda: held[0].sock if held else None, self._patience_s(end_s)):
                if server.tls == "implicit":
                    connection: smtplib.SMTP = _TlsConnection(held, server, self._context())
                else:
                    connection = _Connection(held, server)
                connection.ehlo()
                if server.tls == "starttls":
                    connection.starttls(context=self._context())
                    connection.ehlo()
                if server.user:
                    connection.login(server.user, server.password)
        except (smtplib.SMTPException, OSError) as error:
            for begun in held:
                begun.close()
            raise Unavailable(
                f"the mail server cannot be used: {_said(error)}",
                place=f"{server.host}:{server.port}",
                remedy="See the settings notification_smtp_...",
            ) from error
        return connection

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=self._server.ca_file or None)

    def _leave(self, connection: smtplib.SMTP) -> None:
        with suppress(smtplib.SMTPException, OSError), cutoff(lambda: connection.sock, 1.0):
            connection.quit()
        connection.close()


def _answer(code: int, text: str) -> Answer:
    if 200 <= code < 300:
        return TAKEN
    return Answer(Verdict.REFUSED if 500 <= code < 600 else Verdict.LATER, text)


def _said(error: Exception) -> str:
    """Without what a server may have echoed of a login."""
    if isinstance(error, smtplib.SMTPAuthenticationError):
        return f"it takes no such login ({error.smtp_code})"
    return str(error) or type(error).__name__

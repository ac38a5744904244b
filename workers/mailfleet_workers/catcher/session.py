"""The server's side of an SMTP conversation (RFC 5321), every step of which a script may change.

Offered are PIPELINING (RFC 2920), SIZE (RFC 1870), 8BITMIME (RFC 6152), SMTPUTF8 (RFC 6531), ENHANCEDSTATUSCODES
(RFC 2034), and AUTH (RFC 4954), STARTTLS (RFC 3207) and DSN (RFC 3461) where asked for. There is no CHUNKING. Nothing is
relayed and nothing reported: every address exists unless the script says otherwise.
"""

from collections.abc import Callable
from functools import partial
from typing import assert_never

from mailfleet_workers.catcher import auth, command
from mailfleet_workers.catcher.actions import Say, keeps
from mailfleet_workers.catcher.body import Body
from mailfleet_workers.catcher.conversation import Conversation, Transaction, nothing
from mailfleet_workers.catcher.script import Credentials, Step
from mailfleet_workers.catcher.sessions import Sessions
from mailfleet_workers.catcher.store import Receipt

_OK = Say(250, "2.0.0 Ok")
_OUT_OF_ORDER = Say(503, "5.5.1 Bad sequence of commands")
_NO_ARGUMENT = Say(501, "5.5.4 This command takes no argument")
_TOO_LARGE = Say(552, "5.3.4 Message size exceeds fixed limit")


class Session(Conversation):
    """One connection, from the greeting to its end."""

    def __init__(self, shared: Sessions) -> None:
        super().__init__(shared)
        self._prompt: auth.Prompt | None = None
        self._refused = False
        self._verbs: dict[str, Callable[[str], None]] = {
            "EHLO": partial(self._hello, extended=True),
            "HELO": partial(self._hello, extended=False),
            "STARTTLS": self._starttls,
            "AUTH": self._auth,
            "MAIL": self._mail,
            "RCPT": self._rcpt,
            "DATA": self._data,
            "RSET": self._rset,
            "NOOP": self._noop,
            "VRFY": self._vrfy,
            "QUIT": self._quit,
        }

    def greet(self) -> None:
        self.ask(Step.CONNECT, Say(220, f"{self._shared.hostname} ESMTP mailfleet catcher"), self._greeted)

    def _greeted(self, code: int) -> None:
        # After a 554 greeting only QUIT is served (RFC 5321 3.1).
        self._refused = code != 220

    def on_line(self, line: bytes) -> None:
        if self._shared.lenient and not line:
            # The LF of a CRLF whose CR has already ended a message.
            return
        if self._prompt is not None:
            prompt, self._prompt = self._prompt, None
            self._authenticate(prompt.answer(line))
            return
        parsed = command.parse_line(line)
        if isinstance(parsed, Say):
            self.refuse(parsed)
            return
        handle = self._verbs.get(parsed.verb)
        if handle is None:
            self.refuse(Say(500, "5.5.1 Command unrecognized"))
        elif self._refused and parsed.verb != "QUIT":
            self.refuse(_OUT_OF_ORDER)
        else:
            handle(parsed.argument)

    # Names, TLS, AUTH

    def _hello(self, argument: str, *, extended: bool) -> None:
        if not argument:
            self.refuse(Say(501, "5.5.4 Syntax: EHLO hostname"))
            return
        text = self._shared.capabilities(encrypted=self.tls) if extended else self._shared.hostname
        self.ask(Step.EHLO, Say(250, text), partial(self._hello_said, argument), argument)

    def _hello_said(self, name: str, code: int) -> None:
        if _positive(code):
            self._helo = name
            self._transaction = Transaction()

    def _starttls(self, argument: str) -> None:
        if self.tls:
            self.refuse(_OUT_OF_ORDER)
        elif not self._shared.may_encrypt(encrypted=self.tls):
            self.refuse(Say(502, "5.5.1 STARTTLS is not offered"))
        elif argument:
            self.refuse(_NO_ARGUMENT)
        else:
            self.ask(Step.STARTTLS, Say(220, "2.0.0 Ready to start TLS"), self._starttls_said)

    def _starttls_said(self, code: int) -> None:
        if code == 220 and self._shared.tls is not None:
            # What was said in the clear, and what was sent behind the command, does not count (RFC 3207 4.2).
            self._buffer.clear()
            self._helo = None
            self._transaction = Transaction()
            self.encrypt(self._shared.tls, lambda: None)

    def _auth(self, argument: str) -> None:
        if not self._shared.mechanisms:
            self.refuse(Say(502, "5.5.1 AUTH is not offered"))
        elif not self._shared.may_login(encrypted=self.tls):
            self.refuse(Say(530, "5.7.0 Must issue a STARTTLS command first"))
        elif self._helo is None or self._user is not None or self._transaction.sender is not None:
            self.refuse(_OUT_OF_ORDER)
        else:
            stamp = f"<{self._number}.{self._shared.monotonic_clock()}@{self._shared.hostname}>"
            self._authenticate(auth.begin(argument, self._shared.mechanisms, stamp))

    def _authenticate(self, outcome: auth.Outcome) -> None:
        match outcome:
            case auth.Prompt(challenge=challenge):
                self.ask(Step.CHALLENGE, Say(334, challenge), partial(self._challenged, outcome))
            case Credentials(user=user):
                action = self.decide(Step.AUTH, user, outcome)
                welcome = Say(235, "2.7.0 Authentication successful")
                self.perform(action, welcome, partial(self._auth_said, user))
            case Say():
                self.refuse(outcome)
            case _:
                assert_never(outcome)

    def _challenged(self, prompt: auth.Prompt, code: int) -> None:
        if code == 334:
            self._prompt = prompt

    def _auth_said(self, user: str, code: int) -> None:
        if code == 235:
            self._user = user

    # One mail

    def _mail(self, argument: str) -> None:
        if self._helo is None:
            self.refuse(Say(503, "5.5.1 Send HELO/EHLO first"))
            return
        if self._transaction.sender is not None:
            self.refuse(Say(503, "5.5.1 Nested MAIL command"))
            return
        path = command.parse_mail(argument, max_size=self._shared.max_size, dsn=self._shared.dsn)
        if isinstance(path, Say):
            self.refuse(path)
        else:
            self.ask(Step.MAIL, Say(250, "2.1.0 Ok"), partial(self._mail_said, path), path.address)

    def _mail_said(self, path: command.Path, code: int) -> None:
        if _positive(code):
            self._transaction = Transaction(path.address, path.options)

    def _rcpt(self, argument: str) -> None:
        if self._transaction.sender is None:
            self.refuse(Say(503, "5.5.1 Need MAIL command"))
            return
        options = self._transaction.options
        path = command.parse_rcpt(argument, mail_options=options, dsn=self._shared.dsn)
        if isinstance(path, Say):
            self.refuse(path)
        else:
            self.ask(Step.RCPT, Say(250, "2.1.5 Ok"), partial(self._rcpt_said, path), path.address)

    def _rcpt_said(self, path: command.Path, code: int) -> None:
        if _positive(code):
            self._transaction.recipients += (path.address,)
            self._transaction.recipient_options += (path.options,)

    def _data(self, argument: str) -> None:
        if self._transaction.sender is None:
            self.refuse(Say(503, "5.5.1 Need MAIL command"))
        elif argument:
            self.refuse(_NO_ARGUMENT)
        elif not self._transaction.recipients:
            self.refuse(Say(554, "5.5.1 No valid recipients"))
        else:
            self.ask(Step.DATA, Say(354, "End data with <CR><LF>.<CR><LF>"), self._data_said)

    def _data_said(self, code: int) -> None:
        if code == 354:
            self._body = Body(lenient=self._shared.lenient, max_size=self._shared.max_size)

    def on_block(self, body: Body, block: bytes) -> None:
        rest = body.feed(block)
        self._transaction.body_bytes = body.size
        self.ask(Step.BODY, None, partial(self._block_taken, body, rest))

    def _block_taken(self, body: Body, rest: bytes | None, code: int) -> None:
        if code:
            # A reply in the middle of the body can only be followed by the end: the client is still sending.
            self.hang_up()
        elif rest is not None:
            self._buffer[:0] = rest
            self._body = None
            self._end_of_data(body)

    def _end_of_data(self, body: Body) -> None:
        arrived = self._shared.monotonic_clock()
        if body.too_large:
            self.perform(_TOO_LARGE, None, self._mail_over)
            return
        self._transaction.message = body.message()
        action = self.decide(Step.EOD)
        default = _OK
        if keeps(action):
            try:
                receipt = self._commit(arrived)
            except Exception as fault:  # noqa: BLE001 - full disk or faulty store: the client must not read 250
                self.fault(fault)
                action = Say(451, "4.3.0 The mail could not be stored")
            else:
                default = Say(250, f"2.0.0 Ok: queued as {receipt.number}")
        self.perform(action, default, self._eod_said)

    def _commit(self, arrived: float) -> Receipt:
        mail = self._transaction
        return self._shared.store.add(
            Receipt(
                session_id=self._number,
                peer=self._peer,
                helo=self._helo,
                user=self._user,
                tls=self.tls,
                sender=mail.sender or "",
                recipients=mail.recipients,
                message=mail.message,
                received_at=self._shared.wall_clock(),
                monotonic=arrived,
                mail_options=mail.options,
                recipient_options=mail.recipient_options,
            )
        )

    def _eod_said(self, _code: int) -> None:
        # The client shall be able to read the reply before whatever the script does after it.
        self.flush()
        self.ask(Step.AFTER_REPLY, None, self._mail_over)

    def _mail_over(self, _code: int) -> None:
        self._message_number += 1
        self._transaction = Transaction()

    # The rest

    def _rset(self, argument: str) -> None:
        if argument:
            self.refuse(_NO_ARGUMENT)
        else:
            self.ask(Step.RSET, _OK, self._rset_said)

    def _rset_said(self, code: int) -> None:
        if _positive(code):
            self._transaction = Transaction()

    def _noop(self, _argument: str) -> None:
        self.ask(Step.NOOP, _OK, nothing)

    def _vrfy(self, argument: str) -> None:
        if argument:
            self.ask(Step.VRFY, Say(252, "2.0.0 Cannot verify, but will take mail"), nothing, argument)
        else:
            self.refuse(Say(501, "5.5.4 Syntax: VRFY address"))

    def _quit(self, argument: str) -> None:
        if argument:
            self.refuse(_NO_ARGUMENT)
        else:
            self.ask(Step.QUIT, Say(221, "2.0.0 Bye"), lambda _code: self.hang_up())


def _positive(code: int) -> bool:
    return 200 <= code < 300

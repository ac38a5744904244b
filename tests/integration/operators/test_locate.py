"""Which mail an answer or a bounce is about, in both databases."""

from dataclasses import replace
from email.message import EmailMessage
from email.mime.message import MIMEMessage
from email.mime.multipart import MIMEMultipart
from email.mime.nonmultipart import MIMENonMultipart
from email.mime.text import MIMEText
from email.parser import Parser
from pathlib import Path

import pytest
from sqlalchemy import Engine

from mailfleet_workers.operators import locate as module
from mailfleet_workers.operators.locate import locate
from tests.conformance.statements.bench import CONTENT, Bench
from tests.integration.cli.conftest import Command, command

__all__ = ["command"]

OURS = "From: billing@example.com\nTo: ada@example.net\nSubject: Invoice\nMessage-ID: {message_id}\nX-Biz-Id: {number}\n\nHello\n"


@pytest.fixture
def bench(engine: Engine) -> Bench:
    return Bench(engine)


@pytest.fixture
def mails(bench: Bench) -> list[int]:
    """Three mails with Message-IDs <0@example.com>, <1@example.com>, <2@example.com>."""
    return [bench.new(content=replace(CONTENT, message_id=f"<{n}@example.com>")) for n in range(3)]


def located(bench: Bench, message: bytes, **more: str) -> list[tuple[int, str]]:
    with bench.engine.connect() as connection:
        return [(one.mail.id, one.by) for one in locate(connection, message, **more)]


def answer(**headers: str) -> EmailMessage:
    made = EmailMessage()
    made["From"] = "ada@example.net"
    made["To"] = "billing@example.com"
    made["Message-ID"] = "<answer@example.net>"
    for name, value in headers.items():
        made[name.replace("_", "-")] = value
    made.set_content("Thank you\n")
    return made


def bounce(
    part: MIMENonMultipart | MIMEMessage | MIMEText, text: str = "It could not be delivered.\n"
) -> bytes:
    made = MIMEMultipart("report")
    made["From"] = "MAILER-DAEMON@mx.example.net"
    made["Message-ID"] = "<bounce@mx.example.net>"
    made.attach(MIMEText(text))
    made.attach(part)
    return made.as_bytes()


@pytest.mark.tinymail("46")
def test_an_answer(bench: Bench, mails: list[int]) -> None:
    """By what it answers, and by what that answered; those that are nobody's are left out."""
    assert located(bench, bytes(answer(In_Reply_To="<1@example.com>"))) == [(mails[1], "message_id")]
    thread = answer(References="<0@example.com> <other@example.net> <2@example.com>")
    assert located(bench, bytes(thread)) == [(mails[0], "message_id"), (mails[2], "message_id")]
    assert located(bench, bytes(answer(In_Reply_To="<nobody@example.com>"))) == []
    # Its own Message-ID is not what it refers to.
    assert located(bench, bytes(answer()).replace(b"<answer@example.net>", b"<0@example.com>")) == []


def test_an_answer_to_a_copy(bench: Bench, mails: list[int]) -> None:
    """Each copy has a number in its Message-ID, and is the same mail."""
    assert located(bench, bytes(answer(In_Reply_To="<1.copy-2@example.com>"))) == [(mails[1], "message_id")]


@pytest.mark.tinymail("46")
@pytest.mark.parametrize("kind", ["message/rfc822", "text/rfc822-headers"])
def test_a_bounce_that_carries_it(bench: Bench, mails: list[int], kind: str) -> None:
    """The whole mail or its header only (RFC 3462)."""
    text = OURS.format(message_id="<2@example.com>", number=mails[2])
    part: MIMEMessage | MIMEText
    if kind == "message/rfc822":
        part = MIMEMessage(Parser().parsestr(text))
    else:
        part = MIMEText(text, "rfc822-headers")
    assert located(bench, bounce(part)) == [(mails[2], "message_id")]


def test_a_bounce_that_quotes_it(bench: Bench, mails: list[int]) -> None:
    """As text, perhaps with marks of quotation before each line."""
    quoted = f"Hi, this is the qmail-send program.\n\n> Message-ID: <0@example.com>\n> X-Biz-Id: {mails[0]}\n> Hello\n"
    plain = EmailMessage()
    plain["From"] = "MAILER-DAEMON@mx.example.net"
    plain.set_content(quoted)
    assert located(bench, bytes(plain)) == [(mails[0], "message_id")]
    assert located(bench, bounce(MIMEText("x", "html"), quoted)) == [(mails[0], "message_id")]


def test_by_its_number_alone(bench: Bench, mails: list[int]) -> None:
    """Where nothing else is left of it; behind those that are known for certain."""
    found = located(bench, bytes(answer(X_Biz_Id=str(mails[1]), In_Reply_To="<2@example.com>")))
    assert found == [(mails[2], "message_id"), (mails[1], "id_header")]
    assert located(bench, bytes(answer(X_Our=str(mails[1]))), id_header="X-Our") == [(mails[1], "id_header")]
    assert located(bench, bytes(answer(X_Biz_Id=str(mails[1]))), id_header="") == []


@pytest.mark.parametrize(
    "value", ["0", "-1", "1e3", "١", "9" * 19, "9" * 400, "17; DROP TABLE mail", "", "4711"]
)
def test_a_number_that_is_none(bench: Bench, mails: list[int], value: str) -> None:
    """Whatever somebody writes there, nothing is found and nothing breaks."""
    assert located(bench, bytes(answer(X_Biz_Id=value))) == []


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\0\xff\xfe garbage",
        b"Content-Type: multipart/mixed; boundary=x\n\n--x\n",
        b"Content-Type: message/rfc822\n\n" * 50,
        b"Content-Type: text/plain; charset=nonsense\n\nMessage-ID: <nobody@x>\n",
        b"Content-Transfer-Encoding: base64\n\n!!!!",
        b"References: " + b"<a@x> " * 20_000,
        b"In-Reply-To: <a\0b@x>\n\nx",
        b"Content-Type: text/plain\n\n" + b"\n" * 300_000,
        b"Content-Type: text/plain\n\n" + b"> " * 300_000,
        b"Content-Type: text/plain\n\n" + b"Message-ID: " * 100_000,
        b"References: " + b"".join(b"<%d@x> " % n for n in range(50_000)),
    ],
    ids=range(12),
)
def test_a_message_that_is_broken(bench: Bench, mails: list[int], message: bytes) -> None:
    """Nothing is found in it, and nothing is raised."""
    assert located(bench, message) == []


def test_a_message_that_is_nested_too_deep(bench: Bench) -> None:
    """Nobody sends such a thing for its content."""
    with pytest.raises(ValueError, match="nested too deep"):
        located(bench, b"Content-Type: message/rfc822\n\n" * 20_000)


def test_a_header_that_is_folded(bench: Bench, mails: list[int]) -> None:
    """As it stands in the header that a bounce quotes."""
    folded = "To: ada@example.net\nMessage-ID:\n <1@example.com>\nSubject: Invoice\n"
    assert located(bench, bounce(MIMEText(folded, "rfc822-headers"))) == [(mails[1], "message_id")]


def test_a_mail_that_is_sent_back_as_it_is(bench: Bench, mails: list[int]) -> None:
    """The whole message is ours, within one that says nothing else."""
    text = OURS.format(message_id="<2@example.com>", number=mails[2])
    for kind in ("rfc822", "global"):
        back = f"From: x@example.net\nContent-Type: message/{kind}\n\n{text}".encode()
        assert located(bench, back) == [(mails[2], "message_id")]


def test_a_message_that_is_too_long(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is refused, not read."""
    monkeypatch.setattr(module, "MOST_BYTES", 10)
    with pytest.raises(ValueError, match="at most 10 bytes, got 11"):
        located(bench, b"x" * 11)


def test_the_command(bench: Bench, mails: list[int], command: Command, tmp_path: Path) -> None:
    """A table or a document; the exit status says whether there is one."""
    command.environ["MAILFLEET_DATABASE_URL"] = bench.engine.url.render_as_string(hide_password=False)
    (tmp_path / "answer.eml").write_bytes(bytes(answer(In_Reply_To="<1@example.com>")))
    (tmp_path / "other.eml").write_bytes(bytes(answer()))
    head, row = command("locate", "--eml", "answer.eml").stdout.splitlines()
    assert head.split()[:3] == ["id", "app", "state"]
    assert row.split()[0] == str(mails[1])
    assert row.endswith("its Message-ID")
    (found,) = command.json("locate", "--eml", "answer.eml")["mails"]
    assert (found["mail"]["id"], found["by"]) == (mails[1], "message_id")
    said = command("locate", "--eml", "other.eml", status=1).stderr
    assert said == "mailfleet: other.eml: it refers to no mail of this database\n"
    assert command.complaints("locate", "--eml", "missing.eml") == [
        "--eml: missing.eml: No such file or directory"
    ]

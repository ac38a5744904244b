"""The grammar of commands."""

import pytest

from mailfleet_workers.catcher.actions import Say
from mailfleet_workers.catcher.command import Command, Path, parse_line, parse_mail, parse_rcpt


def code_of(outcome: Path | Say) -> int | None:
    return outcome.code if isinstance(outcome, Say) else None


def test_verb_and_argument() -> None:
    """The verb is folded to capitals and the argument kept as it is."""
    assert parse_line(b"mail FROM:<a@x.test> ") == Command("MAIL", "FROM:<a@x.test>")
    assert parse_line(b"QUIT") == Command("QUIT", "")


@pytest.mark.parametrize("line", [b"NOOP\nNOOP", b"NOOP\rNOOP", b"NOOP\0", b"NOOP \xff"])
def test_dirty_lines_are_refused(line: bytes) -> None:
    """Bare CR or LF, NUL and what is not UTF-8 are refused, so nothing hides behind them."""
    outcome = parse_line(line)

    assert isinstance(outcome, Say)
    assert outcome.code == 500


@pytest.mark.parametrize(
    ("argument", "address", "options"),
    [
        ("FROM:<a@x.test>", "a@x.test", ()),
        ("from:<>", "", ()),
        ('FROM:<"a > b"@x.test> SIZE=12', '"a > b"@x.test', ("SIZE=12",)),
        ("FROM:<a@x.test> BODY=8BITMIME SIZE=1000", "a@x.test", ("BODY=8BITMIME", "SIZE=1000")),
        ("FROM:<jürgen@x.test> smtputf8", "jürgen@x.test", ("smtputf8",)),
        ("FROM:<a@x.test> AUTH=<>", "a@x.test", ("AUTH=<>",)),
    ],
)
def test_good_mail(argument: str, address: str, options: tuple[str, ...]) -> None:
    """Senders and the offered parameters are taken as they are."""
    assert parse_mail(argument, max_size=1000) == Path(address, options)


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("", 501),
        ("TO:<a@x.test>", 501),
        ("FROM: <a@x.test>", 501),
        ("FROM:a@x.test", 501),
        ("FROM:<a b@x.test>", 501),
        ("FROM:<a@x.test", 501),
        ("FROM:<a@x.test>SIZE=1", 501),
        ("FROM:<a\x01@x.test>", 501),
        ("FROM:<a@x.test> SIZE=1001", 552),
        ("FROM:<a@x.test> SIZE=many", 501),
        ("FROM:<a@x.test> SIZE=1 SIZE=1", 501),
        ("FROM:<a@x.test> BODY=BINARYMIME", 501),
        ("FROM:<a@x.test> SMTPUTF8=yes", 501),
        ("FROM:<a@x.test> RET=HDRS", 555),
        ("FROM:<jürgen@x.test>", 553),
    ],
)
def test_bad_mail(argument: str, code: int) -> None:
    """What a server did not offer, or cannot read, is refused with the code the RFCs give it."""
    assert code_of(parse_mail(argument, max_size=1000)) == code


@pytest.mark.parametrize(
    ("argument", "options", "code"),
    [
        ("TO:<b@x.test>", (), None),
        ("TO:<jürgen@x.test>", ("SMTPUTF8",), None),
        ("TO:<jürgen@x.test>", ("SIZE=1",), 553),
        ("TO:<>", (), 501),
        ("TO:<b@x.test> NOTIFY=NEVER", (), 555),
        ("TO: <b@x.test>", (), 501),
    ],
)
def test_rcpt(argument: str, options: tuple[str, ...], code: int | None) -> None:
    """Recipients are never null, have no parameters, and are ASCII unless MAIL said SMTPUTF8."""
    assert code_of(parse_rcpt(argument, mail_options=options)) == code


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("FROM:<a@x.test> RET=HDRS ENVID=m+2B1-2@x", None),
        ("FROM:<a@x.test> ret=full SIZE=12", None),
        ("FROM:<a@x.test> RET=BODY", 501),
        ("FROM:<a@x.test> RET=FULL RET=FULL", 501),
        ("FROM:<a@x.test> ENVID=", 501),
        ("FROM:<a@x.test> ENVID=a=b", 501),
        ("FROM:<a@x.test> ENVID=a+2b", 501),
        (f"FROM:<a@x.test> ENVID={'x' * 101}", 501),
        ("FROM:<a@x.test> NOTIFY=NEVER", 555),
    ],
)
def test_mail_where_dsn_is_offered(argument: str, code: int | None) -> None:
    """RET and ENVID are read as RFC 3461 writes them."""
    assert code_of(parse_mail(argument, max_size=1000, dsn=True)) == code


@pytest.mark.parametrize(
    ("argument", "code"),
    [
        ("TO:<b@x.test> NOTIFY=NEVER", None),
        ("TO:<b@x.test> NOTIFY=SUCCESS,failure,DELAY ORCPT=rfc822;b+2Bc@x.test", None),
        ("TO:<b@x.test> ORCPT=utf-8;jürgen@x.test", None),
        ("TO:<b@x.test> NOTIFY=NEVER,FAILURE", 501),
        ("TO:<b@x.test> NOTIFY=FAILURE,", 501),
        ("TO:<b@x.test> NOTIFY=", 501),
        ("TO:<b@x.test> NOTIFY", 501),
        ("TO:<b@x.test> ORCPT=b@x.test", 501),
        ("TO:<b@x.test> ORCPT=rfc822;b=c@x.test", 501),
        ("TO:<b@x.test> RET=FULL", 555),
    ],
)
def test_rcpt_where_dsn_is_offered(argument: str, code: int | None) -> None:
    """NOTIFY and ORCPT are read as RFC 3461 writes them."""
    assert code_of(parse_rcpt(argument, mail_options=(), dsn=True)) == code

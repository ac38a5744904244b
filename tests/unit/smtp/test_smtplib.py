"""What of the standard library's client is used at all, and the deadlines that it does not have."""

import ast
from dataclasses import asdict
from pathlib import Path

import pytest

import mailfleet
import mailfleet_schema
import mailfleet_workers
from mailfleet_workers.account import Timeouts
from mailfleet_workers.settings.timeouts import TimeoutSettings

SOURCES = [
    path
    for package in (mailfleet, mailfleet_schema, mailfleet_workers)
    for path in Path(package.__path__[0]).rglob("*.py")
]
#: Methods that hide replies, log in more than once, or send bytes as they are.
NOT_OURS = {"sendmail", "send_message", "login", "auth", "starttls", "ehlo_or_helo_if_needed"}


@pytest.mark.smtplib(1, 3)
def test_nothing_of_smtplib_but_its_connection_is_used() -> None:
    """One module knows smtplib, none of its exceptions is named anywhere, and the methods that go wrong are not called."""
    users = set()
    for path in SOURCES:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for node in ast.walk(tree):
            match node:
                case ast.Import(names=names) if any(name.name == "smtplib" for name in names):
                    users.add(path.name)
                case ast.ImportFrom(module="smtplib"):
                    pytest.fail(f"{path} takes names from smtplib")
                case ast.Attribute(value=ast.Name(id="smtplib"), attr=attr):
                    assert attr == "SMTP", path
                case ast.Call(
                    func=ast.Attribute(value=ast.Attribute(attr="_wire") | ast.Name(id="wire"), attr=attr)
                ):
                    assert attr not in NOT_OURS, path
                case _:
                    pass
    assert users == {"wire.py"}


@pytest.mark.smtplib(18)
def test_no_phase_is_without_a_deadline() -> None:
    """Each phase has one; where giving up early costs a copy or an upload, it is no shorter than RFC 5321 4.5.3.2 asks."""
    limits = asdict(Timeouts())
    assert limits == TimeoutSettings().model_dump()
    assert all(0 < seconds <= 600 for seconds in limits.values())
    assert limits["data"] >= 120
    assert limits["block"] >= 180
    assert limits["dot"] >= 600

"""`Mail.apps`: who may send it."""

from typing import Any

import pytest

from mailfleet import Attachment, InvalidMail
from mailfleet.validation.senders import senders
from tests.unit.validation.checking import check


@pytest.mark.tinymail("14", "D24")
@pytest.mark.parametrize(
    ("given", "stored"),
    [
        (None, None),
        ("*", ("*",)),
        (["*"], ("*",)),
        (["crm"], ("crm",)),
        (("crm", "billing-2", "crm"), ("crm", "billing-2")),
    ],
    ids=["none", "all", "all in a list", "one", "several"],
)
def test_what_may_be_said(given: Any, stored: Any) -> None:
    """A list of names, each once, or a star."""
    assert senders(given) == stored


@pytest.mark.parametrize(
    ("given", "field", "reason"),
    [
        ("crm", "apps", 'expected a list of apps or "*"'),
        ([], "apps", "expected at least one app"),
        (["crm", "*"], r"apps\[1\]", "expected a name"),
        (["Crm"], r"apps\[0\]", "expected a name"),
        (["crm billing"], r"apps\[0\]", "expected a name"),
        ([1], r"apps\[0\]", "expected str"),
        ({"crm"}, "apps", "got set"),
        (["a"] * 51, "apps", "at most 50"),
    ],
    ids=["a name alone", "nobody", "both", "upper case", "two in one", "a number", "a set", "many"],
)
def test_what_may_not(given: Any, field: str, reason: str) -> None:
    """The error names the field and what was expected."""
    with pytest.raises(InvalidMail, match=f"{field}.*{reason}"):
        senders(given)


def test_a_file_that_is_still_in_a_store() -> None:
    """Only its own app's workers may have the store: another app's would fail the mail for it."""
    with pytest.raises(InvalidMail, match="apps: a file is still in a store"):
        check(attachments=[Attachment.stored("scans", "17")], apps="*")

"""From the settings to the way of a mail: what `delivery` and `[outgoing]` make of it, account by account."""

from typing import Any

import pytest

from mailfleet_schema.content import Address, Content
from mailfleet_workers.desk import Way
from mailfleet_workers.settings import Settings
from mailfleet_workers.smtp.dry import DryRunTransport
from mailfleet_workers.ways import Ways

CATCHER = ("127.0.0.1", 2525)
CONTENT = Content(
    "<1@x.test>", None, to=(Address("", "ada@example.net"),), cc=(Address("", "bob@example.org"),)
)


def way(account: str = "real", **more: Any) -> Way:
    """How mail of *account* leaves: `real` has a server of its own, `default` is our catching server."""
    fields: dict[str, Any] = {
        "accounts": {"default": {}, "real": {"host": "smtp.example.com"}},
        "apps": {"billing": {"accounts": ["default", "real"]}},
        **more,
    }
    ways = Ways(Settings.model_validate(fields), environ={}, catcher=CATCHER)
    found = ways("billing", account)
    assert isinstance(found, Way)
    # Where nothing leaves, nothing can connect either.
    assert isinstance(ways.transport(found.account), DryRunTransport) == found.dry_run
    return found


def recipients(found: Way) -> tuple[str, ...]:
    return found.outgoing.of(CONTENT, mail_id=1, mark=None).content.recipients()


@pytest.mark.parametrize(("account", "dry"), [("real", True), ("default", False)])
def test_nothing_real_leaves_by_default(account: str, dry: bool) -> None:
    """The catching server gets its mail all the same."""
    assert way(account).dry_run is dry
    assert way(account, delivery="live").dry_run is False


def test_a_redirect_is_for_real_servers() -> None:
    """Nobody real gets mail; the catching server shows to whom it would have gone."""
    outgoing = {"redirect_to": ["dev@example.com"]}
    found = way(delivery="redirect", outgoing=outgoing)
    assert (found.dry_run, recipients(found)) == (False, ("dev@example.com",))
    assert recipients(way("default", delivery="redirect", outgoing=outgoing)) == CONTENT.recipients()
    # Named and not asked for: what `delivery` says counts.
    assert recipients(way(delivery="live", outgoing=outgoing)) == CONTENT.recipients()


def test_an_allowlist_is_for_real_servers() -> None:
    """Only those who are named get mail."""
    outgoing = {"allow": ["@Example.NET"]}
    found = way(delivery="allowlist", outgoing=outgoing)
    assert (found.dry_run, recipients(found)) == (False, ("ada@example.net",))
    assert recipients(way("default", delivery="allowlist", outgoing=outgoing)) == CONTENT.recipients()
    assert recipients(way(delivery="live", outgoing=outgoing)) == CONTENT.recipients()


def test_forced_recipients_hold_everywhere() -> None:
    """Whatever `delivery` says, and for the catching server too."""
    outgoing = {"force_to": ["dev@example.com"], "force_prefix": "TEST"}
    for account in ("real", "default"):
        found = way(account, delivery="live", outgoing=outgoing)
        assert recipients(found) == ("dev@example.com", "bob@example.org")
        assert found.outgoing.of(CONTENT, mail_id=1, mark=None).content.subject == "TEST "


@pytest.mark.tinymail("49")
@pytest.mark.parametrize(("run_mode", "dry"), [("test", True), ("product", False)])
def test_a_run_mode_in_which_nothing_leaves(run_mode: str, dry: bool) -> None:
    """Not to the catching server either: it was asked for by name."""
    for account in ("real", "default"):
        found = way(account, delivery="live", run_mode=run_mode, outgoing={"dry_run_modes": ["test"]})
        assert found.dry_run is dry


@pytest.mark.tinymail("49")
def test_an_account_that_never_sends() -> None:
    """Its own word; and a subject asks for a dry run by the account's prefix."""
    accounts = {"real": {"host": "smtp.example.com", "dry_run": True, "dry_run_prefix": "[TRY]"}}
    found = way(delivery="live", accounts=accounts)
    assert (found.dry_run, found.outgoing.dry_run_prefix) == (True, "[TRY]")
    assert way(delivery="live").outgoing.dry_run_prefix == "[DRYRUN]"


def test_headers_to_find_it_by() -> None:
    """TinyMail's names, unless the settings say others."""
    found = way(delivery="live").outgoing
    assert (found.id_header, found.mark_header) == ("X-Biz-Id", "X-Biz-Mark")
    assert way(delivery="live", outgoing={"id_header": ""}).outgoing.id_header == ""

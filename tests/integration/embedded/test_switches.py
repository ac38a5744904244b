"""What can be switched off, and by which key: as the page says it, with everything else as it was.

Off is what the page shows: its own words are the settings of the test.
"""

import re
import sys
import tomllib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from mailfleet import Attachment, Failed, Mail, Sent, registry
from mailfleet_workers.catcher import Action, Catcher, Cut, Default, Event, MemoryStore, Receipt, Step
from mailfleet_workers.embedded import Embedded
from mailfleet_workers.operators.accounts import store
from mailfleet_workers.settings import Settings
from mailfleet_workers.telemetry.health import HealthServer, Readiness
from tests.integration.webhooks.endpoint import SECRET, Endpoint
from tests.stage.socks import SocksServer
from tests.waiting import wait_until

PAGE = Path(__file__).parents[3] / "docs" / "settings.md"
PATTERNS = {"apps": {"billing": {"accounts": ["default", "tenant-*"], "threads": 1}}}
LOADER = """
def load(name):
    return {{"host": "127.0.0.1", "port": {port}, "tls": "plain"}} if name == "tenant-a" else None
"""
HOOK = """
from mailfleet.registry import on_attempt
HEARD = []
on_attempt(HEARD.append)
"""


class Site:
    """A mailfleet in one process, `settings` but for what a switch says, and a server that is not its own."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory = directory
        self.monkeypatch = monkeypatch
        self.store = MemoryStore()
        self.cut = 0
        self.server = Catcher(self.store, script=self._script)
        self.settings: dict[str, Any] = {}

    def _script(self, event: Event) -> Action:
        if event.step is Step.EOD and self.cut:
            self.cut -= 1
            return Cut()
        return Default()

    def base(self) -> dict[str, Any]:
        default = {
            "host": "127.0.0.1",
            "port": self.server.port,
            "tls": "plain",
            "from": "us@example.com",
        }
        times = {"grace_s": 0.2, "step_s": 0.2, "reconcile_s": 0.2, "try_next_s": 0.2, "settle_s": 0.2}
        return {
            "data_dir": self.directory / "data",
            "delivery": "live",
            "accounts": {"default": default},
            "apps": {"billing": {"threads": 1}},
            "timing": {**times, "drain_s": 5.0},
        }

    @contextmanager
    def fleet(self, *apps: str) -> Iterator[Embedded]:
        settings = Settings.model_validate(merged(self.base(), self.settings))
        with Embedded(settings, apps=("billing", *apps), environ={"WEBHOOK_SECRET": SECRET}) as fleet:
            yield fleet

    def received(self, **more: Any) -> Receipt | None:
        """What the server has of a mail that counts as sent."""
        with self.fleet() as fleet:
            assert isinstance(fleet.mailer("billing").send(mail(**more), 20), Sent)
        return next(iter(self.store.receipts()), None)

    def rest(self, fleet: Embedded, mail_id: int) -> tuple[str, str]:
        """State and reason of a mail that is not queued, or says for what it waits."""
        query = text("SELECT state, reason FROM mailfleet_mail WHERE id = :id")
        found: list[tuple[str, str]] = []

        def rests() -> bool:
            with fleet.engine.connect() as connection:
                row = connection.execute(query, {"id": mail_id}).one()
            found[:] = [(str(row.state), str(row.reason or ""))]
            return row.state in {"sent", "held"} or (row.state == "queued" and bool(row.reason))

        wait_until(rests, 20, lambda: str(found))
        return found[0]


def merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """*one*, where *other* says nothing else."""
    both = dict(one)
    for name, value in other.items():
        known = both.get(name)
        both[name] = merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return both


def mail(**more: Any) -> Mail:
    return Mail(**{"to": "ada@example.net", "subject": "Hi", "text": "Hello", "mark": "m17", **more})


# What is at work where it is not switched off.


def delivers(site: Site) -> bool:
    return site.received() is not None


def keeps_dry_by_subject(site: Site) -> bool:
    return site.received(subject="[DRYRUN] Hi") is None


def has_header(name: str) -> Callable[[Site], bool]:
    def works(site: Site) -> bool:
        receipt = site.received()
        assert receipt is not None
        return name in message_from_bytes(receipt.message)

    return works


def limits_messages(site: Site) -> bool:
    """One more than the preset allows."""
    with site.fleet() as fleet:
        mailer = fleet.mailer("billing")
        found = [site.rest(fleet, mail_id) for mail_id in mailer.emit_many([mail() for _ in range(31)])]
    assert [state for state, _ in found].count("sent") >= 30
    return any(reason.startswith("limit: account messages") for _, reason in found)


def goes_through_the_proxy(site: Site) -> bool:
    with SocksServer({"127.0.0.1": ("127.0.0.1", site.server.port)}) as proxy:
        own = {"accounts": {"default": {"proxy": f"socks5://127.0.0.1:{proxy.port}"}, "other": {}}}
        site.settings = merged(
            merged(own, {"apps": {"billing": {"accounts": ["default", "other"]}}}), site.settings
        )
        assert site.received(account="other") is not None
        return bool(proxy.asked)


def sends_for_others(site: Site) -> bool:
    query = text("SELECT w.app FROM mailfleet_mail_attempt a JOIN mailfleet_worker w ON w.id = a.worker_id")
    with site.fleet("news") as fleet:
        fleet.mailer("billing").send(mail(apps="*"), 20)
        with fleet.engine.connect() as connection:
            return str(connection.execute(query).scalar_one()) == "news"


def loads_modules(site: Site) -> bool:
    (site.directory / "switched_hook.py").write_text(HOOK)
    site.monkeypatch.syspath_prepend(str(site.directory))
    try:
        assert site.received() is not None
        module = sys.modules.get("switched_hook")
        return module is not None and [one.verdict for one in module.HEARD] == ["accepted"]
    finally:
        registry.forget()
        sys.modules.pop("switched_hook", None)


def has_tenants(site: Site, fleet: Embedded) -> bool:
    state, reason = site.rest(fleet, fleet.mailer("billing").emit(mail(account="tenant-a")))
    assert state == "sent" or reason == "unknown account 'tenant-a'"
    return state == "sent"


def asks_loaders(site: Site) -> bool:
    about = site.directory / "switched-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: switched\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[mailfleet.accounts]\ntenants = switched_loader:load\n")
    (site.directory / "switched_loader.py").write_text(LOADER.format(port=site.server.port))
    site.monkeypatch.syspath_prepend(str(site.directory))
    try:
        with site.fleet() as fleet:
            works = has_tenants(site, fleet)
        assert ("switched_loader" in sys.modules) is works, "it must not be loaded to be left alone"
        return works
    finally:
        sys.modules.pop("switched_loader", None)


def uses_stored_accounts(site: Site) -> bool:
    with site.fleet() as fleet:
        given = {"host": "127.0.0.1", "port": site.server.port, "tls": "plain"}
        store(fleet.engine, fleet._settings, "tenant-a", given)
        return has_tenants(site, fleet)


def tells_endpoints(site: Site) -> bool:
    endpoint = Endpoint()
    if "webhooks" in site.settings:
        site.settings = merged(site.settings, {"webhooks": {"shop": {"url": endpoint.url}}})
    try:
        with site.fleet() as fleet:
            assert isinstance(fleet.mailer("billing").send(mail(), 20), Sent)
            with fleet.engine.connect() as connection:
                events = connection.execute(text("SELECT count(*) FROM mailfleet_webhook_event")).scalar_one()
            wait_until(lambda: len(endpoint.requests) == events, 20, lambda: str(endpoint.events))
            return bool(events)
    finally:
        endpoint.close()


def reads_files(site: Site) -> bool:
    (site.directory / "17.pdf").write_bytes(b"%PDF")
    if "stores" in site.settings:
        site.settings = merged(site.settings, {"stores": {"invoices": {"path": str(site.directory)}}})
    with site.fleet() as fleet:
        wanted = mail(attachments=[Attachment.stored("invoices", "17.pdf")])
        answer = fleet.mailer("billing").post(wanted, 20)
    if isinstance(answer, Failed):
        assert "store invoices is not set up here" in answer.reason
        return False
    (receipt,) = site.store.receipts()
    return b"17.pdf" in receipt.message


def listens(site: Site) -> bool:
    settings = Settings.model_validate(merged(site.base(), site.settings))
    server = HealthServer(settings.pool.listen, lambda: (b"", "text/plain"), lambda: Readiness.of({}))
    try:
        return server.start() is not None
    finally:
        server.stop()


def sends_again_after_doubt(site: Site) -> bool:
    site.cut = 1
    with site.fleet() as fleet:
        mail_id = fleet.mailer("billing").emit(mail())
        # It comes back for the second copy before it is sent.
        wait_until(lambda: site.rest(fleet, mail_id)[0] != "queued", 20, lambda: "it stays queued")
        found = site.rest(fleet, mail_id)
    assert found[0] == "sent" or found == ("held", "doubt")
    assert len(site.store) == (found[0] == "sent")
    return found[0] == "sent"


def keeps_contents(site: Site) -> bool:
    with site.fleet() as fleet:
        assert isinstance(fleet.mailer("billing").send(mail(), 20), Sent)
        with fleet.engine.connect() as connection:
            found = connection.execute(text("SELECT text FROM mailfleet_mail_content")).scalar_one()
    return bool(found == "Hello")


@dataclass(frozen=True, slots=True)
class Switch:
    """`off` as the page has it, with `name` for NAME; `on` where it is no default, `given` in both cases."""

    off: str
    works: Callable[[Site], bool]
    name: str = ""
    on: Mapping[str, Any] = field(default_factory=dict)
    given: Mapping[str, Any] = field(default_factory=dict)

    @property
    def off_settings(self) -> dict[str, Any]:
        if self.off.startswith("no "):
            return {}
        return tomllib.loads(self.off.replace("NAME", self.name))


WEBHOOK = {"webhooks": {"shop": {"secret": "env:WEBHOOK_SECRET"}}}
SWITCHES = (
    Switch('delivery = "dry_run"', delivers),
    Switch("accounts.NAME.dry_run = true", delivers, "default"),
    Switch('outgoing.dry_run_modes = ["test"]', delivers, given={"run_mode": "test"}),
    Switch('accounts.NAME.dry_run_prefix = ""', keeps_dry_by_subject, "default"),
    Switch('outgoing.id_header = ""', has_header("X-Biz-Id")),
    Switch('outgoing.mark_header = ""', has_header("X-Biz-Mark")),
    Switch(
        "accounts.NAME.limits.messages = []",
        limits_messages,
        "default",
        given={"accounts": {"default": {"preset": "m365"}}},
    ),
    Switch('accounts.NAME.proxy = "none"', goes_through_the_proxy, "other"),
    Switch(
        'apps.NAME.accounts = ["default"]',
        uses_stored_accounts,
        "billing",
        on=PATTERNS,
    ),
    Switch("account_loaders = false", asks_loaders, given=PATTERNS),
    Switch("no [stores.NAME]", reads_files, on={"stores": {"invoices": {"apps": ["billing"]}}}),
    Switch(
        "apps.NAME.import = []",
        loads_modules,
        "billing",
        on={"apps": {"billing": {"import": ["switched_hook"]}}},
    ),
    Switch("apps.NAME.shared = false", sends_for_others, "news", on={"apps": {"news": {"shared": True}}}),
    Switch("no [webhooks.NAME]", tells_endpoints, on=WEBHOOK),
    Switch('apps.NAME.on_doubt = "hold"', sends_again_after_doubt, "billing"),
    Switch('apps.NAME.content_policy = "purge"', keeps_contents, "billing"),
    Switch('pool.listen = ""', listens, on={"pool": {"listen": "127.0.0.1:0"}}),
)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    site = Site(tmp_path, monkeypatch)
    with site.server:
        yield site


@pytest.mark.tinymail("58")
@pytest.mark.parametrize("at_work", [True, False], ids=["on", "off"])
@pytest.mark.parametrize("switch", SWITCHES, ids=lambda switch: switch.off)
def test_off_is_off_and_on_is_on(site: Site, switch: Switch, *, at_work: bool) -> None:
    """What the key switches is at work, or it is not; nothing else is different."""
    site.settings = merged(switch.given, switch.on if at_work else switch.off_settings)
    assert switch.works(site) is at_work


@pytest.mark.tinymail("58")
def test_the_page_has_these() -> None:
    """Every switch of the page is tried here, in its order, and every one that is tried here is on the page."""
    section = re.search(r"(?ms)^## What can be switched off$(.*?)^## ", PAGE.read_text())
    assert section is not None
    shown = re.findall(r"(?m)^\| [^|]+ \| `([^`]+)`[^|]* \| ", section[1])
    assert shown == [switch.off for switch in SWITCHES]

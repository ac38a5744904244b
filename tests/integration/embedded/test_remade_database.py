"""The embedded mode after somebody has deleted its database and left the journals in its folder."""

from pathlib import Path

from sqlalchemy import make_url

from mailfleet_schema import migrations
from mailfleet_schema.engine import open_engine
from mailfleet_workers.embedded import Embedded
from mailfleet_workers.settings import Settings
from tests.integration.workers.office import Office
from tests.integration.workers.test_foreign_journal import aside, claimed, killed, make_anew
from tests.waiting import wait_until


def test_old_journals_end_no_new_mail(tmp_path: Path) -> None:
    """A killed worker's journal calls mail 1 sent; mail 1 of the new database is in doubt, and mail 3 is really sent."""
    engine = open_engine(make_url(f"sqlite:///{tmp_path / 'mailfleet.db'}"))
    migrations.upgrade(engine)
    old = Office(engine, tmp_path)
    claimed(old)
    killed(old)
    make_anew(engine)
    new = Office(engine, tmp_path / "elsewhere")
    mails = claimed(new)
    new.journal.close()
    settings = Settings.model_validate(
        {
            "data_dir": tmp_path,
            "timing": {"reconcile_s": 0.2, "drain_s": 5.0},
            "accounts": {"default": {"from": "us@example.net"}},
        }
    )
    with Embedded(settings, apps=["billing"]) as fleet:
        recovered = fleet.recovered
        wait_until(lambda: new.state(mails[2]) == "sent", 10, lambda: str(new.states(mails)))
        assert len(fleet.catcher.store) == 1
    assert (new.worker_id, recovered.settled, recovered.doubt, recovered.queued) == (old.worker_id, 0, 2, 1)
    assert new.states(mails[:2]) == ["held: doubt"] * 2
    assert aside(tmp_path / "journal", old.worker_id)
    engine.dispose()

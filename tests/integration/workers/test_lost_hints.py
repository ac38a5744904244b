"""What a broker has lost, and a database that does not answer just then."""

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update
from sqlalchemy.exc import OperationalError

from mailfleet_workers.reconciler import Pass
from tests.integration.workers.faults import failing_statement
from tests.integration.workers.office import APP, Office


def test_a_loss_that_cannot_be_looked_at_is_not_forgotten(office: Office) -> None:
    """A look that fails is made up for by the next pass, which comes in its own time and not at once."""
    mail = office.emit("ada@example.net")
    with office.engine.begin() as connection:
        later = datetime.now(UTC) + timedelta(hours=1)
        connection.execute(update(office.tables.mail).values(look_at=later))
    reconciler = office.reconciler()
    reconciler.look_now([APP])
    reconciler._wake.clear()
    with (
        failing_statement(office.engine, "AS m SET look_at") as fault,
        pytest.raises(OperationalError, match="injected"),
    ):
        reconciler.run_once()
    assert fault.struck == 1
    assert not reconciler._wake.is_set()
    assert reconciler.run_once() == Pass(hinted=1)
    assert [notice.mail_id for notice in office.notices] == [mail]

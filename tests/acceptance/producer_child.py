"""An application that is killed around a COMMIT, for tests: `python -m tests.acceptance.producer_child PLAN`.

PLAN is JSON: subjects, and `at`: where it kills itself. `before_commit` and `after_commit` are the instants beside the
COMMIT itself; anything else is a failpoint of the publisher. Each subject gets a transaction; before its COMMIT one line
`subject id` is printed, and `committed` after it.
"""

import json
import os
import signal
import sys

from sqlalchemy import create_engine, event
from sqlalchemy.orm import Session

from mailfleet import Mail, Mailer, failpoints

APP = "billing"


def die(*_: object) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def main(subjects: list[str], at: str) -> None:
    engine = create_engine(os.environ["MAILFLEET_DATABASE_URL"])
    mailer = Mailer.from_env(APP)
    if at not in {"before_commit", "after_commit"}:
        failpoints.arm(at, die)
    for number, subject in enumerate(subjects):
        with Session(engine) as session:
            if number == len(subjects) - 1 and at in {"before_commit", "after_commit"}:
                # Before the mailer's own listener, which would hand the ids over.
                event.listen(session, at, die)
            mail_id = mailer.emit(
                Mail(to=["ada@example.net"], subject=subject, text="Hello"), session=session
            )
            print(json.dumps([subject, mail_id]), flush=True)
            session.commit()
            print(json.dumps("committed"), flush=True)
    mailer.close()


if __name__ == "__main__":
    plan = json.loads(sys.argv[1])
    main(plan["subjects"], plan["at"])

"""A module that an app's workers load (`apps.NAME.import`): a tenth of the mails come late to the server.

Between the grant of their permits and their MAIL pass 50 to 500 ms, as they do in a process that has to wait for a
processor, for memory or for the network. Whoever counts a permit at its grant alone sends too much then.
"""

import random
import time
from typing import Any

from mailfleet_workers.courier import Courier
from mailfleet_workers.parcel import Parcel
from mailfleet_workers.smtp.base import Answer

PART = 0.1
LEAST_S, MOST_S = 0.05, 0.5

_converse = Courier._converse
_rng = random.Random()


def converse(courier: Courier, parcel: Parcel, *rest: Any) -> Answer:
    """The product's, for one in ten after a while."""
    if _rng.random() < PART:
        time.sleep(_rng.uniform(LEAST_S, MOST_S))
    return _converse(courier, parcel, *rest)


Courier._converse = converse  # type: ignore[method-assign, assignment]

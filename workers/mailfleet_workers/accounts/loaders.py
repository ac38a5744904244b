"""Accounts that an application's code knows: entry points of the group `mailfleet.accounts`, each a `load(name)`.

```toml
[project.entry-points."mailfleet.accounts"]
tenants = "crm.mail_accounts:load"
```
`load` is given an account's name and returns a mapping with the keys of `[accounts.NAME]`, secrets as references, or None for a name that
it does not know. It is asked again every few seconds for the accounts in use, by one thread at a time, and may raise or hang: then what
it said before stays, and mail of accounts of which it has not spoken yet waits.
"""

import copy
import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from mailfleet_workers.contained import Containment, Overdue, Raised, Returned

log = logging.getLogger(__name__)

GROUP = "mailfleet.accounts"
#: A loader may take so long, in seconds: every process has to hear of changed limits within `seeding.HEARD_S`.
ANSWER_S = 2.0
#: One that hung is not asked again for so long, in seconds.
REST_S = 30.0

Load = Callable[[str], Mapping[str, Any] | None]


@dataclass(frozen=True, slots=True)
class NoAnswer:
    """A loader raised, hung, or could not be imported; *why* shows nothing that it said."""

    why: str


class Loader:
    """One entry point's function, contained. *import_it* returns it, and is called with the first question.

    *clock* is monotonic, in seconds. Thread-safe.
    """

    def __init__(
        self,
        name: str,
        import_it: Callable[[], Load],
        *,
        clock: Callable[[], float],
        answer_s: float = ANSWER_S,
        rest_s: float = REST_S,
    ) -> None:
        self.name = name
        self._import_it = import_it
        self._load: Load | None = None
        self._clock = clock
        self._answer_s = answer_s
        self._rest_s = rest_s
        self._containment = Containment(f"mailfleet-accounts-{name}")
        self._lock = threading.Lock()
        self._rests_until = 0.0
        self._hung = NoAnswer("")
        self._complained = ""

    @property
    def origin(self) -> str:
        """Who gave an account, in words."""
        return f"loader {self.name}"

    def ask(self, name: str) -> Mapping[str, Any] | NoAnswer | None:
        """What it says of account *name*; None when it does not know it. Takes `answer_s` at most, once it is its turn."""
        with self._lock:
            if self._clock() < self._rests_until:
                return self._hung
            match self._containment.run(lambda: self._call(name), self._answer_s):
                case Returned(value):
                    self._complained = ""
                    return value
                case Raised(error):
                    # Its text may hold anything, a password even.
                    return self._complain(NoAnswer(f"{self.origin} raised {type(error).__name__}"))
                case Overdue():
                    self._rests_until = self._clock() + self._rest_s
                    self._hung = NoAnswer(f"{self.origin} did not answer within {self._answer_s:g} s")
                    return self._complain(self._hung)

    def _call(self, name: str) -> Mapping[str, Any] | None:
        if self._load is None:
            self._load = self._import_it()
        # The application may go on to change what it returned.
        return copy.deepcopy(self._load(name))

    def _complain(self, answer: NoAnswer) -> NoAnswer:
        if answer.why != self._complained:
            self._complained = answer.why
            log.error("account_loader_failed", extra={"loader": self.name, "error": answer.why})
        return answer

    def close(self) -> None:
        """End the threads that wait for work."""
        self._containment.close()


def installed(clock: Callable[[], float], *, asked: bool) -> Sequence[Loader]:
    """The loaders of this installation, in the order of their names; none where the settings want none *asked*."""
    if not asked:
        return ()
    found: dict[str, EntryPoint] = {point.name: point for point in entry_points(group=GROUP)}
    return [Loader(name, found[name].load, clock=clock) for name in sorted(found)]

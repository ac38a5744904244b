"""The stores of attachments as workers have them: who may read which, for how long, and what of it is believed.

Every read runs in a thread of its own: the network behind a directory may hang, and a function is the application's. A store
that did not come back is left alone for a moment, so that not every mail of a chunk waits for it.
"""

import io
import logging
import time
from collections.abc import Callable, Collection, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import TypeAlias, assert_never

from mailfleet.errors import SettingsError
from mailfleet.stores import (
    Answer,
    Away,
    Directory,
    InvalidKey,
    Missing,
    Open,
    Refused,
    check_key,
    read_at_most,
    store_of,
)
from mailfleet.validation.attachments import Shelves
from mailfleet_schema.content import StoredRef
from mailfleet_workers.contained import Containment, Overdue, Raised, Returned
from mailfleet_workers.settings.problems import NOT_SHOWN
from mailfleet_workers.settings.stores import DIRECTORY, REGISTERED, StoreSettings

log = logging.getLogger(__name__)

#: The entry points of installed packages; each is called with `location` and gives what opens a key.
GROUP = "mailfleet.stores"
#: A store that did not answer in time is not asked again for so long, in seconds.
LEFT_ALONE_S = 5.0

#: Reads the file of a ref for an app, so many bytes at most.
ReadStored: TypeAlias = Callable[[str, StoredRef, int], Answer]


def no_stores(_app: str, _ref: StoredRef, _most: int) -> Answer:
    """What a worker without stores says."""
    return Missing("is not set up here")


class Stores:
    """The stores of *settings* for workers of *apps*. Thread-safe.

    Raises SettingsError where an app's store is of a kind that nothing installed offers, or that cannot be set up.
    """

    def __init__(
        self,
        settings: Mapping[str, StoreSettings],
        apps: Collection[str],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._clock = clock
        self._containment = Containment("mailfleet-store")
        self._left_alone: dict[str, float] = {}
        used = {name: one for name, one in settings.items() if set(apps) & set(one.apps)}
        self._opens = {
            name: _offered(name, one) for name, one in used.items() if one.kind not in {DIRECTORY, REGISTERED}
        }

    def __call__(self, app: str, ref: StoredRef, most: int) -> Answer:
        """What *ref*'s store says, within its `timeout_s`; never raises."""
        store = self._settings.get(ref.store)
        if store is None:
            return no_stores(app, ref, most)
        if app not in store.apps:
            return Refused("is not for this app")
        try:
            key = check_key(ref.key)
        except InvalidKey as error:
            # A row that another language wrote.
            return Refused(f"is asked for a key that {error}")
        read = self._read_of(app, ref.store, store)
        if read is None:
            return Missing("is registered by no module of the app")
        if self._clock() < self._left_alone.get(ref.store, 0.0):
            return Away("did not answer a moment ago")
        outcome = self._containment.run(lambda: read(key, most), store.timeout_s)
        match outcome:
            case Returned(answer):
                return answer
            case Raised():
                kind = type(outcome.error).__name__
                log.warning("store_failed", extra={"app": app, "store": ref.store, "error": kind})
                return Away(f"failed ({kind})")
            case Overdue(after_s):
                self._left_alone[ref.store] = self._clock() + LEFT_ALONE_S
                log.warning("store_failed", extra={"app": app, "store": ref.store, "error": "timeout"})
                return Away("hangs" if after_s is None else f"did not answer within {after_s:g} s")
            case _:
                assert_never(outcome)

    def close(self) -> None:
        """End the threads that wait for work."""
        self._containment.close()

    def _read_of(self, app: str, name: str, store: StoreSettings) -> Callable[[str, int], Answer] | None:
        if store.kind == DIRECTORY:
            return Directory(Path(store.path or "")).read
        opens = self._opens.get(name) if store.kind != REGISTERED else store_of(app, name)
        return None if opens is None else lambda key, most: _opened(opens, key, most)


def shelves_of(settings: Mapping[str, StoreSettings], app: str) -> Shelves:
    """What a mailer of *app* in this process reads itself, when a mail is emitted."""
    return {
        name: Directory(Path(one.path or "")) if app in one.apps else None
        for name, one in settings.items()
        if app not in one.apps or one.kind == DIRECTORY
    }


def _opened(opens: Open, key: str, most: int) -> Answer:
    source = opens(key)
    if source is None:
        return Missing("has no such key")
    with io.BytesIO(source) if isinstance(source, bytes) else source as file:
        return read_at_most(file, most)


def _offered(name: str, store: StoreSettings) -> Open:
    found = list(entry_points(group=GROUP, name=store.kind))
    if len(found) != 1:
        offered = ", ".join(sorted({one.name for one in entry_points(group=GROUP)})) or "nothing"
        expected = f"{DIRECTORY}, {REGISTERED} or one of what is installed ({offered})"
        raise SettingsError(f"stores.{name}.kind", expected, store.kind)
    try:
        opens: Open = found[0].load()(store.location)
    except Exception as error:
        # Its text may hold what the location says.
        expected = f"a location that {store.kind} takes ({type(error).__name__})"
        raise SettingsError(f"stores.{name}.location", expected, NOT_SHOWN) from error
    return opens

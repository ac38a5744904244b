"""A store that is a function of an application's module, which only that app's workers import.

```python
from mailfleet.stores import store

@store("scans")
def scans(key):
    found = bucket.find(key)
    return None if found is None else found.open()
```
It gets a checked key and answers with a binary file, bytes, or None where there is nothing. What it raises is taken to pass. It
is called in a thread of its own, and not waited for longer than its `timeout_s`.
"""

import threading
from collections.abc import Callable
from typing import BinaryIO, TypeAlias, TypeVar

from mailfleet.registry import registering_app
from mailfleet_schema.names import check_name

#: Opens what stands under a key; None is nothing.
Open: TypeAlias = Callable[[str], "BinaryIO | bytes | None"]

S = TypeVar("S", bound=Open)

_lock = threading.Lock()
_stores: dict[tuple[str | None, str], Open] = {}


def store(name: str) -> Callable[[S], S]:
    """Register a function as the store *name*; a module that is loaded again registers it again. Raises ValueError."""
    check_name("store", name)

    def register(opens: S) -> S:
        with _lock:
            _stores[registering_app(), name] = opens
        return opens

    return register


def store_of(app: str, name: str) -> Open | None:
    """The function *name* for mails of *app*: its own before one of everybody; None if there is none."""
    with _lock:
        return _stores.get((app, name)) or _stores.get((None, name))


def forget() -> None:
    """As if nothing had been registered. For tests."""
    with _lock:
        _stores.clear()

"""Where attachments come from by a name and a key: what a store answers, and which keys there may be.

Applications, requests and other languages name a store and a key, never a path or an address; what a name stands for is said
in the settings (`[stores.NAME]`) by whoever runs mailfleet.
"""

from mailfleet.stores.answer import Answer, Away, Found, Missing, Refused, read_at_most
from mailfleet.stores.directory import Directory
from mailfleet.stores.key import InvalidKey, check_key
from mailfleet.stores.registered import Open, store, store_of

__all__ = [
    "Answer",
    "Away",
    "Directory",
    "Found",
    "InvalidKey",
    "Missing",
    "Open",
    "Refused",
    "check_key",
    "read_at_most",
    "store",
    "store_of",
]

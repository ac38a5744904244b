"""A mail's content as the bytes that go over the wire, and the proof that they say what was meant.

`build` writes a message and has `check` read it back; whatever would be read differently is a `MimeMismatch`, and no
message.
"""

from mailfleet_workers.mime.check import MimeMismatch, check
from mailfleet_workers.mime.message import build

__all__ = ["MimeMismatch", "build", "check"]

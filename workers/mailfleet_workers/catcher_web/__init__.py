"""The catcher as a service with web pages: what applications sent, for people to look at and for tests to ask.

`CatchService` holds all of it together. It is a developer's tool: nobody logs in, so it listens on loopback unless told
otherwise, and whoever reaches it reads every mail. What it shows comes from strangers: every value is escaped, and a
mail's HTML runs in a frame without scripts, forms and foreign content.
"""

from mailfleet_workers.catcher_web.listen import Listen
from mailfleet_workers.catcher_web.service import AddressTaken, CatchService, DirectoryTaken

__all__ = ["AddressTaken", "CatchService", "DirectoryTaken", "Listen"]

"""A whole fleet on private services for tests: a database, a virtual host, a catching server, `mailfleet worker`."""

from tests.stage.parent import Parent
from tests.stage.stage import Stage

__all__ = ["Parent", "Stage"]

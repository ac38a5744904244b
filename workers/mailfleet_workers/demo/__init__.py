"""`mailfleet demo`: three applications, 300 mails, servers that answer like real ones, and where every mail ended."""

from mailfleet_workers.demo.run import run

__all__ = ["run"]

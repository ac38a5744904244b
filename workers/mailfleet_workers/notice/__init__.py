"""Mail without a database: what says that the database is down.

What it promises, and what it does not, stands in `mailfleet_workers.notice.notice` and in `docs/notice.md`.
"""

from mailfleet.results import Invalid, Reply
from mailfleet_workers.notice.async_notice import AsyncNotice
from mailfleet_workers.notice.notice import Notice
from mailfleet_workers.notice.results import (
    Dropped,
    Failed,
    NoticeNotSent,
    NotYet,
    Result,
    Sent,
    Uncertain,
)

__all__ = [
    "AsyncNotice",
    "Dropped",
    "Failed",
    "Invalid",
    "NotYet",
    "Notice",
    "NoticeNotSent",
    "Reply",
    "Result",
    "Sent",
    "Uncertain",
]

"""What the rows say, read-only: the answers behind `list`, `show`, `why` and `status`, free of any screen.

Each function takes a SQLAlchemy Connection of either dialect, asks one to four short statements, and returns frozen
values; `as_json` makes them plain. Nothing here writes, locks or waits, so all of it works beside running
workers. Every search ends: by its limit, by an index, or by a page of the newest rows.
"""

from mailfleet_workers.views.detail import Body, MailDetail, body_of, show_mail
from mailfleet_workers.views.filter import Filter, InvalidSearch
from mailfleet_workers.views.mails import Found, MailLine, Page, mails_of, page_of_mails, search_mails
from mailfleet_workers.views.status import Status, status
from mailfleet_workers.views.waits import GateStatus, Waits, list_waits
from mailfleet_workers.views.why import Why, why

__all__ = [
    "Body",
    "Filter",
    "Found",
    "GateStatus",
    "InvalidSearch",
    "MailDetail",
    "MailLine",
    "Page",
    "Status",
    "Waits",
    "Why",
    "body_of",
    "list_waits",
    "mails_of",
    "page_of_mails",
    "search_mails",
    "show_mail",
    "status",
    "why",
]

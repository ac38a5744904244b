"""Says once that more mail is due than it should be, and once that it is over."""

import logging

from sqlalchemy import Connection

from mailfleet_schema.statements import reconcile

log = logging.getLogger(__name__)

#: As many due mails that nobody has taken are nothing to worry about; TinyMail's warn-size.
WARN_BACKLOG = 50
#: So many times as many queued mails are looked at: the cost of a look is in this, not in the backlog.
_JUDGED = 20


class Backlog:
    """The due mail of *app* that nobody has taken: too much when it is more than *most*, over at half of that."""

    def __init__(self, app: str, most: int) -> None:
        self._app = app
        self._most = most
        self._warned = False

    @property
    def warned(self) -> bool:
        """Whether it is too much."""
        return self._warned

    def look(self, connection: Connection) -> None:
        """Count, up to a bound, and say what is news."""
        mails = reconcile.due(connection, self._app, judged=_JUDGED * (self._most + 1))
        if not self._warned and mails > self._most:
            self._warned = True
            # `mails` is at least so many: no more were counted.
            log.warning("backlog", extra={"app": self._app, "mails": mails, "most": self._most})
        elif self._warned and mails <= self._most // 2:
            self._warned = False
            log.info("backlog_over", extra={"app": self._app, "mails": mails})

"""The renderer `jinja2`: a stored template, filled in with the mail's data by a template process."""

import threading
from collections.abc import Callable
from typing import Any, assert_never

from mailfleet.lazy_parameter import WrongParameter, template_wish
from mailfleet.mail import JSON
from mailfleet.registry import Rendered
from mailfleet.validation.limits import DEFAULT_LIMITS
from mailfleet_schema.reasons import RENDER
from mailfleet_schema.statements.mail_template import MailTemplate
from mailfleet_workers.rendering.made import NotNow
from mailfleet_workers.template.processes import AtFault, Busy, Failed, Filled, TemplateProcesses
from mailfleet_workers.verdict import Retry, Stop

#: Finds a template: its app, name, and version (None: the newest). Raises SQLAlchemyError.
Find = Callable[[str, str, int | None], MailTemplate | None]

#: Where all processes were at work for long, a mail asks again after so many seconds.
BUSY_S = 10.0


class Templates:
    """Thread-safe; it owns *processes*."""

    def __init__(self, find: Find, processes: TemplateProcesses) -> None:
        self._find = find
        self._processes = processes

    def render(
        self, app: str, parameter: JSON, *, urgent: bool, timeout_s: float, stop: threading.Event
    ) -> Rendered | Stop | Retry | NotNow:
        """What the template that *parameter* names makes of its data. Raises SQLAlchemyError."""
        try:
            wish = template_wish(parameter)
        except WrongParameter as error:
            return Stop(f"parameter: {error}", kind=RENDER)
        found = self._find(app, wish.template, wish.version)
        if found is None:
            which = "" if wish.version is None else f" version {wish.version}"
            return Stop(f"there is no template {wish.template!r}{which}", kind=RENDER)
        named = f"template {found.name!r} version {found.version}"
        sources = {"subject": found.subject or None, "text": found.text, "html": found.html}
        answer = self._processes.fill(
            sources,
            _plain(wish.data),
            most=DEFAULT_LIMITS.html,
            urgent=urgent,
            timeout_s=timeout_s,
            stop=stop,
        )
        match answer:
            case Filled(parts=parts):
                subject = parts["subject"]
                return Rendered(None if subject is None else subject.strip(), parts["text"], parts["html"])
            case AtFault(reason=reason):
                return Stop(f"{named}: {reason}", kind=RENDER)
            case Failed(reason=reason):
                return Retry(f"render: {named}: {reason}")
            case Busy():
                return (
                    NotNow(None)
                    if stop.is_set()
                    else NotNow("render: all template processes are busy", BUSY_S)
                )
            case _:
                assert_never(answer)

    def close(self) -> None:
        """End the processes."""
        self._processes.close()


def _plain(data: Any) -> dict[str, Any]:
    return dict(data)

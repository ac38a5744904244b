"""One lazy mail, rendered: by the function that its app registered, within a time limit, or by a stored template.

Nothing that a renderer says of its mail gets into a row or a log: an exception is known by its type's name. `CannotRender` is
the exception: its text is meant for people.
"""

import logging
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import assert_never

from mailfleet.errors import InvalidMail, SettingsError
from mailfleet.lazy_parameter import WrongParameter, check_parameter
from mailfleet.registry import TEMPLATES, CannotRender, Registered, Rendered, renderer_of
from mailfleet.worker_thread import mark_worker_thread
from mailfleet_schema.reasons import RENDER
from mailfleet_schema.statements.content import StoredContent
from mailfleet_schema.states import Priority
from mailfleet_workers.contained import Containment, Overdue, Raised, Returned
from mailfleet_workers.outcome import cut
from mailfleet_workers.rendering.made import Made, NotNow, Rendering
from mailfleet_workers.rendering.templates import Templates
from mailfleet_workers.verdict import Retry, Stop

log = logging.getLogger(__name__)

#: Where too many renderers hang, a lazy mail asks again after so many seconds.
HANGING_S = 60.0
#: The setting's default.
TIMEOUT_S = 30.0


class Renderers:
    """What renders the lazy mails of a pool; thread-safe. *templates* None: this pool has none.

    *stop* asks for a drain: a rendering that takes long is given up then, and begins anew elsewhere.
    """

    def __init__(
        self,
        templates: Templates | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        stop: threading.Event | None = None,
        containment: Containment | None = None,
    ) -> None:
        self._templates = templates
        self._timeout_s = timeout_s
        self._stop = stop or threading.Event()
        self._containment = containment or Containment("mailfleet-renderer")

    def render(self, app: str, priority: Priority, stored: StoredContent) -> Rendering:
        """Render the content of a mail of *app*. Raises SQLAlchemyError where a template cannot be read."""
        name = stored.renderer or ""
        if name == TEMPLATES:
            if self._templates is None:
                return Stop("this worker has no templates", kind=RENDER)
            made = self._templates.render(
                app,
                stored.parameter,
                urgent=priority is Priority.HIGH,
                timeout_s=self._timeout_s,
                stop=self._stop,
            )
        else:
            registered = renderer_of(app, name)
            if registered is None:
                return Stop(f"no renderer {name!r} is registered", kind=RENDER)
            made = self._call(registered, stored)
        if not isinstance(made, Rendered):
            return made
        try:
            return Made.of(made, stored.content)
        except InvalidMail as error:
            where = "" if error.field == "result" else f"{error.field}: "
            return Stop(f"result: {where}{error.reason}", kind=RENDER)

    def _call(self, registered: Registered, stored: StoredContent) -> Rendered | Stop | Retry | NotNow:
        outcome = self._containment.run(_calling(registered, stored), self._timeout_s, stop=self._stop)
        match outcome:
            case Returned():
                made = outcome.value
                if isinstance(made, Rendered):
                    return made
                return Stop(f"result: expected Rendered, got {type(made).__name__}", kind=RENDER)
            case Raised():
                return _judged(registered, stored.mail_id, outcome.error)
            case Overdue(after_s=None):
                log.error("renderers_hang", extra={"mail_id": stored.mail_id, "renderer": registered.name})
                return NotNow("render: too many renderers hang", HANGING_S)
            case Overdue():
                if self._stop.is_set():
                    return NotNow(None)
                log.error("renderer_overdue", extra={"mail_id": stored.mail_id, "renderer": registered.name})
                return Retry(f"render: not done within {self._timeout_s:g} s")
            case _:
                assert_never(outcome)

    def close(self) -> None:
        """End what waits for work."""
        self._containment.close()
        if self._templates is not None:
            self._templates.close()


def _calling(registered: Registered, stored: StoredContent) -> Callable[[], object]:
    def call() -> object:
        # A renderer that waits for a mail of its own would wait for this thread.
        mark_worker_thread()
        check_parameter(registered, stored.parameter)
        return registered.render(stored.parameter)

    return call


def _judged(registered: Registered, mail_id: int, error: BaseException) -> Stop | Retry:
    kind = type(error).__name__
    match error:
        case WrongParameter():
            return Stop(f"parameter: {_said(error)}", kind=RENDER)
        case SettingsError():
            return Stop(_said(error), kind=RENDER)
        case CannotRender():
            said = _said(error)
            return Stop(f"{kind}: {said}" if said else kind, kind=RENDER)
        case _:
            # Without its text: it may hold what the mail says.
            log.error(
                "render_failed",
                extra={
                    "mail_id": mail_id,
                    "renderer": registered.name,
                    "error": kind,
                    "where": _where(error),
                },
            )
            return Retry(f"render: {kind}")


def _where(error: BaseException) -> str:
    """The file and line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"


def _said(error: BaseException) -> str:
    try:
        return cut(" ".join(str(error).split()))
    except Exception:  # noqa: BLE001 - an exception whose text raises
        return ""

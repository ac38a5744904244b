"""What an application's module registers for its workers: renderers of lazy mail, and hooks that hear of every attempt.

```python
from mailfleet import CannotRender, Rendered, on_attempt, renderer

@renderer("invoice")
def invoice(parameter):
    found = load(parameter["number"])
    if found is None:
        raise CannotRender("there is no such invoice")
    return Rendered(subject=f"Invoice {found.number}", text=found.letter)

@on_attempt
def note(attempt):
    if attempt.verdict == "stop":
        mark_undeliverable(attempt.ref)
```
The module is named in `apps.NAME.import`; that app's workers import it, and nothing is ever imported by a name that stands in
a mail. Registering does nothing else, so the application may import the module too.
"""

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypeVar

from mailfleet.mail import JSON, Attachment

Verdict = Literal["accepted", "stop", "wait", "retry", "uncertain"]


class CannotRender(Exception):  # noqa: N818 - reads as the fact it states
    """Raised by a renderer: this mail can never be rendered. Any other exception is taken to pass, and tried again."""


@dataclass(frozen=True, slots=True)
class Rendered:
    """What a renderer made. None keeps what the mail has; at least a text or HTML body must be there in the end.

    `attachments` and `inline` come in place of the mail's own, if they are not None.
    """

    subject: str | None = None
    text: str | None = field(default=None, repr=False)
    html: str | None = field(default=None, repr=False)
    attachments: Sequence[Attachment] | None = None
    inline: Sequence[Attachment] | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """One try to send a mail, as a hook hears of it, before its result is written.

    `state` is where the mail goes unless a hook stops it: "sent", "queued" (again at `due_in_s` from now), "failed" or "doubt".
    `reason` is why, as the row will have it. `cost_ms` is 0 where no server was spoken to. `code` and `text` are the server's
    reply to this attempt, None if it said nothing. `fails` and `copies` are the mail's counts, this attempt among them; `at` is when
    the hooks are called (aware, UTC). `mark` and `ref` (type, key1, key2) are what the application gave the mail.
    """

    mail_id: int
    app: str
    account: str
    priority: str
    verdict: Verdict
    state: str
    reason: str | None
    code: int | None
    text: str | None
    cost_ms: int
    dry_run: bool
    due_in_s: float | None
    fails: int
    copies: int
    at: datetime
    mark: str | None = None
    ref: tuple[str | None, str | None, str | None] = (None, None, None)


Renderer: TypeAlias = Callable[[Any], Rendered]
#: True (exactly) stops the mail: it is not tried again, and no further copy is sent. One in doubt is not to be stopped.
Hook: TypeAlias = Callable[[Attempt], object]
#: Raises ValueError for a parameter that the renderer does not take.
Check: TypeAlias = Callable[[JSON], object]

#: mailfleet's own renderer, of templates that are stored in the database (`docs/lazy-mail.md`).
TEMPLATES = "jinja2"

R = TypeVar("R", bound=Renderer)
H = TypeVar("H", bound=Hook)


@dataclass(frozen=True, slots=True)
class Registered:
    """A renderer, with what checks its parameter (`schema` is JSON); `app` None is for every app of the process."""

    name: str
    render: Renderer
    check: Check | None
    app: str | None
    schema: str | None = None


_lock = threading.Lock()
_renderers: dict[tuple[str | None, str], Registered] = {}
_hooks: list[tuple[str | None, Hook]] = []
_loading: ContextVar[str | None] = ContextVar("mailfleet_app", default=None)


def renderer(
    name: str, *, schema: Mapping[str, Any] | None = None, check: Check | None = None
) -> Callable[[R], R]:
    """Register a function as the renderer *name*; raises ValueError if another one has the name.

    *schema*, a JSON schema (2020-12 unless it names another draft), and *check* are asked about the parameter when such a
    mail is emitted where the renderer is registered too, and before it is rendered. A schema needs `mailfleet[schema]`
    there; references out of it are not followed.
    """
    from mailfleet.validation.mail import is_renderer_name

    if not is_renderer_name(name):
        raise ValueError(
            f"renderer: expected a letter, then up to 99 letters, digits, _, . and -, got {name!r}"
        )
    if name == TEMPLATES:
        raise ValueError(f"renderer: {name!r} is mailfleet's own")
    stated = None if schema is None else _as_json(name, schema)

    def register(render: R) -> R:
        _put(Registered(name, render, check, _loading.get(), stated))
        return render

    return register


def _as_json(name: str, schema: Mapping[str, Any]) -> str:
    try:
        return json.dumps(dict(schema), allow_nan=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise ValueError(f"renderer {name}: schema: expected a dict of what JSON has: {error}") from error


def _put(one: Registered) -> None:
    with _lock:
        known = _renderers.get((one.app, one.name))
        if known is not None and _place(known.render) != _place(one.render):
            raise ValueError(f"renderer: {one.name!r} is registered by {_place(known.render)} already")
        _renderers[one.app, one.name] = one


def on_attempt(hook: H) -> H:
    """Register *hook*: it is called after every attempt, in the order of registration. True stops the mail.

    It is called in threads of the app's workers, in several at once, and not inside a transaction. It may hear of one attempt
    twice, or not at all when the process is killed; what it raises is logged and counted, and after
    `timing.hook_timeout_s` the mail goes on without it.
    """
    app = _loading.get()
    with _lock:
        # A module that is loaded again registers its hooks again. What was made inside a function has no name of its own.
        place = None if "<" in _place(hook) else _place(hook)
        again = [one for of, one in _hooks if of == app and (one is hook or _place(one) == place)]
        _hooks[:] = [(of, one) for of, one in _hooks if of != app or one not in again]
        _hooks.append((app, hook))
    return hook


def renderer_of(app: str, name: str) -> Registered | None:
    """The renderer *name* for mails of *app*: its own before one of everybody; None if there is none."""
    with _lock:
        return _renderers.get((app, name)) or _renderers.get((None, name))


def hooks_of(app: str) -> Sequence[Hook]:
    """The hooks that hear of mails of *app*, in their order."""
    if not _hooks:
        return ()
    with _lock:
        return [hook for of, hook in _hooks if of in {None, app}]


def names_of(app: str) -> Mapping[str, Registered]:
    """Every renderer that mails of *app* may name."""
    with _lock:
        return {one.name: one for (of, _), one in _renderers.items() if of in {None, app}}


@contextmanager
def registering(app: str) -> Iterator[None]:
    """What is registered inside is *app*'s alone: for a process that loads the modules of several apps."""
    token = _loading.set(app)
    try:
        yield
    finally:
        _loading.reset(token)


def share(app: str, module: str) -> None:
    """What *module*, or one below it, registered for other apps of this process is *app*'s too.

    A module is imported once, however many apps name it. Raises ValueError as `renderer` does.
    """
    with _lock:
        renderers = [one for one in _renderers.values() if one.app is not None and _is_of(one.render, module)]
        hooks = [hook for of, hook in _hooks if of is not None and _is_of(hook, module)]
    for one in renderers:
        _put(replace(one, app=app))
    with registering(app):
        for hook in hooks:
            on_attempt(hook)


def _is_of(function: Callable[..., Any], module: str) -> bool:
    name = getattr(function, "__module__", None) or ""
    return name == module or name.startswith(f"{module}.")


def registering_app() -> str | None:
    """The app whose module is being loaded; None outside of `registering`."""
    return _loading.get()


def forget() -> None:
    """As if nothing had been registered. For tests."""
    with _lock:
        _renderers.clear()
        _hooks.clear()


def _place(function: Callable[..., Any]) -> str:
    return f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', repr(function))}"

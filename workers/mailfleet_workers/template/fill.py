"""A template filled in: Jinja2's sandbox, in which a template reaches nothing but the data that it is given.

No loader, so no file and no other template; unknown names are errors; values in HTML are escaped. The sandbox is no bound
on time and memory: the process around it is. Nothing that is said of an error has a value in it, for values are what mails say.
"""

import traceback
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, UndefinedError, meta
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

#: The parts of a template, in the order in which they are filled in.
PARTS = ("subject", "text", "html")


class Faulty(Exception):  # noqa: N818 - reads as the fact it states
    """The template cannot be filled in with this data: `reason` says why, for people."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@cache
def _environment(part: str) -> ImmutableSandboxedEnvironment:
    found = ImmutableSandboxedEnvironment(
        autoescape=part == "html", undefined=StrictUndefined, keep_trailing_newline=True
    )
    # Random filler has no place in a mail.
    found.globals.pop("lipsum", None)
    return found


@lru_cache(maxsize=64)
def _compiled(part: str, source: str) -> Template:
    try:
        return _environment(part).from_string(source)
    except TemplateSyntaxError as error:
        raise Faulty(f"{part}, line {error.lineno}: {error.message}") from error
    except (MemoryError, Faulty):
        raise
    except Exception as error:
        raise Faulty(f"{part}: {type(error).__name__} while compiling") from error


def compile_parts(sources: Mapping[str, str | None]) -> None:
    """Raises Faulty for the first of *sources*, by part, that is no template."""
    for part in PARTS:
        if (source := sources.get(part)) is not None:
            _compiled(part, source)


def fill(sources: Mapping[str, str | None], data: Mapping[str, Any], most: int) -> dict[str, str | None]:
    """*sources*, by part, filled in with *data*; None stays None. Raises Faulty, also for more than *most* characters of a part."""
    compile_parts(sources)
    return {
        part: None if (source := sources.get(part)) is None else _filled(part, source, data, most)
        for part in PARTS
    }


def _filled(part: str, source: str, data: Mapping[str, Any], most: int) -> str:
    template = _compiled(part, source)
    pieces: list[str] = []
    size = 0
    try:
        for piece in template.generate(dict(data)):
            size += len(piece)
            if size > most:
                raise Faulty(f"{part}: more than {most} characters")
            pieces.append(piece)
    except (MemoryError, Faulty):
        raise
    except Exception as error:
        raise Faulty(f"{part}, line {_line(error)}: {_said(part, source, error)}") from error
    return "".join(pieces)


def _said(part: str, source: str, error: Exception) -> str:
    """What *error* is about, in words of the template only."""
    if isinstance(error, UndefinedError):
        # A name that stands in the template itself; what it looked up in the data may be the data's.
        names = meta.find_undeclared_variables(_environment(part).parse(source))
        missing = next((name for name in sorted(names) if error.message == f"{name!r} is undefined"), None)
        return "a value is undefined" if missing is None else f"{missing!r} is undefined"
    if isinstance(error, SecurityError):
        return "it may not do that (SecurityError)"
    return type(error).__name__


def _line(error: Exception) -> int | str:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if frame.filename == "<template>"]
    return lines[0] or "?" if lines else "?"

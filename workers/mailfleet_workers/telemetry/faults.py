"""An exception as a log may show it: what it is and where it came from, but not what it quotes.

The text of an exception may hold anything: a database's error quotes the row, a decoding error the bytes, a parser its
input. So the text is shown only of exceptions that speak of the program itself.
"""

import traceback
from pathlib import Path

#: What ends the work on one mail and nothing else, wherever it comes from: also what is no Exception, and would end a thread.
UNEXPECTED = (Exception, SystemExit, KeyboardInterrupt, GeneratorExit)

#: Their texts name types, attributes and modules, or what the operating system said.
_PLAIN = (AttributeError, ImportError, NameError, NotImplementedError, OSError, TypeError)
#: So many frames are shown, the innermost ones.
_FRAMES = 12
#: So many causes are shown.
_CAUSES = 4


def describe(error: BaseException) -> dict[str, str]:
    """`error`: its type, with its text where that is harmless; `where`: the frames, innermost last; `because`: what it
    came from, one after the other, if it came from something.
    """
    told = {"error": _name(error), "where": _where(error)}
    causes: list[str] = []
    cause = _cause(error)
    while cause is not None and len(causes) < _CAUSES:
        causes.append(f"{_name(cause)} at {_where(cause)}")
        cause = _cause(cause)
    if causes:
        told["because"] = "; ".join(causes)
    return told


def _cause(error: BaseException) -> BaseException | None:
    return error.__cause__ or (None if error.__suppress_context__ else error.__context__)


def _name(error: BaseException) -> str:
    kind = type(error).__name__
    if isinstance(error, BaseExceptionGroup):
        return f"{kind} of {', '.join(_name(one) for one in error.exceptions[:_CAUSES])}"
    if isinstance(error, OSError) and error.strerror:
        return f"{kind}: {error.strerror}"
    if type(error) in _PLAIN or isinstance(error, ImportError):
        return f"{kind}: {error}"
    return kind


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return (
        " > ".join(f"{_short(frame.filename)}:{frame.lineno} {frame.name}" for frame in frames) or "nowhere"
    )


def _short(filename: str) -> str:
    return "/".join(Path(filename).parts[-2:])

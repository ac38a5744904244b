"""What a token endpoint says, as one of three values: a token, a refusal that asking again does not mend, or nothing for now.

Nothing of an answer's text is kept but its error code: servers repeat what they were sent.
"""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from mailfleet_workers.secret import Secret

#: How long a token is taken to be good whose answer does not say it, in seconds (RFC 6749 5.1 leaves it open).
UNSAID_S = 1800.0
#: No token is taken to be good for longer, in seconds.
MOST_S = 30 * 86400.0

# RFC 6749 appendix A.12 allows a space too, but RFC 6750 2.1 and the 0x01 between the parts of XOAUTH2 do not.
_TOKEN = re.compile(r"[!-~]{1,8192}")
_CODE = re.compile(r"[A-Za-z0-9_.-]{1,60}")
# Microsoft tells its reasons apart by a number only, at the start of a text that is not shown.
_AADSTS = re.compile(r"AADSTS[0-9]{4,9}\b")
#: Errors that pass (RFC 6749 4.1.2.1, RFC 8628 3.5); all others are refusals.
_PASSING = frozenset({"temporarily_unavailable", "server_error", "slow_down"})


@dataclass(frozen=True, slots=True)
class Issued:
    """A token, good for `lifetime_s`; `refresh_token` is the next one where the server changes it with every use."""

    access_token: Secret
    lifetime_s: float
    refresh_token: Secret | None = None


@dataclass(frozen=True, slots=True)
class Refused:
    """No token for these secrets; `why` is an error code (`invalid_grant`), and nothing secret."""

    why: str


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No token for now; where the server said so, in `retry_after_s`."""

    why: str
    retry_after_s: float | None = None


Issue: TypeAlias = Issued | Refused | Unavailable


def read_reply(status: int, body: bytes, retry_after_s: float | None = None) -> Issue:
    """What an HTTP reply with *status* and *body* says. Never raises."""
    if status == 429 or status >= 500:
        return Unavailable(f"status {status}", retry_after_s)
    try:
        document = json.loads(body)
    except (ValueError, RecursionError):
        # Their texts quote the document.
        document = None
    if not isinstance(document, Mapping) or (status >= 300 and "error" not in document):
        return Unavailable(f"status {status}, and no answer of OAuth", retry_after_s)
    return read_document(document)


def read_document(document: Mapping[Any, object]) -> Issue:
    """What the object of RFC 6749 5.1 or 5.2 says. Never raises."""
    if "error" in document:
        code = str(document["error"])
        why = code if _CODE.fullmatch(code) else "an error that is not shown"
        more = _AADSTS.search(str(document.get("error_description", ""))[:200])
        said = f"{why} {more[0]}" if more else why
        return Unavailable(said) if code in _PASSING else Refused(said)
    token, following = document.get("access_token"), document.get("refresh_token")
    if not _is_token(token):
        return Unavailable("an answer without a token")
    return Issued(
        Secret.literal(str(token), key="access_token"),
        _lifetime(document.get("expires_in")),
        Secret.literal(str(following), key="refresh_token") if _is_token(following) else None,
    )


def _is_token(value: object) -> bool:
    return isinstance(value, str) and _TOKEN.fullmatch(value) is not None


def _lifetime(said: object) -> float:
    try:
        seconds = float(said) if isinstance(said, str | int | float) else UNSAID_S
    except (ValueError, OverflowError):
        seconds = UNSAID_S
    return min(seconds, MOST_S) if seconds > 0 and not math.isnan(seconds) else UNSAID_S

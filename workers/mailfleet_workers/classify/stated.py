"""Facts that servers state in the text of a reply: how long to wait, and the name they gave a mail."""

import email.utils
import re
from datetime import UTC, datetime

#: Seconds. A server may be wrong by any amount: two days are still watched, less than a second is a loop.
LEAST, MOST = 1.0, 172_800.0

#: Characters of a reply that are read: some patterns take quadratic time, and a hostile server can send 64 KB.
_READ = 2000

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_UNIT = r"(?:s|secs?|seconds?|m|mins?|minutes?|h|hrs?|hours?|days?)"

#: A number is a wait only after a word that speaks of one: "100 mails in 60 minutes" states a limit.
_DURATION = re.compile(
    rf"""(?: \b(?: again | retry | retries | retrying | resend | wait | back | later | retry-after
              | delay(?:ed)? | defer(?:red)? | gr[ea]y-?list(?:ed|ing)? | blocked | locked | suspended )\b
           [^.;]{{0,30}}? \b(?: in | after | for | within | another | at\ least | wait | retry | :)? [\s:]* )
        \b(?P<count>\d{{1,6}}|an?|one|a\ few|few|several)\s*(?P<unit>{_UNIT})\b""",
    re.VERBOSE | re.IGNORECASE,
)

#: "Too many messages from sender in last 60": the window that is full; without a unit, seconds.
_WINDOW = re.compile(
    rf"""\b(?: in | within | over | during )\ (?: the\ )? (?: last | past )\s+
        (?P<count>\d{{1,6}}|an?|one)?\s*(?P<unit>{_UNIT}\b)?""",
    re.VERBOSE | re.IGNORECASE,
)

#: The same elsewhere: a word that means "after", or "again" not far before a number.
_ELSEWHERE = re.compile(
    r"""(?: \b(?: dans | через ) \s+ | \b(?: erneut | wieder | nochmal\w* | sp(?:ä|ae)ter | warten )\b [^.;]{0,30}? \bin\s+ )
        (?P<count>\d{1,6})\s*
        (?P<unit> secondes? | sekunden? | секунд\w* | minut\w* | минут\w* | heures? | stunden? | час\w* )
      | (?P<digits>\d{1,6})\s*(?P<sign> 秒 | 分 | 小时 | 小時 | 時間 )(?:钟|鐘)?\s*(?:之?后|之?後)""",
    re.VERBOSE | re.IGNORECASE,
)
_FIRST = {"сек": 1, "мин": 60, "час": 3600, "sec": 1, "sek": 1, "min": 60, "heu": 3600, "stu": 3600}
_SIGNS = {"秒": 1, "分": 60}

_MOMENT = re.compile(
    r"""\b(?: after | until | till | at | before )\s+
        (?P<when> (?:[A-Za-z]{3},\s+)? \d{1,2}\s+[A-Za-z]{3}\s+\d{4}\s+\d\d:\d\d:\d\d\s+ (?:[+-]\d{4}|UTC|GMT|Z)
          | \d{4}-\d\d-\d\d[T\ ]\d\d:\d\d(?::\d\d)? (?:\.\d+)? \s? (?:Z|UTC|GMT|[+-]\d\d:?\d\d) )""",
    re.VERBOSE,
)


def stated_wait(text: str, now: datetime) -> float | None:
    """The seconds a reply asks us to wait, at least LEAST and at most MOST; None if it states no time.

    *now* is aware, and is compared with moments such as "after Sun, 05 Oct 2025 19:22:44 UTC"; one that has passed
    states nothing. No margin is added. Only the first 2000 characters are read.
    """
    text = text[:_READ]
    if moment := _MOMENT.search(text):
        left = _seconds_until(moment["when"], now)
        return None if left is None or left <= 0 else min(max(left, LEAST), MOST)
    found = _DURATION.search(text) or _WINDOW.search(text)
    if found is None or not (found["count"] or found["unit"]):
        return _stated_elsewhere(text)
    seconds = _number(found["count"]) * _UNITS[(found["unit"] or "s")[0].lower()]
    return min(max(float(seconds), LEAST), MOST)


def _stated_elsewhere(text: str) -> float | None:
    found = _ELSEWHERE.search(text)
    if found is None:
        return None
    if found["sign"]:
        seconds = int(found["digits"]) * _SIGNS.get(found["sign"], 3600)
    else:
        seconds = int(found["count"]) * _FIRST[found["unit"][:3].lower()]
    return min(max(float(seconds), LEAST), MOST)


def _number(word: str | None) -> int:
    match (word or "one").lower():
        case "a few" | "few" | "several":
            return 5
        case "a" | "an" | "one":
            return 1
        case digits:
            return int(digits)


def _seconds_until(when: str, now: datetime) -> float | None:
    try:
        if when[:4].isdigit():
            iso = re.sub(r"\s?(?:Z|UTC|GMT)\Z", "+00:00", when)
            moment = datetime.fromisoformat(iso)
        else:
            moment = email.utils.parsedate_to_datetime(when)
    except ValueError:
        return None
    if moment.tzinfo is None:
        # "-0000" and "UTC" both come back without a zone.
        moment = moment.replace(tzinfo=UTC)
    return (moment - now).total_seconds()


_QUEUE_IDS = tuple(
    re.compile(pattern, re.IGNORECASE)
    for pattern in (
        r"\bqueued as:? \"?([^\s\"<>()]+)",  # Postfix, SendGrid, NetEase
        r"\bid=([^\s\"<>()]+)",  # Exim
        r"<([^\s<>]+)>.* queued mail for delivery",  # Exchange
        r"\bqueued (?:mail )?on \S+ (?:as )?([^\s\"<>()]+)",  # Yandex
        r"\bqueued \(?(?:as )?([0-9a-z][0-9a-z.-]*[0-9][0-9a-z.-]*)\b",  # Haraka
        r"\bok\s+\d+ ([^\s\"<>()]+) - gsmtp",  # Google
        r"\bok\s+\d+ qp (\d+)",  # qmail
        r"(\S+) message accepted for delivery",  # Sendmail, OpenSMTPD
        r"\A(?:2\.\d+\.\d+ )?ok:? ([0-9a-z-]*[0-9][0-9a-z-]{7,})\Z",  # Amazon SES
    )
)


def queue_id(text: str) -> str | None:
    """The name a server gave the mail in its 250, None if it named none that we can read. At most 128 characters."""
    line = " ".join(text[:_READ].split())
    for pattern in _QUEUE_IDS:
        if found := pattern.search(line):
            return found[1].rstrip(".,;:")[:128] or None
    return None

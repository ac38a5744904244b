"""What makes a mail findable: its terms, as PostgreSQL indexes them and as Python reads them where there is no such index.

A term is a letter for its kind, a colon and a text in lower case: `t:` a word of the subject, `m:` a word of the mark, `r:` a
recipient (To, Cc, Bcc) and `s:` the sender, these two backwards, so that all of a domain is what they begin with.

They are an expression over columns, not a column: other languages write rows too, and nothing must be theirs to keep
true. One GIN index over it serves every search (ADR 12).
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

Kind = Literal["t", "m", "r", "s"]

#: The index; without it searches look at the newest rows instead.
INDEX = "mail_content_search"
#: So many characters of a subject and of a mark are searched. A term has at most 2,046 bytes, or the row could not be stored.
MOST_CHARACTERS = 500
#: Inserts leave their terms in a list; whoever fills it up to so many kB sorts it in. PostgreSQL's 4 MB is a pause of 100 ms.
PENDING_KB = 256

# What parts the words of a subject: ASCII but letters and digits, blanks, general and CJK punctuation. As ranges of code
# points, since classes such as [:punct:] depend on the locale. Python and PostgreSQL read it alike.
PARTS_WORDS = r"[\u0001-/:-@\[-`{-\u00a1\u00ab\u00b7\u00bb\u00bf\u1680\u2000-\u206f\u3000-\u303f]+"
_WORDS = re.compile(PARTS_WORDS)

_ADDRESSES = """CAST(jsonb_path_query_array("to" || coalesce(cc, '[]') || coalesce(bcc, '[]'), '$[*].address') AS text)"""
# What no address can be is cut, or one that a foreign program wrote could not be stored: many recipients are looked through
# one by one, few are short enough together.
_SHORT = rf"""CASE WHEN octet_length({_ADDRESSES}) <= 1000 THEN {_ADDRESSES}
    ELSE regexp_replace(left({_ADDRESSES}, 200000), '("[^"]{{255}})[^"]+', '\1', 'g') END"""
#: The words of a subject and of a mark with one blank between them, for phrases; `c` is `mail_content`.
SUBJECT_SQL = rf"lower(regexp_replace(left(c.subject, {MOST_CHARACTERS}), '{PARTS_WORDS}', ' ', 'g'))"
MARK_SQL = rf"lower(regexp_replace(left(c.mark, {MOST_CHARACTERS}), '[ \n]+', ' ', 'g'))"

#: The terms of a row of `mail_content` as PostgreSQL's tsvector, NULL nowhere.
TERMS_SQL = rf"""array_to_tsvector(array_remove(array_remove(string_to_array(
    't:' || lower(regexp_replace(left(subject, {MOST_CHARACTERS}), '{PARTS_WORDS}', E'\nt:', 'g'))
    || E'\nr:' || replace(right(left(reverse(lower({_SHORT})), -2), -2), '" ,"', E'\nr:')
    || coalesce(E'\nm:' || replace(replace(lower(left(mark, {MOST_CHARACTERS})), E'\n', ' '), ' ', E'\nm:'), '')
    || coalesce(E'\ns:' || reverse(replace(lower(left(sender ->> 'address', 255)), E'\n', ' ')), ''),
    E'\n'), 't:'), 'm:'))"""


def words_of_subject(subject: str) -> list[str]:
    """The words of *subject* as they are searched, in its own upper and lower case."""
    return [word for word in _WORDS.split(subject[:MOST_CHARACTERS]) if word]


def words_of_mark(mark: str) -> list[str]:
    """The words of *mark*: what stands between blanks."""
    return [word for word in mark[:MOST_CHARACTERS].replace("\n", " ").split(" ") if word]


def backwards(address: str) -> str:
    """*address* as a term has it."""
    return json.dumps(address, ensure_ascii=False)[1:-1][::-1]


def terms_of_row(subject: str | None, mark: str | None, lists: tuple[Any, ...], sender: Any) -> Iterator[str]:
    """The terms of a row whose *lists* are its To, Cc and Bcc as JSON text, as *sender* is; lower case as Python knows it."""
    yield from (f"t:{word.lower()}" for word in words_of_subject(subject or ""))
    yield from (f"m:{word.lower()}" for word in words_of_mark(mark or ""))
    for listed in lists:
        found = _read(listed)
        for one in found if isinstance(found, list) else [found]:
            if address := _address(one):
                yield f"r:{backwards(address.lower())}"
    if address := _address(_read(sender)):
        yield f"s:{backwards(address.lower())}"


def _read(value: Any) -> Any:
    try:
        return json.loads(value) if value else None
    except ValueError:
        return None  # somebody else's row


def _address(value: Any) -> str | None:
    found = value.get("address") if isinstance(value, dict) else None
    return found if isinstance(found, str) else None

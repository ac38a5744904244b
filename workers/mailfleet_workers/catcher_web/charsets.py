"""Bytes of a mail as text, whatever charset they claim and whatever they really are. Nothing here raises."""

import codecs
import re

#: Python's codecs that are no charset of mail: some take quadratic time, some interpret escapes.
_NO_CHARSETS = {
    "idna",
    "punycode",
    "unicode_escape",
    "raw_unicode_escape",
    "undefined",
    "mbcs",
    "oem",
    "palmos",
}
#: What browsers read these as (WHATWG Encoding Standard, section 4.2): the wider set that people mean.
_WIDER = {"ascii": "cp1252", "iso8859-1": "cp1252", "gb2312": "gb18030", "gbk": "gb18030"}
_META = re.compile(rb"""<meta[^>]{0,200}?charset\s*=\s*["']?\s*([A-Za-z0-9_:.-]{1,40})""", re.IGNORECASE)


def decode(data: bytes, charset: str | None) -> str:
    """*data* as text; what the charset does not know becomes U+FFFD, an unknown charset is guessed."""
    name = _known(charset)
    if name is None or name in _WIDER:
        # Many senders say nothing, or us-ascii, and mean UTF-8; text in another charset is hardly ever valid UTF-8.
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            name = _WIDER.get(name or "ascii", "cp1252")
    return data.decode(name, "replace")


def charset_of_html(data: bytes) -> str | None:
    """The charset that an HTML document gives itself, None if it gives none."""
    if data.startswith(codecs.BOM_UTF8):
        return "utf-8-sig"
    found = _META.search(data[:2048])
    return found[1].decode("ascii") if found else None


def _known(charset: str | None) -> str | None:
    if not charset or len(charset) > 40:
        return None
    try:
        info = codecs.lookup(charset)
        # Refuses codecs that make no text, such as zlib.
        b"a".decode(info.name, "replace")
    except (LookupError, ValueError):
        return None
    return None if info.name.replace("-", "_") in _NO_CHARSETS else info.name

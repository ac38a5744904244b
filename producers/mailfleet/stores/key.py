"""Which keys a store may be asked for, whatever kind of store it is."""

#: Bytes of a key, and of each part between its slashes: what common file systems and object stores take.
MOST_BYTES = 900
MOST_PART_BYTES = 255


class InvalidKey(ValueError):  # noqa: N818 - reads as the fact it states
    """The key is of no form that a store is asked for; the text says why, without the key."""


def check_key(value: object) -> str:
    """*value* as a key: names joined by `/`, as `2026/17.pdf`, in one way of writing it. Raises InvalidKey.

    No name is empty, `.` or `..`, so a key never begins or ends with `/` and never leads out of anything. Backslashes and
    control characters are refused: some systems take them for something else.
    """
    if not isinstance(value, str):
        raise InvalidKey(f"expected text, got {type(value).__name__}")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise InvalidKey("contains a lone surrogate, which is no character") from None
    if not value:
        raise InvalidKey("is empty")
    if size > MOST_BYTES:
        raise InvalidKey(f"expected at most {MOST_BYTES} bytes, got {size}")
    if "\\" in value or any(ord(one) < 32 or 127 <= ord(one) < 160 for one in value):
        raise InvalidKey("contains a backslash or a control character")
    for name in value.split("/"):
        if name in {"", ".", ".."}:
            raise InvalidKey("expected names joined by single slashes, none of them . or ..")
        if len(name.encode()) > MOST_PART_BYTES:
            raise InvalidKey(f"expected at most {MOST_PART_BYTES} bytes between slashes")
    return value

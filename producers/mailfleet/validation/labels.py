"""What an application calls a mail, to find it again: idempotency key, mark, reference and tags."""

from typing import NamedTuple

from mailfleet.errors import InvalidMail
from mailfleet.mail import Mail, Ref
from mailfleet.validation.limits import Limits
from mailfleet.validation.text import header_text, line


class Labels(NamedTuple):
    """The checked values; None and () where there are none."""

    idempotency_key: str | None
    mark: str | None
    ref: Ref | None
    tags: tuple[str, ...]


def labels(mail: Mail, limits: Limits) -> Labels:
    """Check the labels of *mail*. Raises InvalidMail."""
    key = mail.idempotency_key
    return Labels(
        None if key is None else _filled(key, "idempotency_key", limits.idempotency_key),
        # The mark may be sent along in a header.
        None if mail.mark is None else header_text(mail.mark, "mark", limits.mark) or None,
        None if mail.ref is None else _ref(mail.ref, limits),
        _tags(mail.tags, limits),
    )


def _filled(value: object, field: str, limit: int) -> str:
    text = line(value, field, limit)
    if not text.strip():
        raise InvalidMail(field, "is empty: leave it out")
    return text


def _ref(value: object, limits: Limits) -> Ref:
    if isinstance(value, Ref):
        kind, key1, key2 = value.type, value.key1, value.key2
    elif isinstance(value, tuple) and len(value) == 3:
        kind, key1, key2 = value
    else:
        raise InvalidMail("ref", f"expected Ref or (type, key1, key2), got {type(value).__name__}")
    return Ref(
        _filled(kind, "ref.type", limits.ref_type),
        line(key1, "ref.key1", limits.ref_key),
        line(key2, "ref.key2", limits.ref_key),
    )


def _tags(value: object, limits: Limits) -> tuple[str, ...]:
    if isinstance(value, tuple) and not value:
        return ()
    if not isinstance(value, (list, tuple)):
        raise InvalidMail("tags", f"expected a list of str, got {type(value).__name__}")
    if len(value) > limits.tags:
        raise InvalidMail("tags", f"expected at most {limits.tags}, got {len(value)}")
    return tuple(dict.fromkeys([_filled(tag, f"tags[{n}]", limits.tag) for n, tag in enumerate(value)]))

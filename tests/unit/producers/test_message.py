"""The message that carries a hint: plain JSON, and nothing else gets in."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet.broker.message import decode, encode, message_of
from mailfleet_schema.hint import MAX_BYTES, MAX_ID, MAX_IDS, Hint, InvalidHint, group
from mailfleet_schema.states import Priority
from mailfleet_schema.topology import ACTOR

HINT = Hint("billing", Priority.HIGH, (17, 18, 23))
QUEUE = "mailfleet.billing.high"


def fields(**changed: Any) -> bytes:
    message = message_of(HINT, message_id="m-1", now_ms=1_700_000_000_000)
    return json.dumps({**message.asdict(), **changed}).encode()


def test_what_is_encoded_is_decoded() -> None:
    """A hint survives the way, with its message's id and time."""
    message = message_of(HINT, message_id="m-1", now_ms=1_700_000_000_000)

    assert decode(encode(message), QUEUE) == message
    assert Hint.from_argument(message.args[0]) == HINT


def test_is_what_dramatiq_writes_with_its_own_encoder() -> None:
    """The bytes are those of dramatiq's JSONEncoder, so that any dramatiq program reads them."""
    from dramatiq import JSONEncoder

    message = message_of(HINT, message_id="m-1", now_ms=5)

    assert encode(message) == JSONEncoder().encode(message.asdict())
    assert (message.queue_name, message.actor_name) == (QUEUE, ACTOR)


def test_options_of_others_are_dropped() -> None:
    """An eta or a retry count in a message means nothing here."""
    assert decode(fields(options={"eta": 10**15, "retries": 3}), QUEUE).options == {}


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04K\x01.",
        b"null",
        b"[]",
        b"[" * 100_000,
        fields(actor_name="other.actor"),
        fields(actor_name=None),
        fields(args=[]),
        fields(args=[HINT.as_argument()] * 2),
        fields(args={"0": 1}),
        fields(args=[{"v": 2}]),
        fields(args=[{**HINT.as_argument(), "app": "../etc"}]),
        fields(args=[{**HINT.as_argument(), "priority": "normal"}]),
        fields(kwargs={"more": 1}),
        fields(args=[{**HINT.as_argument(), "ids": [0]}]),
    ],
    ids=lambda data: data[:40].decode("latin-1"),
)
def test_anything_else_is_no_hint(data: bytes) -> None:
    """Foreign, damaged and misdirected messages are told apart, whatever they hold."""
    with pytest.raises(InvalidHint):
        decode(data, QUEUE)


@given(st.binary(max_size=300))
def test_no_bytes_raise_anything_else(data: bytes) -> None:
    """Arbitrary bytes are refused with InvalidHint."""
    with pytest.raises(InvalidHint):
        decode(data, QUEUE)


def test_a_full_hint_stays_under_a_kibibyte() -> None:
    """The largest hint that `group` makes fits into the size that the wire promises."""
    app = "a" * 40
    hints = group([(app, Priority.NORMAL, MAX_ID - n) for n in range(MAX_IDS)])

    for hint in hints:
        message = message_of(hint, message_id="0" * 36, now_ms=1_700_000_000_000)
        assert len(encode(message)) <= MAX_BYTES

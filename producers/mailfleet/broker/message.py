"""A hint on its way: the dramatiq message that carries it, as bytes.

dramatiq encodes messages with an encoder that the whole process shares, and an application may have set its own. So
hints are written and read here, as plain JSON in the form of dramatiq's own JSONEncoder, whatever that encoder is.
"""

import json
from typing import Any

from dramatiq import Message

from mailfleet_schema.hint import Hint, InvalidHint
from mailfleet_schema.topology import ACTOR, queue_name


def message_of(hint: Hint, *, message_id: str, now_ms: int) -> "Message[None]":
    """The message for *hint*; *now_ms* is milliseconds since 1970, shown by dramatiq and used by nobody."""
    return Message(
        queue_name=queue_name(hint.app, hint.priority),
        actor_name=ACTOR,
        args=(hint.as_argument(),),
        kwargs={},
        options={},
        message_id=message_id,
        message_timestamp=now_ms,
    )


def encode(message: "Message[Any]") -> bytes:
    return json.dumps(message.asdict(), separators=(",", ":")).encode()


def decode(data: bytes, queue: str) -> "Message[None]":
    """The message in *data*, which came from *queue*; raises InvalidHint for anything that carries no hint.

    Options are dropped: a delay, a pipe or a retry count in them is not ours.
    """
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidHint(f"expected JSON ({type(error).__name__})") from error
    if not isinstance(fields, dict) or fields.get("actor_name") != ACTOR:
        raise InvalidHint(f"expected a message for {ACTOR}")
    arguments = fields.get("args")
    if not isinstance(arguments, list) or len(arguments) != 1 or fields.get("kwargs"):
        raise InvalidHint("expected one argument")
    hint = Hint.from_argument(arguments[0])
    if queue_name(hint.app, hint.priority) != queue:
        raise InvalidHint(f"a hint for {hint.app}.{hint.priority.value} came in {queue}")
    message_id, timestamp = fields.get("message_id"), fields.get("message_timestamp")
    return message_of(
        hint,
        message_id=message_id if isinstance(message_id, str) else "",
        now_ms=timestamp if type(timestamp) is int else 0,
    )

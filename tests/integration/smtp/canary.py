"""A password that sings: every form in which it could get out, and every place where a process may have left it."""

import base64
import gc
import json
import traceback
from collections.abc import Iterator
from urllib.parse import quote

from sqlalchemy import Engine, inspect, text

USER, PASSWORD = "canary-user", 'canary-"p\\ss&word-4711-ünsafe'


def _forms() -> Iterator[bytes]:
    for secret in (PASSWORD, f"\0{USER}\0{PASSWORD}"):
        raw = secret.encode()
        yield raw
        yield raw.hex().encode()
        yield secret.encode("latin-1")
        yield secret.encode("utf-16-le")
        yield json.dumps(secret)[1:-1].encode()
        yield json.dumps(secret, ensure_ascii=False)[1:-1].encode()
        yield repr(secret)[1:-1].encode()
        yield quote(secret).encode()
        # In base64 it looks different by what stands before it: the digits at its ends depend on its neighbours.
        for shift in range(3):
            yield base64.b64encode(b"\0" * shift + raw)[4 : len(raw) * 4 // 3 - 2]


FORMS = frozenset(_forms())


def told(*said: bytes | bytearray | str) -> list[bytes]:
    """The forms of the password that are in what was *said*."""
    texts = [one.encode("utf-8", "surrogatepass") if isinstance(one, str) else bytes(one) for one in said]
    return [form for form in FORMS if any(form in text for text in texts)]


def dump(engine: Engine) -> str:
    """Every row of every table that is in the database, ours or not, the database's own ones excepted."""
    found = inspect(engine)
    tables = [
        f'"{schema}"."{name}"'
        for schema in found.get_schema_names()
        if schema != "information_schema"
        for name in found.get_table_names(schema)
    ]
    with engine.connect() as connection:
        return "\n".join(
            f"{table}: {[one.tobytes() if isinstance(one, memoryview) else one for one in row]}"
            for table in tables
            for row in connection.execute(text(f"SELECT * FROM {table}"))
        )


def tracebacks() -> str:
    """Every exception that is alive, as it would be printed."""
    gc.collect()
    alive = [one for one in gc.get_objects() if issubclass(type(one), BaseException)]
    return "\n".join("".join(traceback.format_exception(one)) + repr(one.args) for one in alive)

"""The tree of keys that a settings model has: what stands where, its unit and its default.

Read from the models themselves, so that files, variables, errors, `config check` and `docs/settings.md` cannot
speak of different keys.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

#: Stands in a path for the name of an account or app.
NAME = "NAME"


@dataclass(frozen=True, slots=True)
class Names:
    """A table whose keys are names (of accounts, of apps), each a table of `model`."""

    model: type[BaseModel]


Node = type[BaseModel] | Names | FieldInfo


@dataclass(frozen=True, slots=True)
class Key:
    """One setting: its path (with `NAME` where a name goes), and what its field says of it."""

    path: tuple[str, ...]
    field: FieldInfo

    @property
    def dotted(self) -> str:
        return ".".join(self.path)

    @property
    def meaning(self) -> str:
        return self.field.description or ""

    @property
    def unit(self) -> str:
        """`s`, `ms`, or nothing."""
        if "timeouts" in self.path:
            return "s"
        _, _, unit = self.path[-1].rpartition("_")
        return unit if unit in {"s", "ms"} else ""

    @property
    def default(self) -> str:
        """The default as it is written in a file; for one that a file cannot say, what it means."""
        extra = self.field.json_schema_extra
        if isinstance(extra, dict) and "without" in extra:
            return str(extra["without"])
        return in_file(self.field.get_default(call_default_factory=False))


def in_file(value: Any) -> str:
    """*value* as it is written in the settings file; None is `none`, which a file cannot say."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"{value:g}" if abs(value) < 1e6 else f"{value:.0f}"
        case Mapping():
            return "{" + ", ".join(f"{key} = {in_file(one)}" for key, one in value.items()) + "}"
        case list() | tuple():
            return "[" + ", ".join(in_file(one) for one in value) + "]"
        case _:
            escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
            return f'"{escaped}"'


def dotted(path: Sequence[str]) -> str:
    """*path* as a key in TOML."""
    return ".".join(part_of_key(part) for part in path)


def part_of_key(part: str) -> str:
    """One part of a dotted key, in quotes where it would not be one part without: `"smtp.example.com"`."""
    return f'"{part}"' if "." in part or ":" in part else part


def keys(root: type[BaseModel]) -> Iterator[Key]:
    """Every setting below *root*, in the order of the fields."""
    yield from _below((), root)


def _below(path: tuple[str, ...], model: type[BaseModel]) -> Iterator[Key]:
    for written, field in _fields(model).items():
        match _node(field):
            case Names(model=each):
                yield from _below((*path, written, NAME), each)
            case FieldInfo():
                yield Key((*path, written), field)
            case table:
                yield from _below((*path, written), table)


def known_keys(model: type[BaseModel]) -> list[str]:
    """The keys of *model*'s table as they are written in a file."""
    return list(_fields(model))


def node_at(root: type[BaseModel], path: Sequence[object]) -> Node | None:
    """What stands at *path* below *root*; None when there is no such key."""
    node: Node | None = root
    for part in path:
        match node:
            case Names(model=each):
                node = each
            case FieldInfo() | None:
                return None
            case model:
                field = _fields(model).get(str(part))
                node = None if field is None else _node(field)
    return node


def _fields(model: type[BaseModel]) -> dict[str, FieldInfo]:
    return {field.alias or name: field for name, field in model.model_fields.items()}


def _node(field: FieldInfo) -> Node:
    kind = field.annotation
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    if get_origin(kind) is dict:
        each = get_args(kind)[1]
        return Names(each)
    return field

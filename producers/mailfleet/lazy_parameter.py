"""Whether the parameter of a lazy mail is one that its renderer takes: asked when it is emitted, and before it is rendered.

A mail may be emitted where its renderer is not registered, by another program or in another language; then only the
worker can ask.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from mailfleet.errors import InvalidMail, SettingsError
from mailfleet.mail import JSON, Lazy
from mailfleet.registry import TEMPLATES, Registered, renderer_of

#: How much of a schema's own words a message repeats.
_MOST = 200
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,99}")
#: PostgreSQL's `integer`.
_MOST_VERSION = 2**31 - 1


class WrongParameter(ValueError):  # noqa: N818 - reads as the fact it states
    """A renderer does not take this parameter. The message has nothing of the parameter, but what a `check` says."""


@dataclass(frozen=True, slots=True)
class TemplateWish:
    """The parameter of the renderer `jinja2`: `version` None is the newest."""

    template: str
    version: int | None = None
    data: Mapping[str, JSON] = field(default_factory=dict, repr=False)


def template_wish(parameter: JSON) -> TemplateWish:
    """*parameter* as the renderer `jinja2` reads it. Raises WrongParameter."""
    if not isinstance(parameter, Mapping):
        raise WrongParameter('expected {"template": name, "version": number or null, "data": {…}}')
    if unknown := parameter.keys() - {"template", "version", "data"}:
        raise WrongParameter(f"expected template, version and data, got {len(unknown)} more")
    name, version, data = parameter.get("template"), parameter.get("version"), parameter.get("data", {})
    if not isinstance(name, str) or not is_template_name(name):
        raise WrongParameter("template: expected a letter, then up to 99 letters, digits, _, . and -")
    if version is not None and (
        not isinstance(version, int) or isinstance(version, bool) or not 0 < version <= _MOST_VERSION
    ):
        raise WrongParameter("version: expected a number from 1 on, or null for the newest")
    if not isinstance(data, Mapping):
        raise WrongParameter("data: expected an object")
    return TemplateWish(name, version, data)


def is_template_name(name: str) -> bool:
    """Whether *name* may name a template: a letter, then up to 99 letters, digits, _, . and -."""
    return _NAME.fullmatch(name) is not None


def check_lazy(app: str, lazy: Lazy) -> None:
    """Check the parameter of a mail of *app*, if its renderer is registered here. Raises InvalidMail.

    Raises SettingsError where the check itself cannot be made: its schema is none, or `jsonschema` is missing.
    """
    try:
        if lazy.renderer == TEMPLATES:
            template_wish(lazy.parameter)
        elif (registered := renderer_of(app, lazy.renderer)) is not None:
            check_parameter(registered, lazy.parameter)
    except WrongParameter as error:
        raise InvalidMail("lazy.parameter", str(error)) from error


def check_parameter(registered: Registered, parameter: JSON) -> None:
    """Raises WrongParameter if *parameter* is not as *registered* wants it, SettingsError if its schema is none."""
    if registered.schema is not None:
        _check_schema(registered.name, registered.schema, parameter)
    if registered.check is not None:
        try:
            registered.check(parameter)
        except ValueError as error:
            raise WrongParameter(" ".join(str(error).split())[:_MOST] or type(error).__name__) from error


def check_schema_of(registered: Registered) -> None:
    """Raises SettingsError if *registered* has a schema that is none, or that cannot be checked here."""
    if registered.schema is not None:
        _validator(registered.name, registered.schema)


def _check_schema(name: str, schema: str, parameter: JSON) -> None:
    validator = _validator(name, schema)
    try:
        error = next(iter(validator.iter_errors(parameter)), None)
    except Exception as broken:
        # A reference that leads nowhere; nothing is fetched.
        if type(broken).__module__.partition(".")[0] not in {"referencing", "jsonschema"}:
            raise
        raise SettingsError(
            f"renderer {name}: schema", "references within it", type(broken).__name__
        ) from broken
    if error is not None:
        # The schema's own words only: the parameter may be anybody's name.
        where = "/".join(str(part) for part in error.absolute_schema_path)
        raise WrongParameter(
            f"expected {error.validator} {error.validator_value!r:.{_MOST}} (schema: {where})"
        )


@lru_cache(maxsize=256)
def _validator(name: str, schema: str) -> Any:
    """A validator for *schema*, JSON; the draft is the one that it names, the newest if it names none."""
    key = f"renderer {name}: schema"
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.exceptions import SchemaError
        from jsonschema.validators import validator_for
        from referencing import Registry
    except ImportError as error:
        raise SettingsError(
            key, "the package jsonschema beside it: pip install 'mailfleet[schema]'", "it is not installed"
        ) from error
    read = json.loads(schema)
    kind: Any = validator_for(read, default=Draft202012Validator)
    try:
        kind.check_schema(read)
    except SchemaError as error:
        raise SettingsError(key, "a JSON schema", error.message[:_MOST]) from error
    # An empty registry: what a schema refers to is in it, or nowhere. Nothing is fetched.
    return kind(read, registry=Registry())

"""Limits in the settings: of an account, of a host, and what holds for all limits of the fleet."""

from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, Field, ValidationError, ValidationInfo, field_validator

from mailfleet.errors import SettingsError
from mailfleet_workers.limits.rule import EXPECTED, InvalidRule, Rate
from mailfleet_workers.settings.problems import STRICT, Words, from_pydantic, wrong
from mailfleet_workers.settings.replies import Replies

#: Each rule costs time with every permit.
MOST_RULES = 8

Scope = Literal["account", "host"]

_LIST = 'a list of rules, such as ["14/s", "10000/d"]'


def _rates(value: object) -> object:
    """The rules as they are written, each looked at: wrong ones are named by their position."""
    if value is None:
        return None
    if not isinstance(value, list | tuple):
        raise wrong(("", _LIST, value if isinstance(value, str | int | float) else Words("something else")))
    problems: list[tuple[str, str, object]] = []
    for position, text in enumerate(value):
        here = f"[{position}]"
        if not isinstance(text, str):
            problems.append((here, EXPECTED, text if isinstance(text, int | float) else Words("no text")))
            continue
        try:
            Rate.parse(text)
        except InvalidRule:
            problems.append((here, EXPECTED, text[:60]))
    if len(value) > MOST_RULES:
        problems.append(("", f"at most {MOST_RULES} rules", Words(f"{len(value)} of them")))
    if problems:
        raise wrong(*problems)
    return tuple(value)


Rates = Annotated[tuple[str, ...] | None, BeforeValidator(_rates)]


class HostLimitSettings(BaseModel):
    """`[hosts."NAME".limits]`: what all accounts on one server may do together."""

    model_config = STRICT

    messages: Rates = Field(
        None,
        description="How many messages in any window of a length: all rules hold, for one window the least.",
        json_schema_extra={"without": "any number"},
    )
    recipients: Rates = Field(
        None,
        description="How many recipients, counted with every message; a mail to more than a rule allows goes in"
        " several.",
        json_schema_extra={"without": "any number"},
    )
    connections: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Connections that may be open at once, of all workers together.",
        json_schema_extra={"without": "any number"},
    )
    login_gap_ms: int = Field(
        0,
        ge=0,
        le=600_000,
        description="The pause between the end of one login and the next, for all workers.",
    )


class AccountLimitSettings(HostLimitSettings):
    """`[accounts.NAME.limits]`: what all workers may do with one account. Each key wins over the preset's."""

    messages: Rates = Field(
        None,
        description="How many messages in any window of a length: all rules hold, for one window the least."
        " `[]` lifts the preset's.",
        json_schema_extra={"without": "the preset's, else any number"},
    )
    recipients: Rates = Field(
        None,
        description="How many recipients, counted with every message; a mail to more than a rule allows goes in"
        " several. `[]` lifts the preset's.",
        json_schema_extra={"without": "the preset's, else any number"},
    )
    connections: int | None = Field(
        None,
        ge=1,
        le=10_000,
        description="Connections that may be open at once, of all workers together.",
        json_schema_extra={"without": "the preset's, else any number"},
    )
    max_idle_ms: int = Field(
        3000,
        ge=0,
        le=60_000,
        description="A wait for a limit that is not longer is slept out with the connection open; with a longer one"
        " the mail goes back and comes again.",
    )


class HostSettings(BaseModel):
    """`[hosts."NAME"]`: one server, whichever accounts use it."""

    model_config = STRICT

    replies: Replies = Field(
        (),
        description="Rules for what this server answers, searched after those of the account and before mailfleet's own"
        " ([replies](replies.md)).",
    )
    limits: HostLimitSettings = Field(HostLimitSettings())


class LimitSettings(BaseModel):
    """`[limits]`: how the limits of a fleet are kept."""

    model_config = STRICT

    lease_s: float = Field(
        15,
        ge=5,
        le=3600,
        description="How long a permit or a connection of a process that is gone stays taken.",
    )
    when_away: Literal["wait", "share"] = Field(
        "wait",
        description="What limited mail does while Redis does not answer: `wait`, or `share`: each process uses 1 /"
        " `shares` of every limit by itself.",
    )
    shares: int = Field(
        0,
        ge=0,
        le=10_000,
        validate_default=True,
        description="With `share`: how many worker processes there are at most, on all machines.",
    )
    reserve: float = Field(
        0.1,
        ge=0,
        lt=1,
        description="The last part of every limit that mail of priority `bulk` cannot use: 0.1 is a tenth.",
    )

    @field_validator("shares")
    @classmethod
    def _enough(cls, value: int, info: ValidationInfo) -> int:
        if value == 0 and info.data.get("when_away") == "share":
            expected = "at least 1, how many worker processes there are at most, because when_away is share"
            raise wrong(("", expected, value))
        return value


#: What an operator may lift by no value at all: then any number is allowed, whatever the settings and their preset say.
LIFTED = frozenset({"connections"})
_MODELS: dict[str, type[HostLimitSettings]] = {"account": AccountLimitSettings, "host": HostLimitSettings}


def check_limit(scope: str, name: str, value: object) -> Any:
    """*value* as limit *name* of an account or host: a tuple of rules as written, a number, or None for one of `LIFTED`.

    Raises SettingsError with *name* (`messages[1]`), what was expected and the value: for a scope or name that does not
    exist too.
    """
    model = _MODELS.get(scope)
    if model is None:
        raise SettingsError("scope", " or ".join(get_args(Scope)), scope)
    if name in model.model_fields and value is None and name not in LIFTED:
        raise SettingsError(name, "a limit", Words("none"))
    try:
        return getattr(model.model_validate({name: value}), name)
    except ValidationError as error:
        raise from_pydantic(error, model)[0] from None

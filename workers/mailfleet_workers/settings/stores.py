"""`[stores.NAME]`: where attachments may come from by name and key, and for whom."""

import re
from pathlib import Path

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from mailfleet_schema.names import EXPECTATION, InvalidName, check_name
from mailfleet_workers.settings.problems import STRICT, wrong
from mailfleet_workers.settings.texts import Texts

#: Kinds that mailfleet brings; any other is looked up among the entry points of `mailfleet.stores`.
DIRECTORY, REGISTERED = "directory", "registered"

_KIND = re.compile(r"[a-z][a-z0-9_-]{0,39}")


class StoreSettings(BaseModel):
    """One store of attachments; mails name it and a key, never a path or an address."""

    model_config = STRICT

    kind: str = Field(
        DIRECTORY,
        description="`directory`: the plain files below `path`; `registered`: a function that a module of the app's `import`"
        " registers; any other: what an installed package offers under that name in the entry point group `mailfleet.stores`.",
    )
    path: str | None = Field(
        None,
        validate_default=True,
        description="The directory, an absolute path. Keys lead to plain files below it only, never through symbolic links.",
        json_schema_extra={"without": "none; a directory needs it"},
    )
    location: str | None = Field(
        None,
        description="What a store of an installed package is told: where it finds its files, in its own words, without secrets.",
        json_schema_extra={"without": "nothing"},
    )
    apps: Texts = Field(
        (),
        validate_default=True,
        description="The apps whose mails may name it; nobody else's may.",
        json_schema_extra={"without": "none: it has to be said"},
    )
    timeout_s: float = Field(
        10.0,
        gt=0,
        le=120,
        description="How long a worker waits for one file before it tries the mail again later.",
    )

    @field_validator("kind")
    @classmethod
    def _known_form(cls, value: str) -> str:
        if not _KIND.fullmatch(value):
            raise wrong(("", "directory, registered or the name of an entry point", value))
        return value

    @field_validator("path")
    @classmethod
    def _absolute(cls, value: str | None, info: ValidationInfo) -> str | None:
        if info.data.get("kind") == DIRECTORY and (value is None or not Path(value).is_absolute()):
            raise wrong(("", "an absolute path, because kind is directory", value))
        return value

    @field_validator("apps")
    @classmethod
    def _names(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not value:
            raise wrong(("", "at least one app", value))
        for position, name in enumerate(value):
            try:
                check_name("app", name)
            except InvalidName:
                raise wrong((f"[{position}]", EXPECTATION, name)) from None
        return value

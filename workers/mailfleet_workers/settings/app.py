"""`[apps.NAME]`: the settings of one application's workers."""

import re
from typing import Literal

from pydantic import BaseModel, Field, field_validator

from mailfleet_workers.settings.inherit import DEFAULT
from mailfleet_workers.settings.problems import STRICT, wrong
from mailfleet_workers.settings.texts import Texts

_MODULE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")

_PATTERN = re.compile(r"([a-z][a-z0-9-]{0,38})?\*")


class AppSettings(BaseModel):
    """`[apps.NAME]`: one application's pool of workers. An app that is not listed has the defaults."""

    model_config = STRICT

    accounts: Texts = Field(
        (DEFAULT,),
        min_length=1,
        description="The accounts that mails of this app may be sent through. `tenant-*` is every account whose name begins so,"
        " also those of loaders and stored ones.",
    )
    import_: Texts = Field(
        (),
        alias="import",
        description="Python modules with the app's lazy renderers and hooks; only this app's workers load them.",
    )
    processes: int = Field(
        2, ge=1, le=256, description="Worker processes. The embedded mode has one for all apps."
    )
    threads: int = Field(16, ge=1, le=1024, description="Sending threads of each process.")
    heap: int = Field(
        256,
        ge=1,
        le=100_000,
        description="How many mails of each priority a process takes ahead of its threads.",
    )
    also: Texts = Field(
        (),
        description="Other apps whose mail this app's workers send too, for instance of an application whose workers"
        " are gone; with the accounts that those apps may use.",
    )
    shared: bool = Field(
        False,
        description='Whether this app\'s workers also send mail of other apps that is for everybody (`apps="*"`), while they'
        " have none of their own to send. Those of an app `shared` always do. Mail whose list of apps names this one is"
        " sent in any case.",
    )
    on_doubt: Literal["resend_once", "resend", "hold"] = Field(
        "resend_once",
        description="What becomes of a mail in doubt that does not say it itself: `resend_once`, `resend` or `hold`.",
    )

    content_policy: Literal["keep", "purge", "render_only"] = Field(
        "keep",
        description="What becomes of the content of a mail that does not say it itself: `keep`, `purge` when it is sent, or"
        " `render_only`, where what a lazy mail's renderer makes is never stored and other mail is purged.",
    )
    warn_backlog: int = Field(
        50,
        ge=1,
        le=100_000,
        description="More due mails than this that nobody has taken are worth a warning in the log.",
    )
    weight: int = Field(
        1,
        ge=1,
        le=1000,
        description="Its part when several apps compete for one account's limits: 2 gets twice as much as 1.",
    )

    @field_validator("accounts")
    @classmethod
    def _patterns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        problems = [
            (f"[{position}]", "a name, or the beginning of names with one `*` at its end: `tenant-*`", name)
            for position, name in enumerate(value)
            if "*" in name and not _PATTERN.fullmatch(name)
        ]
        if problems:
            raise wrong(*problems)
        return value

    def may_use(self, account: str) -> bool:
        """Whether mails of this app may be sent through *account*."""
        return any(
            account.startswith(name.removesuffix("*")) if name.endswith("*") else account == name
            for name in self.accounts
        )

    @field_validator("import_")
    @classmethod
    def _modules(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for position, name in enumerate(value):
            if not _MODULE.fullmatch(name):
                # The key of a part: `import[0]`.
                raise wrong((f"[{position}]", "a module's dotted name", name))
        return value

"""Which reports of delivery an account asks for, where a mail does not say it itself."""

from typing import get_args

from pydantic import BaseModel, Field, field_validator

from mailfleet_workers.settings.problems import STRICT, wrong
from mailfleet_workers.settings.texts import Texts
from mailfleet_workers.smtp.envelope import Dsn, Notify, Returned

_WORDS: tuple[Notify, ...] = get_args(Notify)


class DsnSettings(BaseModel):
    """`[accounts.NAME.dsn]`: reports about the delivery of its mails (RFC 3461), asked of a server that offers DSN."""

    model_config = STRICT

    notify: Texts = Field(
        (),
        description="When recipients' servers report: `never` alone, or some of `success`, `failure` and `delay`. Empty leaves it to"
        " them: they report failures.",
    )
    ret: Returned | None = Field(
        None,
        description="What a report of a failure returns: `full`, the whole mail, or `hdrs`, its header.",
        json_schema_extra={"without": "the server's choice"},
    )

    @field_validator("notify")
    @classmethod
    def _check_notify(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for position, one in enumerate(value):
            if one not in _WORDS:
                raise wrong((f"[{position}]", f"one of {', '.join(_WORDS)}", one))
        if len(set(value)) < len(value) or ("never" in value and len(value) > 1):
            expected = "never alone, or some of success, failure and delay, each once"
            raise wrong(("", expected, ", ".join(value)))
        return value

    def reports(self) -> Dsn | None:
        """What mails ask for that say nothing of it; None for nothing."""
        notify = tuple(word for word in _WORDS if word in self.notify)
        return Dsn(self.ret, None, notify) if notify or self.ret else None

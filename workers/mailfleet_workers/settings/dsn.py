"""Which reports of delivery an account asks for, where a mail does not say it itself."""

from pydantic import BaseModel, Field, field_validator

from mailfleet_workers.settings.problems import STRICT, wrong
from mailfleet_workers.smtp.envelope import Dsn, Notify, Returned


class DsnSettings(BaseModel):
    """`[accounts.NAME.dsn]`: reports about the delivery of its mails (RFC 3461), asked of a server that offers DSN."""

    model_config = STRICT

    notify: tuple[Notify, ...] = Field(
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
    def _check_notify(cls, value: tuple[Notify, ...]) -> tuple[Notify, ...]:
        if len(set(value)) < len(value) or ("never" in value and len(value) > 1):
            expected = "never alone, or some of success, failure and delay, each once"
            raise wrong(("", expected, ", ".join(value)))
        return value

    def reports(self) -> Dsn | None:
        """What mails ask for that say nothing of it; None for nothing."""
        return Dsn(self.ret, None, self.notify) if self.notify or self.ret else None

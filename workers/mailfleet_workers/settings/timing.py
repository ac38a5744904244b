"""When workers look, wait and give up: the table `[timing]`."""

from pydantic import BaseModel, Field, ValidationInfo, field_validator

from mailfleet_workers.settings.problems import STRICT, wrong


class TimingSettings(BaseModel):
    """`[timing]`: when workers look, wait and give up."""

    model_config = STRICT

    heartbeat_s: float = Field(5, gt=0, description="How often a worker renews its own row.")
    quiet_s: float = Field(
        30,
        gt=0,
        validate_default=True,
        description="A worker without a heartbeat for so long counts as gone; its mails are taken back."
        " At least three heartbeats.",
    )
    settle_s: float = Field(
        600,
        gt=0,
        description="How long a mail stays in doubt before its policy is applied. Below the `dot` timeout a"
        " connection may still be alive, and the mail may arrive twice.",
    )
    grace_s: float = Field(
        10, gt=0, description="How long after its due time the reconciler looks at a mail that nobody took."
    )
    step_s: float = Field(
        10, gt=0, description="The reconciler's second look comes so much later; each further doubles."
    )
    most_step_s: float = Field(
        640, gt=0, validate_default=True, description="The longest time between two looks. At least `step_s`."
    )
    max_next_s: float = Field(86_400, gt=0, description="A mail overdue by more than this expires.")
    max_age_s: float = Field(432_000, gt=0, description="A mail wanted longer ago than this expires.")
    reconcile_s: float = Field(
        5, gt=0, description="How often every worker process reconciles, give or take."
    )
    prepare_s: float = Field(300, gt=0, description="A mail that a worker prepares for longer is taken back.")
    render_timeout_s: float = Field(
        30,
        gt=0,
        validate_default=True,
        description="How long a renderer may take for one lazy mail; one that has not come back then counts as a transient"
        " failure. At most half of `prepare_s`.",
    )
    try_next_s: float = Field(
        60,
        gt=0,
        description="The first wait after a transient failure; and the gap between copies of one mail.",
    )
    drain_s: float = Field(
        25, gt=0, description="How long a worker that was told to stop finishes what it began."
    )
    hook_timeout_s: float = Field(
        5,
        gt=0,
        description="How long each hook of an application may take; then the mail goes on without it.",
    )
    chunk_ms: float = Field(50, gt=0, description="How much SMTP time one settling transaction should cover.")

    @field_validator("quiet_s")
    @classmethod
    def _three_beats(cls, value: float, info: ValidationInfo) -> float:
        least = 3 * info.data.get("heartbeat_s", 0)
        if value < least:
            raise wrong(("", f"at least {least:g}, three times timing.heartbeat_s", value))
        return value

    @field_validator("render_timeout_s")
    @classmethod
    def _within_prepare(cls, value: float, info: ValidationInfo) -> float:
        most = info.data.get("prepare_s", 2 * value) / 2
        if value > most:
            raise wrong(("", f"at most {most:g}, half of timing.prepare_s", value))
        return value

    @field_validator("most_step_s")
    @classmethod
    def _not_below_step(cls, value: float, info: ValidationInfo) -> float:
        least = info.data.get("step_s", 0)
        if value < least:
            raise wrong(("", f"at least {least:g}, which is timing.step_s", value))
        return value

"""How long to wait for a server, in each phase of the conversation."""

from pydantic import BaseModel, Field

from mailfleet_workers.settings.problems import STRICT


class TimeoutSettings(BaseModel):
    """How long to wait for a server, by phase (RFC 5321 4.5.3.2)."""

    model_config = STRICT

    connect: float = Field(30, gt=0, description="Until the server's host answers the connection.")
    ehlo: float = Field(300, gt=0, description="The greeting, and the reply to EHLO.")
    command: float = Field(300, gt=0, description="The reply to MAIL, RCPT and each step of AUTH.")
    data: float = Field(120, gt=0, description="The reply to DATA.")
    block: float = Field(180, gt=0, description="Each 64 KiB of the message.")
    dot: float = Field(
        600, gt=0, description="The reply to the final dot. A shorter time makes doubts, not speed."
    )
    quit: float = Field(5, gt=0, description="The reply to QUIT, and to RSET after a refusal.")

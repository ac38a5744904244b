"""What the installation makes of every mail before it leaves: the table `[outgoing]`."""

import re

from pydantic import BaseModel, Field, field_validator

from mailfleet.errors import InvalidMail
from mailfleet.run_mode import RUN_MODES
from mailfleet.validation.addresses import address
from mailfleet.validation.domains import ascii_domain
from mailfleet.validation.headers import header_name
from mailfleet.validation.limits import DEFAULT_LIMITS
from mailfleet.validation.text import header_text
from mailfleet_schema.content import Address
from mailfleet_workers.outgoing import Outgoing
from mailfleet_workers.settings.problems import STRICT, wrong
from mailfleet_workers.settings.texts import Texts

_DOMAIN = re.compile(r"@[^@\s]+")


class OutgoingSettings(BaseModel):
    """`[outgoing]`: who really gets the mail, and what is written on it. The stored mail stays as it was written."""

    model_config = STRICT

    redirect_to: Texts = Field(
        (),
        description='Who gets every mail when `delivery = "redirect"`; the real recipients get nothing, and stand in a header.',
    )
    allow: Texts = Field(
        (),
        description='Who may get mail when `delivery = "allowlist"`: addresses, and domains as `@example.com`. All other'
        " recipients are left out; a mail without any left counts as a dry run.",
    )
    force_to: Texts = Field(
        (), description="Who gets every mail instead of those in To. Cc and Bcc still get theirs."
    )
    force_cc: Texts = Field((), description="The same for Cc, also of a mail that has none.")
    force_bcc: Texts = Field((), description="The same for Bcc.")
    force_prefix: str = Field("", description="Stands before every subject, with a blank.")
    dry_run_modes: Texts = Field(
        (), description="Run modes in which nothing leaves, whatever `delivery` says."
    )
    id_header: str = Field(
        "X-Biz-Id",
        description="The header with the mail's id, by which an answer is found again; empty for none.",
    )
    mark_header: str = Field("X-Biz-Mark", description="The header with the mail's mark; empty for none.")

    @field_validator("redirect_to", "force_to", "force_cc", "force_bcc")
    @classmethod
    def _addresses(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for position, one in enumerate(value):
            try:
                _address(one)
            except InvalidMail as error:
                raise wrong((f"[{position}]", f"one address ({error.reason})", one)) from None
        return value

    @field_validator("allow")
    @classmethod
    def _allowed(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for position, one in enumerate(value):
            try:
                _allowed(one)
            except InvalidMail as error:
                expected = f"an address, or a domain as @example.com ({error.reason})"
                raise wrong((f"[{position}]", expected, one)) from None
        return value

    @field_validator("force_prefix")
    @classmethod
    def _prefix(cls, value: str) -> str:
        try:
            return header_text(value, "force_prefix", 100)
        except InvalidMail as error:
            raise wrong(("", f"a text of one line ({error.reason})", value)) from None

    @field_validator("id_header", "mark_header")
    @classmethod
    def _header(cls, value: str) -> str:
        if value:
            try:
                header_name(value, "name")
            except InvalidMail as error:
                raise wrong(("", f"a header's name, or nothing ({error.reason})", value)) from None
        return value

    @field_validator("dry_run_modes")
    @classmethod
    def _modes(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for position, one in enumerate(value):
            if one not in RUN_MODES:
                raise wrong((f"[{position}]", f"one of {', '.join(RUN_MODES)}", one))
        return value

    def outgoing(self, *, dry_run_prefix: str, redirect: bool, restrict: bool) -> Outgoing:
        """What is made of mail of an account with *dry_run_prefix*; *redirect* and *restrict* say what `delivery` asks for."""
        return Outgoing(
            force_to=tuple(_address(one) for one in self.force_to),
            force_cc=tuple(_address(one) for one in self.force_cc),
            force_bcc=tuple(_address(one) for one in self.force_bcc),
            force_prefix=self.force_prefix,
            redirect_to=tuple(_address(one) for one in self.redirect_to) if redirect else (),
            allowed=frozenset(_allowed(one) for one in self.allow) if restrict else None,
            dry_run_prefix=dry_run_prefix,
            id_header=self.id_header,
            mark_header=self.mark_header,
        )


def _address(value: str) -> Address:
    return address(value, "address", DEFAULT_LIMITS)


def _allowed(value: str) -> str:
    if _DOMAIN.fullmatch(value):
        return f"@{ascii_domain(value[1:], 'domain')}".lower()
    return _address(value).address.lower()

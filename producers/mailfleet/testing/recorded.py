"""One mail that would have been sent, and how tests look for it."""

from dataclasses import dataclass
from datetime import datetime

from mailfleet.registry import renderer_of
from mailfleet.validation.rendered import checked_rendering
from mailfleet_schema.content import Address, AttachmentRef, Content, StoredRef
from mailfleet_schema.statements.insert import NewMail

#: How many mails a failed assertion lists.
_LISTED = 20


@dataclass(frozen=True, slots=True)
class Recorded:
    """A mail as it would have been stored: checked, with domains in ASCII. `mail` is the whole of it."""

    id: int
    app: str
    mail: NewMail

    @property
    def sender(self) -> Address | None:
        """Who it is from; None is the account's own sender."""
        return self.mail.content.from_

    @property
    def to(self) -> tuple[str, ...]:
        return _addresses(self.mail.content.to)

    @property
    def cc(self) -> tuple[str, ...]:
        return _addresses(self.mail.content.cc)

    @property
    def bcc(self) -> tuple[str, ...]:
        return _addresses(self.mail.content.bcc)

    @property
    def recipients(self) -> tuple[str, ...]:
        """Everybody who would get it."""
        return self.mail.content.recipients()

    @property
    def subject(self) -> str:
        return self.mail.content.subject

    @property
    def text(self) -> str | None:
        return self.mail.content.text

    @property
    def html(self) -> str | None:
        return self.mail.content.html

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return self.mail.content.headers

    @property
    def attachments(self) -> dict[str, bytes]:
        """Contents by file name, inline parts too; without those that a worker would take from a store."""
        refs = self.mail.content.attachments
        return {ref.filename: self.mail.blobs[ref.sha256] for ref in refs if isinstance(ref, AttachmentRef)}

    @property
    def stored(self) -> dict[str, tuple[str, str]]:
        """Store and key by file name, of the files that a worker would take from a store."""
        refs = self.mail.content.attachments
        return {ref.filename: (ref.store, ref.key) for ref in refs if isinstance(ref, StoredRef)}

    @property
    def renderer(self) -> str | None:
        """The name of the renderer that would write a lazy mail's body; its parameter is `mail.parameter`."""
        return self.mail.renderer

    def rendered(self) -> Content:
        """What a lazy mail would say: its renderer is called now, and its result checked as a worker does.

        Raises LookupError for a renderer that is not registered in this process, InvalidMail for a result that no worker
        takes, and what the renderer raises. A mail that is not lazy says what it says.
        """
        lazy = self.mail.renderer
        if lazy is None:
            return self.mail.content
        found = renderer_of(self.app, lazy)
        if found is None:
            raise LookupError(f"no renderer {lazy!r} is registered here")
        return checked_rendering(found.render(self.mail.parameter), self.mail.content).content

    @property
    def priority(self) -> str:
        """One of "high", "normal", "bulk"; what `send` and `post` take is always high."""
        return self.mail.priority.value

    @property
    def due_at(self) -> datetime | None:
        return self.mail.due_at

    @property
    def idempotency_key(self) -> str | None:
        return self.mail.key

    def __str__(self) -> str:
        return f"#{self.id} to {', '.join(self.recipients)}: {self.subject!r}"


def _addresses(addresses: tuple[Address, ...]) -> tuple[str, ...]:
    return tuple(one.address for one in addresses)


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a test looks for; None does not matter. `to` is any recipient, `contains` stands in a body or the subject."""

    to: str | None = None
    subject: str | None = None
    contains: str | None = None
    tag: str | None = None
    key: str | None = None

    def matches(self, one: Recorded) -> bool:
        """Whether *one* is such a mail. Addresses are compared without regard to case."""
        content = one.mail.content
        texts = (content.subject, content.text or "", content.html or "")
        return (
            (self.to is None or self.to.lower() in (address.lower() for address in one.recipients))
            and (self.subject is None or self.subject == content.subject)
            and (self.contains is None or any(self.contains in text for text in texts))
            and (self.tag is None or self.tag in one.mail.tags)
            and (self.key is None or self.key == one.mail.key)
        )

    def __str__(self) -> str:
        named = {name: getattr(self, name) for name in ("to", "subject", "contains", "tag", "key")}
        said = ", ".join(f"{name}={value!r}" for name, value in named.items() if value is not None)
        return f" with {said}" if said else ""


def complaint(wanted: Wanted, count: int | None, found: int, sent: list[Recorded]) -> str:
    """Why an assertion failed, with what was sent instead; *count* None is one or more."""
    expected = "a mail" if count is None else "1 mail" if count == 1 else f"{count} mails"
    lines = [f"expected {expected}{wanted}, found {found}; sent in all: {len(sent)}"]
    lines += [f"  {one}" for one in sent[:_LISTED]]
    if len(sent) > _LISTED:
        lines.append(f"  and {len(sent) - _LISTED} more")
    return "\n".join(lines)

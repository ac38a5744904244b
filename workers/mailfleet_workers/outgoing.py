"""What an installation makes of every mail before it leaves: other recipients, a prefix, headers to find it by; or nothing leaves.

A pure decision about one mail's content. The row keeps what the application has written.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from mailfleet_schema.content import Address, Content

#: Header fields beside those of the content, in their order.
Extra = tuple[tuple[str, str], ...]

#: What shows who would have got a redirected mail. Not Bcc: that is in no header.
REDIRECTED = "X-Mailfleet-Redirected-From"


@dataclass(frozen=True, slots=True)
class Leaving:
    """The content as it leaves, with `headers` beside its own; with `dry_run` it does not.

    `note` is the reason that a mail which was sent so ends with: "redirected", "restricted"; None where everybody gets it.
    """

    content: Content
    headers: Extra = ()
    dry_run: bool = False
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Outgoing:
    """How mail of one account is changed. Nothing is by default.

    `force_to`, `force_cc` and `force_bcc` each replace that field alone, if they are not empty; who is in the others still
    gets the mail. `redirect_to` not empty drops all real recipients. `allowed` not None keeps only those recipients: addresses
    in lower case, or domains as `@example.com`; a mail without any leaves nowhere. A subject that begins with
    `dry_run_prefix`, if that is not empty, makes a dry run. `id_header` and `mark_header` name the fields that carry the
    mail's id and mark; empty is none.
    """

    force_to: tuple[Address, ...] = ()
    force_cc: tuple[Address, ...] = ()
    force_bcc: tuple[Address, ...] = ()
    force_prefix: str = ""
    redirect_to: tuple[Address, ...] = ()
    allowed: frozenset[str] | None = None
    dry_run_prefix: str = ""
    id_header: str = ""
    mark_header: str = ""

    def of(self, content: Content, *, mail_id: int | None, mark: str | None) -> Leaving:
        """*content* of mail *mail_id* as it leaves; None has no id that could be found again."""
        dry_run = bool(self.dry_run_prefix) and content.subject.startswith(self.dry_run_prefix)
        headers: list[tuple[str, str]] = []
        if self.id_header and mail_id is not None:
            headers.append((self.id_header, str(mail_id)))
        if self.mark_header and mark:
            headers.append((self.mark_header, mark))
        if content.headers:
            # What an answer is found by is ours to say.
            own = {self.id_header.lower(), self.mark_header.lower()}
            kept = tuple((name, value) for name, value in content.headers if name.lower() not in own)
            content = replace(content, headers=kept)
        if self.force_prefix:
            content = replace(content, subject=f"{self.force_prefix} {content.subject}")
        if self.force_to or self.force_cc or self.force_bcc:
            content = replace(
                content,
                to=self.force_to or content.to,
                cc=self.force_cc or content.cc,
                bcc=self.force_bcc or content.bcc,
            )
        if self.redirect_to:
            shown = ", ".join(one.address for one in (*content.to, *content.cc))
            headers += [(REDIRECTED, shown)] if shown else []
            content = replace(content, to=self.redirect_to, cc=(), bcc=())
            return Leaving(content, tuple(headers), dry_run, "redirected")
        if self.allowed is not None:
            let = replace(
                content, to=self._let(content.to), cc=self._let(content.cc), bcc=self._let(content.bcc)
            )
            if not let.recipients():
                return Leaving(content, tuple(headers), dry_run=True)
            restricted = let.recipients() != content.recipients()
            return Leaving(let, tuple(headers), dry_run, "restricted" if restricted else None)
        return Leaving(content, tuple(headers), dry_run)

    def _let(self, addresses: Sequence[Address]) -> tuple[Address, ...]:
        allowed = self.allowed or frozenset()
        return tuple(
            one
            for one in addresses
            if one.address.lower() in allowed or f"@{one.address.rpartition('@')[2].lower()}" in allowed
        )


#: Nothing is made of a mail.
AS_IT_IS = Outgoing()

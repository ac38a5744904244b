"""What a renderer made, checked as the content of a mail is: by the same rules, before anything is done with it."""

from typing import NamedTuple

from mailfleet.errors import InvalidMail
from mailfleet.registry import Rendered
from mailfleet.validation.attachments import NO_FILES, Files, files
from mailfleet.validation.limits import DEFAULT_LIMITS, Limits
from mailfleet.validation.text import header_text, octets, sized
from mailfleet_schema.content import AttachmentRef, Content, FileRef


class CheckedRendering(NamedTuple):
    """The whole content, and the new files by SHA-256 in hex."""

    content: Content
    blobs: dict[str, bytes]


def checked_rendering(made: object, content: Content, *, limits: Limits = DEFAULT_LIMITS) -> CheckedRendering:
    """*content* with what *made*, a `Rendered`, says in its place.

    Raises InvalidMail for the first thing that is wrong, also where there is no body in the end.
    """
    if not isinstance(made, Rendered):
        raise InvalidMail("result", f"expected Rendered, got {type(made).__name__}")
    subject, text, html = content.subject, content.text, content.html
    if made.subject is not None:
        subject = octets(header_text(made.subject, "subject", limits.subject), "subject", limits.subject)
    if made.text is not None:
        text, _ = sized(made.text, "text", limits.text)
    if made.html is not None:
        html, _ = sized(made.html, "html", limits.html)
    if text is None and html is None:
        raise InvalidMail("result", "expected a text or HTML body, got none")
    new = files(made.attachments or (), made.inline or (), limits)
    refs = _refs(made, content.attachments, new)
    if len(refs) > limits.attachments:
        raise InvalidMail("attachments", f"expected at most {limits.attachments} files, got {len(refs)}")
    if html is None and any(ref.disposition == "inline" for ref in refs):
        raise InvalidMail("inline", "inline parts belong to HTML, and there is none")
    named = [ref.content_id for ref in refs if ref.content_id is not None]
    if len(named) > len(set(named)):
        raise InvalidMail("inline", "two parts of the mail have one content id")
    # Those that are still in a store are weighed when they are taken from it.
    files_size = sum(ref.size for ref in refs if isinstance(ref, AttachmentRef))
    size = files_size + sum(len(body.encode()) for body in (text, html) if body)
    if size > limits.total_bytes:
        raise InvalidMail(
            "attachments", f"expected at most {limits.total_bytes} bytes with bodies, got {size}"
        )
    done = Content(
        message_id=content.message_id,
        from_=content.from_,
        to=content.to,
        cc=content.cc,
        bcc=content.bcc,
        reply_to=content.reply_to,
        subject=subject,
        text=text,
        html=html,
        headers=content.headers,
        attachments=refs,
        list_unsubscribe=content.list_unsubscribe,
    )
    return CheckedRendering(done, dict(new.blobs))


def _refs(made: Rendered, before: tuple[FileRef, ...], new: Files) -> tuple[FileRef, ...]:
    """Attachments, then inline parts; those that the renderer said nothing of are the mail's own."""
    if new is NO_FILES and made.attachments is None and made.inline is None:
        return before
    kept = {
        "attachment": made.attachments is None,
        "inline": made.inline is None,
    }
    refs = [*new.refs, *(ref for ref in before if kept[ref.disposition])]
    return tuple(sorted(refs, key=lambda ref: ref.disposition == "inline"))

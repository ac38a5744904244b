"""The parts of a mail, found in its bytes."""

import email
import random
from email.message import EmailMessage, Message

from hypothesis import given, settings
from hypothesis import strategies as st

from mailfleet_workers.catcher_web import parts, transfer
from mailfleet_workers.catcher_web.parts import Part, structure


def mail(*, attachments: int = 1) -> bytes:
    message = EmailMessage()
    message["Subject"] = "Grüße"
    message.set_content("text ä\n")
    message.add_alternative("<p>html</p>", subtype="html")
    message.get_payload()[1].add_related(b"\x89PNG", "image", "png", cid="<logo@x>")  # type: ignore[union-attr,index]
    for number in range(attachments):
        message.add_attachment(
            bytes(range(256)), maintype="application", subtype="x", filename=f"ä{number}.bin"
        )
    return message.as_bytes(policy=message.policy.clone(linesep="\r\n"))


def content(data: bytes, part: Part) -> bytes:
    return b"".join(transfer.decoded(data, part.start, part.end, part.encoding))


def test_leaves_in_their_order() -> None:
    """Each leaf is found with its type, names and content, whatever it is nested in."""
    data = mail()

    found = structure(data)

    assert found.header.get("subject") == "Grüße"
    assert [(part.index, part.kind, part.filename, part.content_id) for part in found.parts] == [
        (1, "text/plain", None, None),
        (2, "text/html", None, None),
        (3, "image/png", None, "logo@x"),
        (4, "application/x", "ä0.bin", None),
    ]
    assert content(data, found.parts[0]).decode() == "text ä\r\n"
    assert content(data, found.parts[2]) == b"\x89PNG"
    assert content(data, found.parts[3]) == bytes(range(256))
    assert [part.attached for part in found.parts] == [False, False, False, True]


def test_same_leaves_as_the_standard_library() -> None:
    """Type and content of all leaves are what Python's own parser finds, with CRLF and with LF."""
    for data in (mail(attachments=3), mail(attachments=3).replace(b"\r\n", b"\n")):
        theirs = [part for part in email.message_from_bytes(data).walk() if not part.is_multipart()]
        ours = structure(data).parts
        assert [part.kind for part in ours] == [part.get_content_type() for part in theirs]
        for our, their in zip(ours, theirs, strict=True):
            assert content(data, our).rstrip() == decoded(their).rstrip()


def decoded(part: "Message[str, str]") -> bytes:
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


def test_boundary_at_the_beginning_of_another() -> None:
    """A boundary is found only where its line ends, also where another begins with it, and without a last line."""
    data = (
        b"Content-Type: multipart/mixed; boundary=a\r\n\r\nprologue\r\n--a\r\n"
        b"Content-Type: multipart/mixed; boundary=ab\r\n\r\n--ab\r\n\r\none\r\n--ab--\r\n--a \r\n\r\ntwo\r\n--abc\r\n"
    )

    assert [content(data, part) for part in structure(data).parts] == [b"one", b"two\r\n--abc\r\n"]


def test_broken_mails_have_a_leaf() -> None:
    """Nothing at all, no header, no boundary, a boundary that never comes: there is one text to read."""
    for data in (
        b"",
        b"\r\n",
        b"just text",
        b"Content-Type: multipart/mixed\r\n\r\ntext",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\ntext",
        b"Content-Type: ;;;=\r\n\r\ntext",
    ):
        (part,) = structure(data).parts
        assert part.kind == "text/plain"
        assert data[part.start : part.end] in {b"text", b"just text", b""}


def test_bounds() -> None:
    """Depth and number of parts end somewhere, and it is said."""
    deep = b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\r\n\r\n--b%d\r\n" % (n, n) for n in range(500)
    )
    wide = b"Content-Type: multipart/mixed; boundary=b\r\n\r\n" + b"--b\r\n\r\nx\r\n" * 10_000

    assert len(structure(deep).parts) == 1
    assert len(structure(wide).parts) == parts.MAX_PARTS
    assert structure(wide).truncated
    assert not structure(mail()).truncated


@settings(max_examples=200)
@given(st.integers(0, 2**32), st.integers(1, 40))
def test_damaged_mails_are_read(seed: int, damages: int) -> None:
    """A mail with bytes changed, removed and repeated anywhere raises nothing, and its leaves lie inside of it."""
    rng = random.Random(seed)
    data = bytearray(mail())
    for _ in range(damages):
        at = rng.randrange(len(data))
        length = rng.randrange(1, 30)
        match rng.randrange(3):
            case 0:
                data[at : at + length] = rng.randbytes(length)
            case 1:
                del data[at : at + length]
            case _:
                data[at:at] = data[rng.randrange(len(data)) :][:length]
    for part in structure(bytes(data)).parts:
        assert 0 <= part.start <= part.end <= len(data)
        content(bytes(data), part)

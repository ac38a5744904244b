"""What the demo's mails look like: people in six scripts, a small PDF and a small image, made here."""

import struct
import zlib
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who gets mail; `mailbox` is the local part."""

    name: str
    mailbox: str


#: Latin, Cyrillic, Greek, Arabic, Han and Devanagari, and names that header syntax finds hard.
PEOPLE = (
    Person("Ada Lovelace", "ada"),
    Person("José Núñez", "jose"),
    Person("Zoë Müller-Lüdenscheid", "zoe"),
    Person('O\'Brien, Conan (the "Barbarian")', "conan"),
    Person("Анна Каренина", "anna"),
    Person("Юрий Долгорукий", "yuri"),
    Person("Ελένη Παπαδοπούλου", "eleni"),
    Person("Νίκος Καζαντζάκης", "nikos"),
    Person("فاطمة الفهرية", "fatima"),
    Person("محمد بن موسى", "musa"),
    Person("李清照", "liqingzhao"),
    Person("王羲之", "wangxizhi"),
    Person("मीराबाई", "meera"),
    Person("आर्यभट", "aryabhata"),
)


def pdf(title: str) -> bytes:
    """A PDF of one page that says *title*, which is ASCII."""
    stream = f"BT /F1 24 Tf 72 720 Td ({title}) Tj ET".encode("ascii")
    objects = (
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        (
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
            b" /Resources << /Font << /F1 5 0 R >> >> >>"
        ),
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(stream), stream),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    )
    body = bytearray(b"%PDF-1.4\n")
    offsets = []
    for number, content in enumerate(objects, start=1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = len(body)
    body += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for offset in offsets:
        body += b"%010d 00000 n \n" % offset
    body += b"trailer << /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, table)
    return bytes(body)


def png(red: int, green: int, blue: int, *, width: int = 96, height: int = 32) -> bytes:
    """A PNG image of one colour that fades from left to right."""
    row = b"\0" + b"".join(
        bytes(channel * (width - x // 2) // width for channel in (red, green, blue)) for x in range(width)
    )
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + _chunk(b"IHDR", header)
        + _chunk(b"IDAT", zlib.compress(row * height, 9))
        + _chunk(b"IEND", b"")
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

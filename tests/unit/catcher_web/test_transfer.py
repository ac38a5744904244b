"""Transfer encodings undone in pieces."""

import base64
import binascii
import quopri

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailfleet_workers.catcher_web import transfer


def undone(data: bytes, encoding: str) -> bytes:
    whole = b"".join(transfer.decoded(data, 0, len(data), encoding))
    assert transfer.size(data, 0, len(data), encoding) == len(whole)
    return whole


@pytest.fixture(params=[7, 64, 256 * 1024], autouse=True)
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same facts hold whatever the pieces are."""
    monkeypatch.setattr(transfer, "BLOCK", request.param)


CONTENTS = [b"", b"a", b"ab", b"abc", bytes(range(256)) * 7, b"x" * 5000, b"line\r\nline = \xe4 \t\r\n" * 40]


@pytest.mark.parametrize("content", CONTENTS)
def test_base64(content: bytes) -> None:
    """Content comes back, in lines or in one, without its padding, and with letters in between that are none."""
    assert undone(base64.encodebytes(content), "base64") == content
    assert undone(base64.b64encode(content).rstrip(b"="), "base64") == content
    assert undone(b"!".join(base64.encodebytes(content).split(b"\n")), "base64") == content


@pytest.mark.parametrize("content", CONTENTS)
def test_quoted_printable(content: bytes) -> None:
    """Content comes back, in short lines or in one line that never ends."""
    assert undone(quopri.encodestring(content), "quoted-printable") == content
    endless = b"".join(b"=%02X" % byte for byte in content)
    assert undone(endless, "quoted-printable") == content


@pytest.mark.parametrize("encoding", ["7bit", "8bit", "binary", "x-unknown", ""])
def test_other_encodings_are_none(encoding: str) -> None:
    """What is not encoded, or in a way that nobody knows, is taken as it is."""
    assert undone(b"=41 YQ==", encoding) == b"=41 YQ=="


def test_bytes_after_padding() -> None:
    """Two encoded texts one after the other, as mailing lists make them, do not raise."""
    assert undone(b"YQ==YWJj", "base64") == binascii.a2b_base64(b"YQYWJj==")


@given(st.binary(max_size=300), st.sampled_from(["base64", "quoted-printable"]))
def test_any_bytes_are_decoded(data: bytes, encoding: str) -> None:
    """Nothing raises."""
    undone(data, encoding)

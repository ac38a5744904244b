"""Which mechanism of AUTH is tried, and what is said in it."""

import pytest

from mailfleet_workers.account import Mechanism
from mailfleet_workers.accounts.credentials import Credentials
from mailfleet_workers.secret import Secret
from mailfleet_workers.smtp.mechanisms import choose, exchange


@pytest.mark.parametrize(
    ("offered", "kind", "wanted", "chosen"),
    [
        ("CRAM-MD5 LOGIN PLAIN", "password", None, "PLAIN"),
        ("cram-md5 login", "password", None, "LOGIN"),
        ("XOAUTH2 CRAM-MD5", "password", None, "CRAM-MD5"),
        ("XOAUTH2 GSSAPI", "password", None, None),
        ("", "password", None, None),
        ("PLAIN LOGIN CRAM-MD5", "password", "CRAM-MD5", "CRAM-MD5"),
        ("PLAIN LOGIN", "password", "CRAM-MD5", None),
        ("PLAIN XOAUTH2", "token", None, "XOAUTH2"),
        ("PLAIN LOGIN OAUTHBEARER", "token", None, None),
        ("XOAUTH2X PLAIN", "token", "XOAUTH2", None),
    ],
)
def test_one_mechanism_is_chosen(
    offered: str, kind: str, wanted: Mechanism | None, chosen: str | None
) -> None:
    """The first of ours that is offered for what there is; what the account wants, or none."""
    assert choose(offered, kind, wanted) == chosen


def test_xoauth2_is_said_as_the_providers_want_it() -> None:
    """Google's and Microsoft's example: user and bearer between 0x01, and an empty answer to the reason of a refusal."""
    said = exchange("XOAUTH2", Credentials("someuser@example.com", Secret.literal("ya29.vF9dft4"), "token"))
    assert said.first == b"user=someuser@example.com\x01auth=Bearer ya29.vF9dft4\x01\x01"
    assert [step("eyJzdGF0dXMiOiI0MDEifQ==") for step in said.steps] == [b""]
    assert "ya29" not in repr(said)


def test_a_challenge_is_read_only_where_it_matters() -> None:
    """CRAM-MD5 answers it (RFC 2195's example); one that is no base64 ends the exchange."""
    said = exchange("CRAM-MD5", Credentials("tim", Secret.literal("tanstaaftanstaaf")))
    challenge = "PDE4OTYuNjk3MTcwOTUyQHBvc3RvZmZpY2UucmVzdG9uLm1jaS5uZXQ+"
    assert said.steps[0](challenge) == b"tim b913a602c7eda7a495b4e6e7334d3890"
    with pytest.raises(ValueError):
        said.steps[0]("a")

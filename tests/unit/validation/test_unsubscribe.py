import pytest

from tests.unit.validation.checking import check, refused


@pytest.mark.parametrize(
    "uri",
    [
        "https://example.net",
        "https://example.net/u/17?token=a-b_c~d&x=%C3%A9",
        "https://mail.example.net:8443/unsubscribe",
        "https://localhost/u",
        "mailto:leave@example.net",
        "mailto:leave+17@example.net?subject=leave",
        "mailto:leave@example.net?subject=leave%2017&body=x",
    ],
)
def test_good_uris(uri: str) -> None:
    """Pages and mail addresses are kept as given, one or a list."""
    assert check(list_unsubscribe=uri).content.list_unsubscribe == (uri,)
    assert check(list_unsubscribe=[uri, "https://example.org/"]).content.list_unsubscribe == (
        uri,
        "https://example.org/",
    )


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "example.net",
        "http://example.net/",
        "HTTPS://example.net/",
        "ftp://example.net/",
        "javascript:alert(1)",
        "<https://example.net/>",
        "https://example.net/>, <https://evil.example/",
        "https://example.net/a,b",
        "https://example.net/a b",
        'https://example.net/"a"',
        "https://example.net/é",
        "https://bücher.example/",
        "https://user:secret@example.net/",
        "https://example.net@evil.example/",
        "https://example.net/#fragment",
        "https://example.net/%0d%0aBcc:x",
        "https://example.net/%00",
        "https://example.net/%7F",
        "https://example.net/%",
        "https://example.net/%zz",
        "https://example.net:0/",
        "https://example.net:99999/",
        "https://127.0.0.1/",
        "https://[::1]/",
        "https://example/",
        "https://-x.example/",
        "https://",
        "https:///u",
        "https://example.net/" + "x" * 900,
        "mailto:",
        "mailto:leave",
        "mailto:a@example.net,b@example.net",
        "mailto:a%40example.net",
        "mailto:<a@example.net>",
        "mailto:zoë@example.net",
        "mailto:a@example.net?cc=b@example.net",
        "mailto:a@example.net?bcc=b@example.net&subject=x",
        "mailto:a@example.net?subject=x&to=b@example.net",
        "mailto:a@example.net?subject=x%0D%0ABcc:b@example.net",
        "mailto:a@example.net?",
        "mailto:|cmd@example.net",
        "data:text/html,x",
    ],
)
def test_hostile_uris(uri: str) -> None:
    """Everything else is refused by entry."""
    assert refused(list_unsubscribe=["https://example.net/", uri]).field == "list_unsubscribe[1]"


@pytest.mark.parametrize("value", [None, b"https://example.net/", 5, {"https://example.net/"}])
def test_wrong_types(value: object) -> None:
    """A URI or a list of at most five."""
    assert refused(list_unsubscribe=value).field == "list_unsubscribe"
    assert refused(list_unsubscribe=[value]).field == "list_unsubscribe[0]"
    assert refused(list_unsubscribe=["https://example.net/"] * 6).field == "list_unsubscribe"

"""What an operator's word for a scope means."""

import pytest

from mailfleet_workers.operators.scope import InvalidScope, Scope, parse_scope


@pytest.mark.parametrize(
    ("text", "scope", "key"),
    [
        ("all", "all", "*"),
        ("account:default", "account", "default"),
        ("app:billing", "app", "billing"),
        ("host:SMTP.Example.com", "host", "smtp.example.com"),
        ("host:smtp.example.com:587", "host", "smtp.example.com"),
        ("host:smtp.example.com:2525", "host", "smtp.example.com:2525"),
        ("host:2001:db8::25", "host", "2001:db8::25"),
        ("recipient:Example.NET", "recipient", "example.net"),
        ("recipient:bücher.example", "recipient", "xn--bcher-kva.example"),
    ],
)
def test_scopes(text: str, scope: str, key: str) -> None:
    """The key is what gates have: a host in lower case without a usual port, a domain in ASCII."""
    assert parse_scope(text) == Scope(scope, key)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "account:NAME, host:NAME, recipient:DOMAIN, app:NAME or all"),
        ("default", "account:NAME, host:NAME, recipient:DOMAIN, app:NAME or all"),
        ("all:x", "account:NAME, host:NAME, recipient:DOMAIN, app:NAME or all"),
        ("ALL", "account:NAME, host:NAME, recipient:DOMAIN, app:NAME or all"),
        ("account:", "account:NAME with a-z, 0-9 and '-', beginning with a letter"),
        ("app:Billing", "app:NAME with a-z, 0-9 and '-', beginning with a letter"),
        ("host:", "host:NAME or host:NAME:PORT, a server's name or address as an account has it"),
        ("host:a b", "host:NAME or host:NAME:PORT, a server's name or address as an account has it"),
        (
            "host:mx.example:70000",
            "host:NAME or host:NAME:PORT, a server's name or address as an account has it",
        ),
        ("recipient:ada@example.net", "recipient:DOMAIN (the address has more than one @"),
        ("recipient:", "recipient:DOMAIN ("),
    ],
)
def test_what_is_no_scope(text: str, expected: str) -> None:
    """The error says what was expected."""
    with pytest.raises(InvalidScope) as refused:
        parse_scope(text)
    assert str(refused.value).startswith(f"scope: expected {expected}")
    assert str(refused.value).endswith(f"got {text!r}")


def test_a_scope_is_written_as_it_is_read() -> None:
    """Its text is a word that means it again."""
    for text in ("all", "account:default", "host:mx.example:2525", "recipient:example.net", "app:billing"):
        assert str(parse_scope(text)) == text

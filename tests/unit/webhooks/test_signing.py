"""The signature of a request: against the scheme's published example, and what is no secret."""

import base64

import pytest

from mailfleet.errors import SettingsError
from mailfleet_workers.secret import Secret
from mailfleet_workers.webhooks.signing import keys_of, signed

PUBLISHED = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"k" * 32).decode()


def keys(value: str) -> tuple[bytes, ...]:
    return keys_of(Secret("env:X", key="webhooks.shop.secret"), {"X": value})


def test_published_example() -> None:
    """Standard Webhooks' own libraries are tested with this id, time, body and secret."""
    headers = signed(
        "msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}', at=1614265330, keys=keys(PUBLISHED)
    )
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_each_secret_signs() -> None:
    """While a secret is replaced, old and new one sign, so that the endpoint may know either."""
    both = signed("a", b"{}", at=1, keys=keys(f"{PUBLISHED} {OTHER}"))["webhook-signature"].split()
    each = [signed("a", b"{}", at=1, keys=keys(one))["webhook-signature"] for one in (PUBLISHED, OTHER)]
    assert both == each


@pytest.mark.parametrize(
    "value",
    [
        "hunter2",
        "whsec_hunter2",
        "whsec_" + base64.b64encode(b"short").decode(),
        base64.b64encode(b"k" * 32).decode(),
        " ",
        f"{OTHER} whsec_x",
    ],
)
def test_what_is_no_secret(value: str) -> None:
    """It is refused with its key, and not shown."""
    with pytest.raises(
        SettingsError, match=r"webhooks\.shop\.secret: expected whsec_ and 24 to 64"
    ) as caught:
        keys(value)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None

"""Reading docker-compose.yml for those who run it without Docker."""

import pytest

from tests.stack.compose import Port, load, seconds, services


def test_merges_and_anchors_are_resolved() -> None:
    """A pool has what both anchors above it say."""
    pool = services(load())["billing-workers"]
    assert pool.ours
    assert pool.environment["MAILFLEET_DATABASE_URL"] == "file:/run/secrets/database_url"
    assert pool.environment["MAILFLEET_POOL__LISTEN"] == "0.0.0.0:9402"
    assert pool.stop_s == 45
    assert pool.ports == (Port(9402),)


def test_everything_comes_after_what_it_needs() -> None:
    """The order of the services is an order in which they can be started."""
    ordered = list(services(load()).values())
    seen: set[str] = set()
    for service in ordered:
        assert set(service.depends_on) <= seen
        seen.add(service.name)
    assert len(seen) == 9


def test_a_circle_is_refused() -> None:
    """Two services that wait for each other would never start."""
    other = {"condition": "service_started"}
    circle = {"services": {"a": {"depends_on": {"b": other}}, "b": {"depends_on": {"a": other}}}}
    with pytest.raises(ValueError, match="depend on each other"):
        services(circle)


@pytest.mark.parametrize(("duration", "expected"), [("45s", 45), ("1m", 60), ("1m30s", 90), ("0s", 0)])
def test_durations(duration: str, expected: float) -> None:
    """Minutes and seconds, as the specification writes them."""
    assert seconds(duration) == expected


@pytest.mark.parametrize("duration", ["", "45", "1h", "s", "1.5s", "45 s"])
def test_other_durations_are_refused(duration: str) -> None:
    """What is not understood is not taken for nothing."""
    with pytest.raises(ValueError, match="duration"):
        seconds(duration)


@pytest.mark.parametrize(
    "port", ["8025:8025", "0.0.0.0:8025:8025", {"target": 8025}, {"target": 8025, "host_ip": "0.0.0.0"}]
)
def test_a_port_that_is_open_to_others_is_refused(port: object) -> None:
    """Every published port is one of loopback."""
    with pytest.raises(ValueError, match=r"127\.0\.0\.1"):
        services({"services": {"catcher": {"ports": [port]}}})


def test_a_check_by_shell_is_refused() -> None:
    """Only a command as a list can be run anywhere without guessing how it is quoted."""
    with pytest.raises(ValueError, match="CMD"):
        services({"services": {"catcher": {"healthcheck": {"test": ["CMD-SHELL", "true"]}}}})

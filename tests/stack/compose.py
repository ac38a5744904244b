"""What docker-compose.yml says, as far as somebody needs it who runs its services without Docker.

It reads the forms that our own file uses and refuses others; whether the file is right is another test's question.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
FILE = ROOT / "docker-compose.yml"

Condition = Literal["service_started", "service_healthy", "service_completed_successfully"]

_PUBLISHED = re.compile(r"127\.0\.0\.1:\$\{(?P<variable>[A-Z_]+):-(?P<usual>\d+)\}:(?P<inside>\d+)")
_DURATION = re.compile(r"(?:(\d+)m)?(?:(\d+)s)?")


@dataclass(frozen=True)
class Port:
    """A port that a service listens on and that is published on loopback.

    Attributes:
        inside: what the service itself calls it.
        variable: names another one to publish it on; None where any free one will do.
        usual: where it is published without that variable; None where any free one will do.
    """

    inside: int
    variable: str | None = None
    usual: int | None = None


@dataclass(frozen=True)
class Service:
    """One service. `command` is empty where the image's own is run; `health` is the check's command, without `CMD`.

    `ours` says whether it runs from the image that this project builds. `stop_s` is how long it may take to end,
    `healthy_s` how long to become healthy at the start, `check_s` how long one health check.
    """

    name: str
    ours: bool
    command: tuple[str, ...]
    environment: Mapping[str, str]
    health: tuple[str, ...]
    depends_on: Mapping[str, Condition]
    ports: tuple[Port, ...]
    stop_s: float
    healthy_s: float
    check_s: float
    raw: Mapping[str, Any]


def load(path: Path = FILE) -> Mapping[str, Any]:
    """The file with its anchors and merges resolved."""
    document: Mapping[str, Any] = YAML(typ="safe", pure=True).load(path)
    return document


def services(document: Mapping[str, Any]) -> dict[str, Service]:
    """All services, each after those that it depends on."""
    found = {name: _service(name, raw) for name, raw in document["services"].items()}
    ordered: dict[str, Service] = {}
    while len(ordered) < len(found):
        ready = [
            name for name, one in found.items() if name not in ordered and set(one.depends_on) <= set(ordered)
        ]
        if not ready:
            raise ValueError(f"services depend on each other: {sorted(set(found) - set(ordered))}")
        ordered |= {name: found[name] for name in ready}
    return ordered


def seconds(duration: str) -> float:
    """`1m30s` as 90."""
    match = _DURATION.fullmatch(duration)
    if not match or not duration:
        raise ValueError(f"not a duration of minutes and seconds: {duration!r}")
    minutes, rest = match.groups(default="0")
    return 60.0 * int(minutes) + int(rest)


def _service(name: str, raw: Mapping[str, Any]) -> Service:
    health = raw.get("healthcheck", {})
    test = tuple(health.get("test", ()))
    if test and test[0] != "CMD":
        raise ValueError(f"{name}: a health check is expected as a list after CMD, not {test[0]!r}")
    check_s = seconds(health.get("timeout", "30s"))
    patience = seconds(health.get("start_period", "0s")) + health.get("retries", 3) * (
        seconds(health.get("interval", "30s")) + check_s
    )
    return Service(
        name=name,
        ours="build" in raw,
        command=tuple(raw.get("command", ())),
        environment=dict(raw.get("environment", {})),
        health=test[1:],
        depends_on={other: how["condition"] for other, how in raw.get("depends_on", {}).items()},
        ports=tuple(_port(name, one) for one in raw.get("ports", ())),
        stop_s=seconds(raw.get("stop_grace_period", "10s")),
        healthy_s=patience,
        check_s=check_s,
        raw=raw,
    )


def _port(service: str, raw: str | Mapping[str, Any]) -> Port:
    if isinstance(raw, str):
        if not (match := _PUBLISHED.fullmatch(raw)):
            raise ValueError(f"{service}: expected 127.0.0.1:${{NAME:-port}}:port, not {raw!r}")
        return Port(int(match["inside"]), match["variable"], int(match["usual"]))
    if dict(raw) != {"target": raw.get("target"), "host_ip": "127.0.0.1"}:
        raise ValueError(f"{service}: expected a target and the host_ip 127.0.0.1, not {raw!r}")
    return Port(int(raw["target"]))

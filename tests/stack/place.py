"""From a container to this machine: what a service's command, variables and health check are here.

Paths become paths of the stack's directory, ports those that are free here, and the hosts in the settings file become
loopback. Nothing else of a command is changed, so what runs here is what runs there.
"""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.services.private import HOST
from tests.stack.compose import ROOT, Service

SETTINGS = ROOT / "deploy/compose/mailfleet.toml"
#: Where the containers have it.
SETTINGS_INSIDE = "/etc/mailfleet/mailfleet.toml"


@dataclass(frozen=True)
class Place:
    """Where one service of ours lives on this machine.

    Attributes:
        service: as the file has it.
        directory: its own; `data` in it is its `/var/lib/mailfleet`.
        secrets: the directory that is `/run/secrets` in a container.
        ports: the port here for each service and port there.
        programs: the directory of this project's `mailfleet` and `python`.
    """

    service: Service
    directory: Path
    secrets: Path
    ports: Mapping[tuple[str, int], int]
    programs: Path

    @property
    def command(self) -> list[str]:
        """What the service runs."""
        return [self.here(part) for part in self.service.command]

    @property
    def health(self) -> list[str]:
        """What tells whether it is well: status 0."""
        return [self.here(part) for part in self.service.health]

    def here(self, text: str) -> str:
        """*text* with the container's paths and listening ports replaced."""
        for inside, outside in {
            SETTINGS_INSIDE: SETTINGS,
            "/run/secrets": self.secrets,
            "/var/lib/mailfleet": self.directory / "data",
            "/opt/examples": ROOT / "deploy/examples",
        }.items():
            text = text.replace(inside, str(outside))
        for port in self.service.ports:
            outside_port = self.ports[self.service.name, port.inside]
            text = re.sub(rf"(?:0\.0\.0\.0|127\.0\.0\.1):{port.inside}\b", f"{HOST}:{outside_port}", text)
        return text

    def environ(self, base: Mapping[str, str]) -> dict[str, str]:
        """The service's variables over those of *base* that do not steer mailfleet or Python."""
        kept = {
            name: value
            for name, value in base.items()
            if not name.startswith(("MAILFLEET_", "PYTHON", "EXAMPLE_"))
        }
        kept["PATH"] = f"{self.programs}:{kept.get('PATH', '/usr/bin:/bin')}"
        kept |= {"PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1"}
        own = {name: self.here(value) for name, value in self.service.environment.items()}
        return kept | own | (hosts(SETTINGS, self.ports) if "MAILFLEET_CONFIG" in own else {})


def hosts(settings: Path, ports: Mapping[tuple[str, int], int]) -> dict[str, str]:
    """Variables that send the accounts in *settings* whose server is a service to where that is here."""
    found: dict[str, str] = {}
    for name, account in tomllib.loads(settings.read_text())["accounts"].items():
        if (outside := ports.get((account.get("host", ""), account.get("port", 0)))) is not None:
            variable = f"MAILFLEET_ACCOUNTS__{name.upper().replace('-', '_')}"
            found |= {f"{variable}__HOST": HOST, f"{variable}__PORT": str(outside)}
    return found


def exports(environ: Mapping[str, str], names: Sequence[str]) -> str:
    """Lines for a shell that set the variables *names* as they are in *environ*."""
    quoted = {name: environ[name].replace("'", "'\\''") for name in names}
    return "".join(f"export {name}='{value}'\n" for name, value in quoted.items())

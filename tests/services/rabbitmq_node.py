"""What sets a private RabbitMQ node apart from any other on the machine: its files, its ports and its environment.

Nothing below `/etc/rabbitmq` or `/var/lib/rabbitmq` is read. Every Erlang process of the node, command line tools
included, talks on loopback, and finds the node through a port mapper (`epmd`) of its own: Erlang's usual one is a daemon
on all interfaces that all nodes of a machine share and that outlives them.
"""

import os
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path

from tests.services.ports import free_port
from tests.services.private import HOST

NODE = "mailfleet-test@localhost"
ADMIN = "mailfleet_admin"
# Two schedulers of each kind: more would only cost memory and time to start.
ERLANG = "+S 2:2 +SDcpu 2:2 +SDio 2 +A 4"
# How often a quorum queue counts its messages, and how often a channel looks whether a consumer has held a delivery for
# too long: 5 s and 60 s by default.
TICKS = "{quorum_tick_interval, 1000}, {channel_tick_interval, 1000}"


# All ports of one node, on loopback: `amqp` for clients, `management` for the HTTP page and API, `epmd` for the node's own
# port mapper, `dist` for other Erlang processes such as `rabbitmqctl`.
Ports = dict[str, int]
NAMES = ("amqp", "management", "epmd", "dist")


def free_ports() -> Ports:
    """Four different ones that nothing listened on a moment ago."""
    found: set[int] = set()
    while len(found) < len(NAMES):
        found.add(free_port(HOST))
    return dict(zip(NAMES, found, strict=True))


def lay_out(home: Path, user: str | None) -> None:
    """Write into *home* what does not change over restarts, for *user*; None is the caller."""
    cookie = home / ".erlang.cookie"
    cookie.write_text(secrets.token_hex(16))
    cookie.chmod(0o400)
    (home / "enabled_plugins").write_text("[rabbitmq_management].\n")
    (home / "advanced.config").write_text(f"[{{rabbit, [{TICKS}]}}].\n")
    if user:
        for path in (home, *home.iterdir()):
            shutil.chown(path, user)


def configuration(ports: Ports, password: str, settings: Mapping[str, str]) -> str:
    """The text of `rabbitmq.conf`; *settings* are added and win."""
    lines = {
        "listeners.tcp.1": f"{HOST}:{ports['amqp']}",
        "management.tcp.ip": HOST,
        "management.tcp.port": str(ports["management"]),
        "default_user": ADMIN,
        "default_pass": password,
        "log.console": "true",
        "log.console.level": "info",
        "log.console.use_colors": "off",
        "log.file": "false",
        # The machine's disk may be nearly full; tests raise alarms themselves.
        "disk_free_limit.absolute": "1MB",
        # The management API shows a new connection, channel, consumer or count after a second instead of five.
        "collect_statistics_interval": "1000",
        "management.sample_retention_policies.global.minute": "1",
        "management.sample_retention_policies.basic.minute": "1",
        "management.sample_retention_policies.detailed.minute": "1",
    } | dict(settings)
    return "".join(f"{name} = {value}\n" for name, value in lines.items())


def environment(home: Path, ports: Ports) -> dict[str, str]:
    """Ours without what would steer Erlang or RabbitMQ elsewhere, and with this node's own places."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RABBITMQ_", "ERL_"))}
    return kept | {
        "HOME": str(home),
        "LC_ALL": "C.UTF-8",
        "ERL_EPMD_PORT": str(ports["epmd"]),
        "ERL_AFLAGS": "-start_epmd false -kernel inet_dist_use_interface {127,0,0,1}",
        "RABBITMQ_NODENAME": NODE,
        "RABBITMQ_DIST_PORT": str(ports["dist"]),
        # Neither of the two exists: Debian's files stay unread.
        "RABBITMQ_CONF_ENV_FILE": f"{home}/none.conf",
        "RABBITMQ_CONFIG_FILES": f"{home}/none.d",
        "RABBITMQ_CONFIG_FILE": f"{home}/rabbitmq.conf",
        "RABBITMQ_ADVANCED_CONFIG_FILE": f"{home}/advanced.config",
        "RABBITMQ_ENABLED_PLUGINS_FILE": f"{home}/enabled_plugins",
        "RABBITMQ_MNESIA_BASE": f"{home}/data",
        "RABBITMQ_LOG_BASE": f"{home}/log",
        "RABBITMQ_GENERATED_CONFIG_DIR": f"{home}/generated",
        "RABBITMQ_PLUGINS_EXPAND_DIR": f"{home}/plugins",
        "RABBITMQ_PID_FILE": f"{home}/pid",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": ERLANG,
        # No shell between us and the node: a signal for the process is one for the node.
        "RUNNING_UNDER_SYSTEMD": "true",
    }

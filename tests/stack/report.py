"""Where to look, for the person who started a stack natively."""

import sys
import textwrap
from pathlib import Path

from tests.stack.native import Native
from tests.stack.place import exports

#: What somebody needs in a terminal to work with the stack: settings as the shop's workers have them.
VARIABLES = ("MAILFLEET_CONFIG", "MAILFLEET_DATABASE_URL", "MAILFLEET_BROKER_URL", "MAILFLEET_REDIS_URL")


def native_addresses(stack: Native) -> str:
    """The addresses, and how to send a first mail; a file with variables for a shell is written beside the state."""
    ports = stack.place(stack.services["shop"]).ports
    environ = stack.place(stack.services["shop-workers"]).environ({})
    variables = stack.state.directory / "env"
    names = [name for name in environ if name in VARIABLES or name.startswith("MAILFLEET_ACCOUNTS__")]
    variables.write_text(exports(environ, names))
    url = (stack.state.directory / "secrets/database_url").read_text().strip()
    mailfleet = _short(Path(sys.executable).with_name("mailfleet"))
    metrics = ", ".join(
        f"http://127.0.0.1:{ports[name, 9402]}/metrics" for name in ("shop-workers", "billing-workers")
    )
    return textwrap.dedent(f"""
        caught mail      http://127.0.0.1:{ports["catcher", 8025]}
        RabbitMQ         http://127.0.0.1:{ports["rabbitmq", 15672]}   user mailfleet, password {stack.state.password}
        metrics          {metrics}
        database         {url}
        logs and data    {_short(stack.state.directory)}

        A first mail:    . {_short(variables)}; {mailfleet} send --app shop --to ada@example.net --subject Hello --text Hi
        What became of it: {mailfleet} list
        The end:         make down
    """)


def _short(path: Path) -> Path:
    """Relative to the working directory where it is below that."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path

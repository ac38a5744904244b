"""`python -m tests.pictures`: take the pictures of `docs/management-ui.md` anew, with the RabbitMQ of this machine.

What is on them is new each time (times, counts, process ids), so they are taken when the UI or our names in it change.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.pictures.page import Page, page
from tests.pictures.scene import BACKLOG, OPERATOR, Scene
from tests.services.base import MissingServiceError, StartError

FOLDER = Path(__file__).parents[2] / "docs/pictures"
VHOST = "/"


def queues(page: Page, scene: Scene, file: Path) -> None:
    """All queues: a backlog, the ladder's levels, what is parked."""
    page.show_column("queues", "consumers")
    page.show_column("queues", "features", shown=False)
    page.show("queues", heading="Queues")
    page.wait_text("table.list", "mailfleet.parked")
    page.take(file, "table.list")


def queue(page: Page, scene: Scene, file: Path) -> None:
    """One work queue with its consumers."""
    page.show("queues", VHOST, BACKLOG, heading=BACKLOG)
    consumers = page.open_section("Consumers")
    page.wait_text("#main", "billing.normal worker-2")
    page.take(file, "#main h1", consumers)


def connections(page: Page, scene: Scene, file: Path) -> None:
    """Who is connected."""
    page.show("connections", heading="Connections")
    page.wait_text("table.list", "worker-2")
    page.take(file, "table.list")


def connection(page: Page, scene: Scene, file: Path) -> None:
    """One of them, and what it says of itself."""
    page.show("connections", scene.connection_of("billing", "worker"), heading="Connection")
    page.wait_text("#main", "Client-provided name")
    properties = page.open_section("Client properties")
    page.take(file, "#main > h2, #main h1", properties)


def parked(page: Page, scene: Scene, file: Path) -> None:
    """A message that nobody could use."""
    page.show("queues", VHOST, "mailfleet.parked", heading="mailfleet.parked")
    section = page.open_section("Get messages")
    section.find_element("css selector", "input[type=submit]").click()
    page.wait_text("#msg-wrapper", "x-death")
    page.take(file, "#msg-wrapper table")


def ladder(page: Page, scene: Scene, file: Path) -> None:
    """How one level of the ladder is bound."""
    page.show("exchanges", VHOST, "mailfleet.delay.05", heading="mailfleet.delay.05")
    page.open_section("Bindings")
    page.wait_text(".bindings-wrapper", "mailfleet.delay.04")
    page.take(file, "#main h1", ".bindings-wrapper")


def overview(page: Page, scene: Scene, file: Path) -> None:
    """The first page."""
    page.show(heading="Overview")
    page.wait_text("#main", "Global counts")
    page.take(file, "#header", page.section("Totals"))


def alarm(page: Page, scene: Scene, file: Path) -> None:
    """The first page while the server has an alarm."""
    # Less than an empty broker has.
    scene.rabbit.control("set_vm_memory_high_watermark", "absolute", "64MB")
    page.show(heading="Overview")
    page.find("#memory-alarm")
    page.take(file, page.section("Nodes"))


def blocked(page: Page, scene: Scene, file: Path) -> None:
    """Who is connected while the server has an alarm."""
    page.show("connections", heading="Connections")
    page.wait_text("table.list", "blocked")
    page.take(file, "table.list")


#: In this order.
PICTURES: tuple[Callable[[Page, Scene, Path], None], ...] = (
    queues,
    queue,
    connections,
    connection,
    parked,
    ladder,
    overview,
    alarm,
    blocked,
)


def main(arguments: list[str] | None = None) -> int:
    """Take them; 2 when something is missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.pictures", description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    given = parser.parse_args(arguments)
    # With the alarm publishing fails, and says so.
    logging.getLogger("mailfleet").setLevel(logging.ERROR)
    given.folder.mkdir(parents=True, exist_ok=True)
    try:
        with (
            tempfile.TemporaryDirectory(
                prefix="mailfleet-pictures-", ignore_cleanup_errors=True
            ) as directory,
            Scene(Path(directory)) as scene,
            page(scene.url) as opened,
        ):
            opened.log_in(OPERATOR, scene.password)
            for picture in PICTURES:
                file = given.folder / f"{picture.__name__}.png"
                picture(opened, scene, file)
                print(f"{file.name}: {file.stat().st_size // 1000} kB", flush=True)
    except (MissingServiceError, StartError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

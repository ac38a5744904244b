"""Chromium for tests that look at pages and for the pictures of the docs: where it is, and having it installed.

It is a program and no server: nothing of it runs but while somebody drives it. `python -m tests.services.chromium` installs
it where that can be done, and says where it is; status 2 means that it is missing, and the last line says what helps.
"""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.services import debian
from tests.services.base import MissingServiceError

PACKAGES = ("chromium", "chromium-driver")
NAMES = ("chromium", "chromium-browser", "google-chrome")
DRIVER = "chromedriver"

#: Without a screen, as root, and without a word to anybody but the pages it is sent to.
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
)  # fmt: skip

Which = Callable[[str], str | None]


@dataclass(frozen=True)
class Chromium:
    """The browser and the program by which selenium drives it; both of one version, or they refuse each other."""

    browser: Path
    driver: Path


def find(which: Which = shutil.which) -> Chromium | None:
    """Both programs as *which* finds them; None when one is missing."""
    browser = next((found for name in NAMES if (found := which(name))), None)
    driver = which(DRIVER)
    return Chromium(Path(browser), Path(driver)) if browser and driver else None


def require(which: Which = shutil.which) -> Chromium:
    """The same; raises MissingServiceError, which says how to get it."""
    found = find(which)
    if found is None:
        has = which(DRIVER) or next((one for name in NAMES if (one := which(name))), None)
        raise MissingServiceError(
            f"this needs Chromium and its {DRIVER}: {f'only {has} is' if has else 'none is'} on this machine. Install"
            f" both (Debian: apt-get install {' '.join(PACKAGES)}); as root `python -m tests.services.chromium` does it."
        )
    return found


def prepare() -> str:
    """Have it on this machine, installed if need be; says where and which version. Raises MissingServiceError."""
    if find() is None and debian.can_install():
        print(f"Chromium: installing Debian's packages {', '.join(PACKAGES)}", flush=True)
        try:
            debian.install(PACKAGES)
        except debian.InstallError as error:
            print(f"Chromium: {error}", file=sys.stderr, flush=True)
    found = require()
    said = subprocess.run([found.driver, "--version"], check=False, capture_output=True, text=True).stdout
    return f"{' '.join(said.split()[1:2]) or 'unknown'} in {found.browser.parent}"


def main() -> int:
    try:
        print(f"Chromium: {prepare()}", flush=True)
    except MissingServiceError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())

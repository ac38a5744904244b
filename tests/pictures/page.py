"""RabbitMQ's management UI in a headless browser, and pictures of parts of it.

The pages renew themselves every few seconds and have few names in their HTML: what is looked for is what a person
reads. Every wait has a deadline.
"""

import base64
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from selenium import webdriver
from selenium.common.exceptions import NoSuchElementException, StaleElementReferenceException
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from tests.services.chromium import FLAGS, require
from tests.waiting import wait_until

WIDTH = 1400
HEIGHT = 1600
DEADLINE_S = 30.0
#: Around what is on a picture, in pixels.
MARGIN = 12

_BOX = """
const boxes = arguments[0].map(one => one.getBoundingClientRect());
return {top: Math.min(...boxes.map(one => one.top)) + scrollY, bottom: Math.max(...boxes.map(one => one.bottom)) + scrollY,
        right: Math.max(...boxes.map(one => one.right))};
"""


class Page:
    """The UI at *url*, where `log_in` comes first."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self._driver = driver
        self._url = url

    def log_in(self, user: str, password: str) -> None:
        """As a person does; TimeoutError when the overview does not come."""
        self._driver.get(self._url)
        self._one("input[name=username]").send_keys(user)
        self._one("input[name=password]").send_keys(password)
        self._one("#login input[type=submit]").click()
        self._one("#tabs li")

    def show(self, *path: str, heading: str) -> None:
        """Go to `#/path/…` and wait until its title has *heading* in it."""
        self._driver.get(f"{self._url}/#/{'/'.join(quote(part, safe='') for part in path)}")
        self.wait_text("#main h1, #main > h2", heading)

    def open_section(self, title: str) -> WebElement:
        """Unfold the section whose title begins with *title*; the whole section."""
        section = self.section(title)
        if "section-invisible" in (section.get_attribute("class") or ""):
            section.find_element(By.TAG_NAME, "h2").click()
        hider = section.find_element(By.CLASS_NAME, "hider")
        # It slides: a picture on the way would show half of it.
        wait_until(
            lambda: hider.is_displayed() and "overflow" not in (hider.get_attribute("style") or ""),
            DEADLINE_S,
            lambda: f"section {title} does not open",
        )
        return section

    def section(self, title: str) -> WebElement:
        """The section whose title begins with *title*."""
        path = f"//div[contains(@class,'section')][h2[starts-with(normalize-space(.), '{title}')]]"
        return self._driver.find_element(By.XPATH, path)

    def find(self, css: str) -> WebElement:
        """The first element; waits for it."""
        return self._one(css)

    def wait_text(self, css: str, text: str) -> None:
        """Until an element's text has *text* in it."""

        def shown() -> bool:
            try:
                return any(text in one.text for one in self._driver.find_elements(By.CSS_SELECTOR, css))
            except StaleElementReferenceException:
                return False

        wait_until(shown, DEADLINE_S, lambda: f"{self._driver.current_url}: no {text!r} in {css}", step_s=0.1)

    def show_column(self, table: str, column: str, *, shown: bool = True) -> None:
        """What a person does with `+/-` beside a table; from the next page on."""
        stored = [f"rabbitmq.column-{table}-{column}", "true" if shown else "false"]
        self._driver.execute_script("localStorage[arguments[0]] = arguments[1]", *stored)

    def take(self, file: Path, *elements: WebElement | str) -> None:
        """A picture from the top of the first of *elements* to the bottom of the last, as wide as the widest.

        A string is a CSS selector.
        """
        # A button under the mouse has another colour.
        self._driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": 0, "y": 0})
        box = self._driver.execute_script(
            _BOX, [self._one(one) if isinstance(one, str) else one for one in elements]
        )
        top = max(0, box["top"] - MARGIN)
        width, height = min(WIDTH, box["right"] + MARGIN), box["bottom"] + MARGIN - top
        clip = {"x": 0, "y": top, "width": width, "height": height, "scale": 1}
        asked = {"format": "png", "clip": clip, "captureBeyondViewport": True}
        data = self._driver.execute_cdp_cmd("Page.captureScreenshot", asked)["data"]
        file.write_bytes(base64.b64decode(data))

    def _one(self, css: str) -> WebElement:
        found: list[WebElement] = []

        def there() -> bool:
            try:
                found[:] = [self._driver.find_element(By.CSS_SELECTOR, css)]
                return found[0].is_displayed()
            except (NoSuchElementException, StaleElementReferenceException):
                return False

        wait_until(there, DEADLINE_S, lambda: f"{self._driver.current_url}: no {css}", step_s=0.1)
        return found[0]


@contextmanager
def page(url: str, flags: Sequence[str] = ()) -> Iterator[Page]:
    """A browser with a new profile that ends with the block. Raises MissingServiceError without Chromium."""
    chromium = require()
    with tempfile.TemporaryDirectory(prefix="mailfleet-chromium-", ignore_cleanup_errors=True) as profile:
        options = webdriver.ChromeOptions()
        options.binary_location = str(chromium.browser)
        for flag in (*FLAGS, *flags, f"--user-data-dir={profile}", f"--window-size={WIDTH},{HEIGHT}"):
            options.add_argument(flag)
        # Named, so that selenium does not look for a driver elsewhere.
        driver = webdriver.Chrome(options=options, service=Service(str(chromium.driver)))
        try:
            yield Page(driver, url)
        finally:
            driver.quit()

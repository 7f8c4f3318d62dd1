"""A headless Chromium, driven by Selenium, for the tests of the page."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from servers import wait_until

_NAMES = ("chromium", "chromium-browser", "google-chrome")


class Browser:
    """A tab, and what the tests ask of it."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        """Load the page as in a tab that has just been opened, and wait for its first look at the server."""
        self.driver.get_log("browser"), self.driver.get_log("performance")
        self.look_like("light")
        self.size(1280, 900)
        self.driver.get(url)
        self.script("sessionStorage.clear()")
        self.driver.get(url)
        wait_until(lambda: self.text("#server-state") != "Asking the server.")

    def size(self, width: int, height: int) -> None:
        """The window's, in pixels."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def look_like(self, scheme: str) -> None:
        """Light or dark, and without transitions."""
        features = {"prefers-color-scheme": scheme, "prefers-reduced-motion": "reduce"}
        listed = [{"name": name, "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": listed})

    def script(self, code: str, *arguments: Any) -> Any:
        """What JavaScript returns."""
        return self.driver.execute_script(code, *arguments)

    def all(self, selector: str) -> list[Any]:
        """Elements."""
        return self.driver.find_elements("css selector", selector)

    def one(self, selector: str) -> Any:
        """The first element."""
        return self.driver.find_element("css selector", selector)

    def text(self, selector: str) -> str:
        """All text of an element, shown or not."""
        return self.script("return document.querySelector(arguments[0]).textContent", selector)

    def texts(self, selector: str) -> list[str]:
        """Texts of elements."""
        found = "return Array.from(document.querySelectorAll(arguments[0]), (each) => each.textContent)"
        return self.script(found, selector)

    def write(self, selector: str, text: str) -> None:
        """Replace what is in a field, as if it had been typed."""
        code = "const [field, text] = arguments; field.value = text; field.dispatchEvent(new Event('input'))"
        self.script(code, self.one(selector), text)

    def choose(self, index: str) -> None:
        """Search in an index, as soon as the page offers it; in own passages for ""."""
        offered = "return Array.from(document.querySelector('#source').options, (option) => option.value)"
        wait_until(lambda: index in self.script(offered))
        code = "const field = document.querySelector('#source'); field.value = arguments[0];"
        self.script(code + "field.dispatchEvent(new Event('change'))", index)
        self.settle()

    def strengths(self) -> dict[str, float]:
        """How strongly words of the first hit are shaded, without those that are not."""
        code = """return Array.from(document.querySelectorAll("#hits li:first-child mark"), (mark) =>
            [mark.textContent, Number(mark.style.getPropertyValue("--strength"))])"""
        return {word: strength for word, strength in self.script(code) if strength > 0}

    def search(self) -> None:
        """Press the button and wait for its hits, not for those of an earlier search that are still there."""
        self.one("#go").click()
        self.settle()
        wait_until(lambda: bool(self.all("#hits > li")))

    def settle(self) -> None:
        """Wait until no search runs, whose answer would move what is about to be clicked."""
        wait_until(lambda: self.one("#results").get_attribute("aria-busy") != "true")

    def hover(self, element: Any) -> None:
        """Move the pointer there."""
        self.actions().move_to_element(element).perform()

    def press(self, *keys: str) -> None:
        """Keys, to whatever has the focus."""
        self.actions().send_keys(*keys).perform()

    def actions(self) -> Any:
        """A chain of what a person does."""
        from selenium.webdriver import ActionChains

        return ActionChains(self.driver, duration=0)

    def focus_is_in(self, selector: str) -> bool:
        """Whether the focus is on such an element."""
        return self.script("return document.activeElement.matches(arguments[0])", selector)

    def complaints(self) -> list[str]:
        """What stands in the console, other than refused requests, which a test may want."""
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["source"] != "network"]

    def requested(self) -> set[str]:
        """Addresses the page has asked for."""
        messages = (json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance"))
        sent = (m["params"]["request"]["url"] for m in messages if m["method"] == "Network.requestWillBeSent")
        return set(sent)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """A browser; the test is skipped where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    found, driver = next(filter(None, map(shutil.which, _NAMES)), None), shutil.which("chromedriver")
    if not found or not driver:
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = found
    # Its sandbox needs rights that a container has not; it loads nothing but our own page.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    tab = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield Browser(tab)
    finally:
        tab.quit()


def eventually(value: Callable[[], Any], expected: Any) -> None:
    """Wait until something has a value."""
    wait_until(lambda: value() == expected)

"""A real browser for tests of pages, and what to ask it."""

import io
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import Select

NAMES = ("google-chrome", "chromium", "chromium-browser")
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--force-device-scale-factor=1",
    "--window-size=1280,900",
)


@contextmanager
def open_browser(profile: Path, downloads: Path) -> Iterator[WebDriver]:
    """A browser; the test is skipped where there is none, or fails on a CI machine."""
    program = next((path for name in NAMES if (path := shutil.which(name))), None)
    driver = shutil.which("chromedriver")
    if program is None or driver is None:
        told = "no browser found: chromium and chromedriver (Debian: chromium-driver) are needed"
        if os.environ.get("CI"):
            pytest.fail(told)
        pytest.skip(told)
    options = webdriver.ChromeOptions()
    options.binary_location = program
    for argument in (*ARGUMENTS, f"--user-data-dir={profile}"):
        options.add_argument(argument)
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield browser
    finally:
        browser.quit()


def opened(browser: WebDriver, path: Path) -> WebDriver:
    """The browser with a file just opened, as on a desk: a wide window, light, on a screen."""
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "", "features": []})
    resize(browser, 1280)
    complaints(browser)
    requests(browser)
    browser.get(path.as_uri())
    return browser


def resize(browser: WebDriver, width: int, height: int = 900) -> None:
    """Give the page a window of this size inside, in pixels; headless ones can be any width."""
    size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)


def complaints(browser: WebDriver) -> list[str]:
    """What the console said since the last call."""
    return [entry["message"] for entry in browser.get_log("browser")]


def requests(browser: WebDriver) -> list[str]:
    """Addresses that were asked for since the last call, but for data that the page holds."""
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    return [address for address in asked if not address.startswith(("data:", "blob:"))]


def pixels(element: WebElement) -> np.ndarray:
    """What is seen of an element: uint8 [H, W, 3]."""
    return np.asarray(Image.open(io.BytesIO(element.screenshot_as_png)).convert("RGB"))


def contrast(browser: WebDriver, element: WebElement) -> float:
    """Contrast of an element's text with what is behind it, 1 to 21 as WCAG defines it."""
    colours = browser.execute_script(
        """
        let behind = arguments[0];
        const background = (element) => getComputedStyle(element).backgroundColor;
        while (background(behind) === "rgba(0, 0, 0, 0)") behind = behind.parentElement;
        return [getComputedStyle(arguments[0]).color, background(behind)];
        """,
        element,
    )
    low, high = sorted(_luminance(colour) for colour in colours)
    return (high + 0.05) / (low + 0.05)


def _luminance(colour: str) -> float:
    """Relative luminance of "rgb(R, G, B)"."""
    levels = np.array([int(level) / 255 for level in re.findall(r"\d+", colour)[:3]])
    linear = np.where(levels <= 0.04045, levels / 12.92, ((levels + 0.055) / 1.055) ** 2.4)
    return float(linear @ [0.2126, 0.7152, 0.0722])


def find(page: WebDriver, name: str) -> WebElement:
    return page.find_element(By.ID, name)


def choose(page: WebDriver, name: str, text: str) -> None:
    Select(find(page, name)).select_by_visible_text(text)


def offered(page: WebDriver, name: str) -> list[str]:
    return [option.text for option in Select(find(page, name)).options]


def table(page: WebDriver, name: str) -> list[dict[str, str]]:
    """The lines of a table that are seen, by the words in its headers."""
    script = """
        const seen = (line) => [...line.cells].filter((cell) => cell.offsetParent);
        const table = document.getElementById(arguments[0]);
        const names = seen(table.tHead.rows[0]).map((cell) => cell.innerText);
        return [names, ...[...table.tBodies[0].rows].map(
            (line) => seen(line).map((cell) => cell.innerText.trim()))];
    """
    names, *lines = page.execute_script(script, name)
    clean = [re.split(r"[↑↓,]", name.replace("\u00a0", " "))[0].strip() for name in names]
    return [dict(zip(clean, line, strict=True)) for line in lines]

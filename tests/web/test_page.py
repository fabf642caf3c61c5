"""The demo page in a real browser."""

import io
import json
import re
import runpy
import tempfile
import time
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import parse_qs, urlsplit
from urllib.request import urlopen

import httpx
import numpy as np
import pytest
from PIL import Image
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from browser import complaints, requests, resize
from diffjscc.data.images import load_image
from diffjscc.web.uploads import example_path
from locations import ROOT

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

T = TypeVar("T")

PATIENCE = 120  # seconds; machines that build are slow
QUICK = "example=chelsea&steps=2"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Address of a page that is served while the tests of this file run."""
    pytest.importorskip("gradio", reason="the page needs the extra [demo]")
    from diffjscc.web.server import serve  # noqa: PLC0415

    with serve("compact", "cpu", "127.0.0.1", 0) as found:
        yield found


@pytest.fixture
def page(browser: "WebDriver", address: str) -> Callable[[str], "WebDriver"]:
    """Open the page with a query in its address, on a desk."""

    def opened(query: str = QUICK) -> "WebDriver":
        resize(browser, 1400, 1600)
        complaints(browser)
        requests(browser)
        browser.get(f"{address}?{query}")
        return browser

    return opened


def until(condition: Callable[[], T | None], what: str) -> T:
    """Wait for a condition, and return what it gives."""
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            found = condition()
        except StaleElementReferenceException:  # redrawn meanwhile
            continue
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError(f"no {what} within {PATIENCE} s")


def address_of(page: "WebDriver", name: str) -> str | None:
    """Address of the image that a component shows."""
    images = page.find_elements(By.CSS_SELECTOR, f"#image-{name} img")
    return images[0].get_attribute("src") if images else None


def shown(page: "WebDriver", name: str, other_than: str | None = None) -> tuple[str, np.ndarray]:
    """Wait for an image; gives its address and uint8 [H, W, 3]."""

    def found() -> tuple[str, np.ndarray] | None:
        source = address_of(page, name)
        if not source or source == other_than:
            return None
        try:
            with urlopen(source) as file:  # of the test's own server
                return source, np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))
        except (HTTPException, OSError):  # it is written again at this moment
            return None

    return until(found, f"image of {name}")


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    error = np.mean((a.astype(float) - b.astype(float)) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def test_an_address_with_settings_shows_all_images(page: Callable[[str], "WebDriver"]) -> None:
    driver = page("example=chelsea&steps=2&snr=13&rate=1/16")
    original = load_image(example_path("chelsea")).mul(255).byte().permute(1, 2, 0).numpy()
    for name in ("original", "codec", "receiver", "digital"):
        _, image = shown(driver, name)
        assert image.shape == original.shape
        assert psnr(image, original) > (20 if name != "original" else 60)
    assert driver.find_element(By.CSS_SELECTOR, "#snr input[type=number]").get_property(
        "value"
    ) in ("13", "13.0")
    table = until(lambda: driver.find_element(By.ID, "table").text, "table")
    for words in ("PSNR", "LPIPS", "codec", "receiver", "bpg-ldpc"):
        assert words in table
    assert driver.find_elements(By.CSS_SELECTOR, "#slider img")
    outside = [url for url in requests(driver) if "://127.0.0.1" not in url and "chrome" not in url]
    assert outside == []


def test_the_codec_follows_the_slider_and_the_address_too(
    page: Callable[[str], "WebDriver"],
) -> None:
    driver = page(QUICK)
    before, first = shown(driver, "codec")
    shown(driver, "receiver")
    number = driver.find_element(By.CSS_SELECTOR, "#snr input[type=number]")
    number.send_keys(Keys.CONTROL, "a")
    number.send_keys("20", Keys.TAB)
    original = load_image(example_path("chelsea")).mul(255).byte().permute(1, 2, 0).numpy()
    shown(driver, "codec", other_than=before)
    # The first digit is an SNR of its own, so an image of 2 dB may come before that of 20 dB.
    until(
        lambda: psnr(shown(driver, "codec")[1], original) > psnr(first, original) + 0.5,
        "better image",
    )
    until(lambda: "snr=20" in driver.current_url, "setting in the address")
    assert parse_qs(urlsplit(driver.current_url).query)["example"] == ["chelsea"]


def test_uploads_are_sent_and_unsuitable_ones_refused(
    page: Callable[[str], "WebDriver"], tmp_path: Path
) -> None:
    driver = page(QUICK)
    before, _ = shown(driver, "codec")
    own = np.zeros((96, 160, 3), np.uint8)
    own[:, :80] = (200, 30, 30)
    Image.fromarray(own).save(tmp_path / "own.png")
    upload = driver.find_element(By.CSS_SELECTOR, "#upload input[type=file]")
    upload.send_keys(str(tmp_path / "own.png"))
    _, image = shown(driver, "codec", other_than=before)
    assert image.shape == own.shape
    assert image[:, :60, 0].mean() > image[:, :60, 2].mean() + 80
    until(lambda: "example" not in driver.current_url, "no example in the address")
    driver = page(QUICK)
    (tmp_path / "<img src=x onerror=alert(1)>.png").write_bytes(b"\x89PNG\r\n\x1a\nnothing")
    shown(driver, "codec")
    upload = driver.find_element(By.CSS_SELECTOR, "#upload input[type=file]")
    upload.send_keys(str(tmp_path / "<img src=x onerror=alert(1)>.png"))
    toast = until(
        lambda: "".join(e.text for e in driver.find_elements(By.CSS_SELECTOR, ".toast-body")),
        "words about the file",
    )
    assert "error" in toast.lower()
    assert not driver.find_elements(By.CSS_SELECTOR, "img[src='x']")
    assert address_of(driver, "codec"), "what was there stays"


def test_the_image_comes_about_step_by_step(page: Callable[[str], "WebDriver"]) -> None:
    driver = page("example=chelsea&steps=12")

    def caption() -> str:
        return "".join(e.text for e in driver.find_elements(By.ID, "image-receiver"))

    def preview() -> tuple[str, str] | None:
        words, address = caption(), address_of(driver, "receiver")
        return (words, address) if address and "step" in words else None

    words, first = until(preview, "preview")
    assert re.search(r"receiver: step \d+ of \d+", words)
    with urlopen(first) as file:
        early = np.asarray(Image.open(io.BytesIO(file.read())).convert("RGB"))
    until(lambda: "step" not in caption(), "end of the sampling")
    _, final = shown(driver, "receiver")
    assert early.shape == final.shape
    assert 12 < psnr(early, final) < 60
    saved = driver.find_element(By.CSS_SELECTOR, "#image-original img").get_attribute("src")
    assert saved is not None
    assert saved.endswith("/original.png")  # the name in the command


def test_sampling_can_be_cancelled(page: Callable[[str], "WebDriver"]) -> None:
    driver = page("example=coffee&steps=50")
    status = until(lambda: driver.find_elements(By.ID, "status"), "page")[0]
    until(lambda: "step" in status.text, "progress")
    # By script: images that come in meanwhile move the button away from under a pointer.
    driver.execute_script("document.querySelector('#cancel').click()")
    until(lambda: "cancelled" in status.text, "end of the sampling")
    time.sleep(1)
    assert address_of(driver, "receiver") is None


def test_a_telephone_shows_it_without_scrolling_sideways(
    page: Callable[[str], "WebDriver"],
) -> None:
    driver = page(QUICK)
    resize(driver, 390, 844)
    shown(driver, "receiver")
    assert driver.execute_script("return document.documentElement.scrollWidth") <= 390


def test_visitors_at_once_get_what_belongs_to_them(address: str) -> None:
    """Two seconds of what `benchmarks/demo_load.py` does for two minutes."""
    load = runpy.run_path(str(ROOT / "benchmarks" / "demo_load.py"))
    findings = load["visit"](address, visitors=4, seconds=2, steps=3)
    assert findings.faults == []
    for name in ("original", "codec", "receiver"):
        assert findings.images[name] >= 4
    assert findings.places >= 2  # one is refined at a time: others wait, and know their place


def test_files_of_other_folders_are_not_taken(address: str) -> None:
    """A visitor that speaks to the server without a browser names a file that it has not sent."""
    prefix = f"{address}gradio_api"
    config = json.loads(httpx.get(f"{address}config").text)
    upload = next(f for f in config["dependencies"] if f["api_name"] == "_upload")
    for path in ("/etc/hostname", str(ROOT / "README.md"), "../../../../etc/hostname"):
        data = [{"path": path, "meta": {"_type": "gradio.FileData"}}]
        body = {"data": data, "fn_index": upload["id"], "session_hash": "tricks"}
        httpx.post(f"{prefix}/queue/join", json=body).raise_for_status()
        with httpx.stream("GET", f"{prefix}/queue/data?session_hash=tricks") as stream:
            lines = [line for line in stream.iter_lines() if "process_completed" in line]
        assert '"success":false' in lines[0]
        assert httpx.get(f"{prefix}/file={path}").status_code in (403, 404)


def test_files_are_gone_when_the_server_stops() -> None:
    """Those that were uploaded and those that were shown."""
    pytest.importorskip("gradio", reason="the page needs the extra [demo]")
    load = runpy.run_path(str(ROOT / "benchmarks" / "demo_load.py"))
    folders = set(Path(tempfile.gettempdir()).glob("diffjscc-demo-*"))
    from diffjscc.web.server import serve  # noqa: PLC0415

    with serve("compact", "cpu", "127.0.0.1", 0) as found:
        load["visit"](found, visitors=1, seconds=0, steps=1)
        (own,) = set(Path(tempfile.gettempdir()).glob("diffjscc-demo-*")) - folders
        names = {path.name for path in own.rglob("*.png")}
        assert {"own-0.png", "original.png", "codec.png"} <= names
    assert not own.exists()

"""The report's images, looked at in a real browser: what is seen on either side of the line."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from browser import choose, find, offered, opened, pixels, table
from diffjscc.evaluation.results import read_results
from diffjscc.report.gallery import embedded
from diffjscc.report.page import write_report
from striped_results import HEIGHT, MARKUP, WIDTH, striped_results, stripes

HANDLE = 24  # half the width of what covers the images, in pixels


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = striped_results(tmp_path_factory.mktemp("toy"), [("1/128", 1.0), ("1/64", 7.0)])
    path = folder / "report.html"
    write_report([read_results(folder)], path)
    return path


@pytest.fixture
def page(browser: WebDriver, report: Path) -> WebDriver:
    """The report, just opened."""
    return opened(browser, report)


def assert_sides(page: WebDriver, left: np.ndarray, right: np.ndarray, edge: float) -> None:
    """The frame shows `left` up to the column `edge`, `right` beyond, but for the handle."""
    seen = pixels(find(page, "frame")).astype(int)
    assert seen.shape == (HEIGHT, WIDTH, 3)
    before, beyond = max(0, round(edge) - HANDLE), round(edge) + HANDLE
    for part, expected in ((np.s_[:, :before], left), (np.s_[:, beyond:], right)):
        if seen[part].size:
            errors = np.abs(seen[part] - expected[part])
            assert errors.mean() < 1.5  # WebP's; the next stripe is 5 to 11 levels brighter
            assert errors.max() < 20


def test_dragging_the_line(page: WebDriver) -> None:
    left, right = stripes("original"), stripes("final")
    assert_sides(page, left, right, WIDTH / 2)
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", find(page, "viewer"))
    ActionChains(page).drag_and_drop_by_offset(find(page, "divider"), -WIDTH // 4, 0).perform()
    assert_sides(page, left, right, WIDTH / 4)
    assert find(page, "divider").get_attribute("aria-valuenow") == "25"
    assert (
        find(page, "divider").get_attribute("aria-valuetext")
        == "25 % original, 75 % diffjscc, final"
    )


def test_touching_the_line(page: WebDriver) -> None:
    page.execute_script("arguments[0].scrollIntoView({block: 'center'})", find(page, "viewer"))
    corner = page.execute_script(
        "const box = document.getElementById('frame').getBoundingClientRect();return [box.x, box.y]"
    )
    y = corner[1] + HEIGHT / 2
    for kind, share in (("touchStart", 0.5), ("touchMove", 0.6), ("touchMove", 0.75)):
        points = [{"x": corner[0] + share * WIDTH, "y": y}]
        page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    page.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert find(page, "divider").get_attribute("aria-valuenow") == "75"
    assert_sides(page, stripes("original"), stripes("final"), 0.75 * WIDTH)


def test_keys(page: WebDriver) -> None:
    divider = find(page, "divider")
    for keys, share in (
        (Keys.ARROW_RIGHT * 5, 60),
        (Keys.ARROW_LEFT * 10, 40),
        (Keys.PAGE_UP, 50),
        (Keys.END, 100),
        (Keys.ARROW_RIGHT, 100),
        (Keys.HOME, 0),
    ):
        divider.send_keys(keys)
        assert divider.get_attribute("aria-valuenow") == str(share)
        assert_sides(page, stripes("original"), stripes("final"), share / 100 * WIDTH)


def test_zoom_shows_squares(page: WebDriver) -> None:
    # Pixels of every colour, so that one that is smoothed or shifted is seen.
    noise = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    page.execute_async_script(
        "const image = document.getElementById('right-image');"
        "image.onload = arguments[1]; image.src = arguments[0];",
        f"data:image/png;base64,{base64.b64encode(png(noise)).decode()}",
    )
    find(page, "divider").send_keys(Keys.HOME)
    for factor in (2, 4):
        find(page, "divider").send_keys(Keys.SPACE)
        left, top = page.execute_script(
            "const frame = document.getElementById('frame');"
            "return [frame.scrollLeft, frame.scrollTop]"
        )
        seen = pixels(find(page, "frame"))
        whole = noise.repeat(factor, 0).repeat(factor, 1)
        height, width = seen.shape[:2]
        part = whole[round(top) : round(top) + height, round(left) : round(left) + width]
        inside = np.s_[: part.shape[0] - 20, HANDLE : part.shape[1] - 20]  # no scroll bars
        assert (seen[inside] == part[inside]).mean() > 0.99
    assert find(page, "frame").size["width"] > 2 * WIDTH
    page.find_element(By.CSS_SELECTOR, "[data-zoom='1']").click()
    assert find(page, "frame").size == {"width": WIDTH, "height": HEIGHT}


def test_a_click_magnifies_where_it_is(page: WebDriver) -> None:
    find(page, "divider").send_keys(Keys.HOME)
    for _ in range(2):
        ActionChains(page).move_to_element_with_offset(
            find(page, "frame"), 60, 20
        ).click().perform()
    assert (
        page.find_element(By.CSS_SELECTOR, "[data-zoom='4']").get_attribute("aria-pressed")
        == "true"
    )
    ActionChains(page).move_to_element_with_offset(find(page, "frame"), 60, 20).click().perform()
    assert find(page, "frame").size == {"width": WIDTH, "height": HEIGHT}


def test_choosing_what_is_left_and_right(page: WebDriver) -> None:
    views = ["original", "deepjscc, final", "diffjscc, initial", "diffjscc, final"]
    assert offered(page, "left") == [*views, "diffjscc, uncertainty"]
    choose(page, "left", "diffjscc, initial")
    choose(page, "right", "deepjscc, final")
    assert_sides(page, stripes("initial"), stripes("deepjscc"), WIDTH / 2)
    compared = {line[""]: (line["left"], line["right"]) for line in table(page, "compared")}
    assert compared["channel uses"] == ("12", "12")
    assert compared["true SNR / dB"] == ("1.00", "1.00")
    assert compared["PSNR / dB ↑"] == ("20.50", "21.00")
    assert compared["LPIPS ↓"] == ("0.6000", "0.6000")
    choose(page, "point", "R = 1/64, 7 dB, awgn")  # where the same two are there, they stay
    assert_sides(page, stripes("initial", 0.5), stripes("deepjscc", 0.5), WIDTH / 2)
    assert offered(page, "right") == views
    assert offered(page, "image") == ["kodim01", MARKUP]
    choose(page, "image", MARKUP)
    assert offered(page, "point") == ["R = 1/128, 1 dB, awgn"]
    assert_sides(page, stripes("initial", 0.25), stripes("deepjscc", 0.25), WIDTH / 2)
    assert find(page, "left-image").get_attribute("alt") == f"{MARKUP}: diffjscc, initial"


def test_uncertainty(page: WebDriver) -> None:
    (figure,) = page.find_elements(By.CSS_SELECTOR, "#uncertainty figure")
    assert "bright where samples" in figure.text
    assert "generated, not received" in figure.text
    seen = pixels(figure.find_element(By.TAG_NAME, "img"))
    assert np.abs(seen.astype(int) - stripes("uncertainty")).mean() < 1.5
    choose(page, "point", "R = 1/64, 7 dB, awgn")  # where there is none
    assert not page.find_elements(By.CSS_SELECTOR, "#uncertainty figure")


def test_embedded_images_are_small_and_close(tmp_path: Path) -> None:
    y, x = np.mgrid[:128, :192]
    texture = np.random.default_rng(0).normal(0, 6, (128, 192))
    levels = np.stack([120 + 60 * np.sin(x / 9) + texture, 90 + y / 2 + texture, 128 + texture], 2)
    photo = levels.clip(0, 255).astype(np.uint8)
    content = png(photo)
    found = embedded(content, tmp_path)
    kind, data = found.source.split(",")
    assert kind == "data:image/webp;base64"
    assert (found.width, found.height) == (192, 128)
    assert len(base64.b64decode(data)) < len(content) / 2
    seen = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")).astype(int)
    assert 10 * np.log10(255**2 / np.mean((seen - photo) ** 2)) > 35
    board = np.indices((64, 64)).sum(0) % 2 * 255
    flat = png(board[:, :, None].repeat(3, 2).astype(np.uint8))
    assert (
        embedded(flat, tmp_path).source
        == f"data:image/png;base64,{base64.b64encode(flat).decode()}"
    )


def test_a_image_is_in_the_page_once(report: Path) -> None:
    sources = re.findall(r"data:image/[^\"]+", report.read_text(encoding="utf-8"))
    assert len(sources) == len(set(sources)) == 4 + 4 + 4 + 1
    assert report.stat().st_size < 2e6


def png(levels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(levels).save(file, "PNG")
    return file.getvalue()

"""The report, looked at in a real browser; its images have tests of their own."""

import re
import statistics
import time
from itertools import pairwise
from pathlib import Path

import pytest
from selenium.webdriver.chrome.webdriver import WebDriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from typer.testing import CliRunner, Result

from browser import choose, complaints, contrast, find, offered, opened, requests, resize, table
from diffjscc.cli import app
from diffjscc.evaluation.lines import read_records
from diffjscc.evaluation.results import read_results
from diffjscc.report.page import write_report
from striped_results import MARKUP, striped_results
from toy_results import toy_records, toy_results


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return striped_results(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="module")
def report(results: Path) -> Path:
    path = results / "report.html"
    write_report([read_results(results)], path)
    return path


@pytest.fixture
def page(browser: WebDriver, report: Path) -> WebDriver:
    """The report, just opened."""
    return opened(browser, report)


def test_summary(page: WebDriver, results: Path) -> None:
    lines = table(page, "summary-table")
    assert len(lines) == 12
    by_cell = {
        (line["scheme"].split()[0], line["rate / cpp"], line["SNR / dB"]): line for line in lines
    }
    # Images' means are 0.1 dB apart: t(0.975, 2) · 0.1/√3 = 4.303 · 0.0577 = 0.248.
    plain = by_cell["deepjscc", "1/128", "1"]
    assert plain["PSNR / dB"] == "21.15\n± 0.25"
    assert plain["LPIPS"] == "0.6200\n± 0.0497"
    assert plain["Fréchet distance (SqueezeNet)"] == "40.00"
    assert plain["kernel distance (SqueezeNet)"] == "0.2000\n± 0.0100"
    painted = by_cell["diffjscc", "1/64", "7"]
    assert painted["PSNR / dB"] == "22.15\n± 0.25"
    assert painted["scheme"] == "diffjscc\nddpm, 16 steps"
    for (scheme, rate, snr_db), line in by_cell.items():
        values = [
            row.metrics["psnr"]
            for row in read_results(results).records
            if (row.scheme, row.nominal_rate, row.nominal_snr_db) == (scheme, rate, float(snr_db))
        ]
        assert line["PSNR / dB"].startswith(f"{statistics.fmean(values):.2f}\n")
    assert "FID" not in page.find_element(By.TAG_NAME, "main").text
    assert "PSNR / dB, initial" not in page.find_element(By.ID, "summary-table").text


def test_bold_is_the_best_of_its_rate_and_snr(page: WebDriver) -> None:
    bold = page.find_elements(By.CSS_SELECTOR, "#summary-table strong")
    texts = [element.text for element in bold if element.is_displayed()]
    rates_and_snrs = 6  # in each of which PSNR, LPIPS and one distance differ, nothing else
    assert len(texts) == 3 * rates_and_snrs
    assert texts.count("30.00") == rates_and_snrs
    assert {"21.15", "0.4200"} <= set(texts)
    assert not {"20.15", "0.6200", "40.00", "0.7000"} & set(texts)


def test_figures_of_initial_images_are_shown_on_request(page: WebDriver) -> None:
    assert "initial" not in find(page, "summary-table").find_element(By.TAG_NAME, "thead").text
    find(page, "initial-shown").click()
    head = find(page, "summary-table").find_element(By.TAG_NAME, "thead").text
    assert head.count("initial") == 4
    assert "20.65" in find(page, "summary-table").text  # 0.5 dB above the final images' 20.15


def test_sorting(page: WebDriver) -> None:
    def psnrs() -> list[float]:
        return [float(line["PSNR / dB"].split()[0]) for line in table(page, "summary-table")]

    before = psnrs()
    header = page.find_element(By.XPATH, "//*[@id='summary-table']//th[contains(., 'PSNR')]")
    header.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert before != psnrs() == sorted(before)
    assert header.get_attribute("aria-sort") == "ascending"
    header.find_element(By.TAG_NAME, "button").click()
    assert psnrs() == sorted(before, reverse=True)
    assert header.get_attribute("aria-sort") == "descending"
    rate = page.find_element(By.XPATH, "//*[@id='summary-table']//th[contains(., 'rate')]")
    rate.find_element(By.TAG_NAME, "button").click()
    rates = [line["rate / cpp"] for line in table(page, "summary-table")]
    assert rates == 6 * ["1/128"] + 6 * ["1/64"]
    assert header.get_attribute("aria-sort") == "none"


def test_figures_are_drawn(page: WebDriver) -> None:
    charts = page.find_elements(By.CSS_SELECTOR, "#figures svg")
    assert len(charts) == 5  # over the rate at three SNRs, over the SNR at two rates
    for chart in charts:
        assert chart.size["width"] > 300
    names = page.execute_script(
        "return [...document.querySelectorAll('[id]')].map((element) => element.id)"
    )
    assert len(names) == len(set(names))


def test_a_image_s_transmissions_and_rank(page: WebDriver) -> None:
    choose(page, "chosen", "kodim02")
    lines = table(page, "transmissions")
    assert len(lines) == 24  # 2 schemes, 2 rates, 3 SNRs, 2 repeats
    assert [line["PSNR / dB"] for line in lines[:3]] == ["21.10", "21.20", "21.60"]
    assert lines[12]["PSNR / dB"] == "20.60 → 20.10"
    assert {line["channel uses"] for line in lines} == {"12", "24"}
    ranks = table(page, "ranks")
    assert len(ranks) == 12
    assert {line["rank"] for line in ranks} == {"2 of 3"}
    choose(page, "chosen", "kodim01")
    assert {line["rank"] for line in table(page, "ranks")} == {"3 of 3"}  # 0.1 dB below each next
    choose(page, "metric", "LPIPS")
    assert {line["rank"] for line in table(page, "ranks")} == {"1 of 3"}
    (first, *_) = page.find_elements(By.CSS_SELECTOR, "#ranks svg")
    dot = float(first.find_element(By.TAG_NAME, "circle").get_attribute("cx"))
    marks = first.find_elements(By.CSS_SELECTOR, "line:not(.axis)")
    assert dot == max(float(mark.get_attribute("x1")) for mark in marks)  # better is right


def test_set_up(page: WebDriver) -> None:
    text = find(page, "setup").text
    for told in ("compact@0123456789ab", "diffjscc 0.1.0", "bpg-ldpc: not part of this version"):
        assert told in text
    assert "cpu" in text
    assert "rates:\n- 1/128\n- 1/64\n" in text


def test_download(page: WebDriver, downloads: Path, results: Path) -> None:
    find(page, "download").click()
    path = downloads / "rows.jsonl"
    end = time.monotonic() + 10
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.05)
    assert read_records(path) == read_records(results / "rows.jsonl")


def test_it_needs_nothing_else(page: WebDriver, report: Path) -> None:
    for name in ("image", "point", "left", "right", "chosen", "metric"):
        for text in offered(page, name):
            choose(page, name, text)
    assert requests(page) == [report.as_uri()]
    assert complaints(page) == []
    attributes = re.findall(r'\b(?:src|href|action)="([^"]*)"', report.read_text(encoding="utf-8"))
    assert all(address.startswith(("#", "data:")) for address in attributes)


def test_markup_in_names_stays_text(page: WebDriver) -> None:
    assert page.title == "Images over noisy channels"
    choose(page, "image", MARKUP)
    choose(page, "chosen", MARKUP)
    assert page.find_elements(By.TAG_NAME, "b") == []
    assert len(page.find_elements(By.TAG_NAME, "script")) == 2
    page.execute_script("document.querySelector('details').open = true")
    assert MARKUP in find(page, "setup").text


def test_narrow_windows_scroll_in_one_direction_only(page: WebDriver) -> None:
    for width in (320, 390, 768):
        resize(page, width)
        find(page, "divider").send_keys(Keys.END)
        assert page.execute_script("return document.documentElement.scrollWidth") <= width
        assert find(page, "frame").size["width"] <= width


def test_paper(page: WebDriver) -> None:
    resize(page, 718)  # A4 without margins of 1 cm
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert page.execute_script("return document.documentElement.scrollWidth") <= 718
    for name in ("summary-table", "transmissions", "viewer"):
        assert find(page, name).is_displayed()
    assert not page.find_element(By.TAG_NAME, "nav").is_displayed()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_can_be_read(page: WebDriver, scheme: str) -> None:
    feature = {"name": "prefers-color-scheme", "value": scheme}
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    for selector in ("h1", ".lead", "nav a", ".note", "label", ".aside", "dt", "#download"):
        element = page.find_element(By.CSS_SELECTOR, selector)
        assert contrast(page, element) >= 4.5, selector  # WCAG 2.2, level AA
    dark = page.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (dark != "rgb(255, 255, 255)") == (scheme == "dark")


def test_everything_has_a_name(page: WebDriver) -> None:
    nodes = page.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
    roles = {"button", "combobox", "slider", "checkbox", "image", "link", "table", "region"}
    named = [node for node in nodes if node.get("role", {}).get("value") in roles]
    assert {node["role"]["value"] for node in named} == roles
    nameless = [node for node in named if not node.get("name", {}).get("value")]
    assert [node["role"]["value"] for node in nameless] == []
    levels = [
        int(element.tag_name[1]) for element in page.find_elements(By.CSS_SELECTOR, "h1, h2, h3")
    ]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    assert page.find_element(By.TAG_NAME, "html").get_attribute("lang") == "en"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["report", *map(str, arguments)])


def test_command(tmp_path: Path) -> None:
    rows = [row for row in toy_records() if row.point[2:] == ("1/128", 1.0)]
    one = toy_results(tmp_path / "one", [row for row in rows if row.scheme == "deepjscc"])
    two = toy_results(tmp_path / "two", [row for row in rows if row.scheme == "diffjscc"])
    result = run(one, two)
    assert result.exit_code == 0, result.output
    text = (one / "report.html").read_text(encoding="utf-8")
    assert "12 transmissions of 3 images by deepjscc and diffjscc over awgn" in text
    assert "<h3>one</h3>" in text
    assert "<h3>two</h3>" in text
    # A folder that is given twice is no second set of transmissions.
    assert run(one, two, one, "-o", tmp_path / "again.html").exit_code == 0
    assert "12 transmissions" in (tmp_path / "again.html").read_text(encoding="utf-8")


def test_command_on_what_is_no_results(tmp_path: Path) -> None:
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "holds no results" in result.output
    folder = toy_results(tmp_path / "toy", toy_records(repeats=1))
    missing = folder / "images" / "kodim01-diffjscc-final.png"
    missing.unlink()
    result = run(folder)
    assert result.exit_code == 2
    assert f"{missing} is missing" in result.output
    assert not (folder / "report.html").exists()

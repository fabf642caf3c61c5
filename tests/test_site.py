"""The documentation site: no warning, no link into nothing, nothing from elsewhere."""

import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urldefrag

import pytest
from selenium.webdriver.support.ui import WebDriverWait

import diffjscc
from browser import complaints, opened, requests, resize
from locations import ROOT

if TYPE_CHECKING:
    from selenium.webdriver.chrome.webdriver import WebDriver

LEADS = {"a": "href"}  # may lead elsewhere
LOADS = {"link": "href", "script": "src", "img": "src", "iframe": "src", "source": "src"}


class Page(HTMLParser):
    """Anchors of a page, what it leads to, and what it loads."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.leads: list[str] = []
        self.loads: list[str] = []
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := values.get(key))}
        if tag in LEADS and (target := values.get(LEADS[tag])):
            self.leads.append(target)
        if tag in LOADS and (target := values.get(LOADS[tag])):
            self.loads.append(target)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the site, built as `make docs` builds it."""
    folder = tmp_path_factory.mktemp("documentation") / "site"
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    built = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert built.returncode == 0, built.stderr[-3000:]
    assert "WARNING" not in built.stderr
    return folder


@pytest.fixture(scope="module")
def pages(site: Path) -> dict[Path, Page]:
    """All pages of the site."""
    return {path: Page(path) for path in site.rglob("*.html") if path.name != "404.html"}


def test_links_and_anchors(pages: dict[Path, Page]) -> None:
    lost = []
    for path, page in pages.items():
        for target in page.leads + page.loads:
            place, fragment = urldefrag(target)
            if place.startswith(("https://", "data:")):
                continue
            file = (path.parent / unquote(place)).resolve() if place else path
            known = pages[file].anchors if file in pages else set()
            if not file.is_file() or (fragment and unquote(fragment) not in known):
                lost.append(f"{path.name}: {target}")
    assert lost == []


def test_nothing_is_loaded_from_elsewhere(pages: dict[Path, Page], site: Path) -> None:
    for path, page in pages.items():
        assert [one for one in page.loads if "//" in one] == [], path
    for style in site.rglob("*.css"):
        assert "url(http" not in style.read_text(encoding="utf-8")


def test_every_public_name_and_command_is_documented(site: Path) -> None:
    public = (site / "reference" / "index.html").read_text(encoding="utf-8")
    assert [name for name in diffjscc.__all__ if f"<code>{name}</code>" not in public] == []
    commands = (site / "reference" / "commands.html").read_text(encoding="utf-8")
    for command in ("transmit", "evaluate", "train jscc", "fetch kodak", "symbols export"):
        assert f"diffjscc {command}</code>" in commands


def test_the_diagram_leads_to_every_room(site: Path) -> None:
    method = (site / "method.html").read_text(encoding="utf-8")
    package = ROOT / "src" / "diffjscc"
    modules = [path for path in package.glob("*.py") if not path.name.startswith("__")]
    for room in (*modules, *(path.parent for path in package.glob("*/__init__.py"))):
        assert f'<a href="reference/{room.stem}.html">' in method


def test_from_the_disk_in_a_browser(site: Path, browser: "WebDriver") -> None:
    page = opened(browser, site / "method.html")
    assert page.find_element("css selector", "svg.rooms a rect").is_displayed()
    page.execute_script("document.querySelector('.md-search__input').focus()")
    page.find_element("css selector", ".md-search__input").send_keys("effective SNR")
    WebDriverWait(page, 20).until(
        lambda page: page.find_elements("css selector", ".md-search-result__item")
    )
    assert all(address.startswith("file:") for address in requests(browser))
    assert complaints(browser) == []


@pytest.mark.parametrize("name", ["index", "start", "reference/commands", "glossary"])
def test_no_page_is_wider_than_a_telephone(site: Path, browser: "WebDriver", name: str) -> None:
    page = opened(browser, site / f"{name}.html")
    resize(browser, 390, 844)
    width = page.execute_script("return document.documentElement.scrollWidth")
    assert width <= 390

"""A reader who does all that a page says, in order, from a folder of photographs."""

from pathlib import Path

import pytest

from locations import ROOT
from pages import PAGES, Reader, blocks

FOLLOWED = [
    page
    for page in PAGES
    if page.name != "extending.md"  # test_extending.py does
    and any(block.runs and block.language in ("bash", "sh", "python") for block in blocks(page))
]


@pytest.mark.parametrize("page", FOLLOWED, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_says_can_be_done(page: Path, tmp_path: Path) -> None:
    Reader(tmp_path).follow(page)

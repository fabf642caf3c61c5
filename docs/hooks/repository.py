"""Bring the repository's other pages and files into the site, under the paths that links name.

Pages are written to be read in the repository as well as on the site: README.md is the site's
home, `docs/` is its root, and all else that a page links to lies under its own path.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from posixpath import dirname, normpath, relpath

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
HOME = {"README.md": "index.md"}
LINK = re.compile(r"(\]\()([^)\s#:]+)(#[^)\s]*)?(?=\))")
COMMENT = re.compile(r"^<!-- (?:not run|file|with): .*-->\n", re.MULTILINE)


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add README.md, and what it and all pages link to outside `docs/`."""
    waiting = ["README.md", *(f"docs/{file.src_uri}" for file in files.documentation_pages())]
    seen = set(waiting)
    while waiting:
        origin = waiting.pop()
        if not origin.startswith("docs/"):
            place = ROOT / origin
            if not place.is_file():
                raise PluginError(f"{origin} is linked to, but is no file of the repository")
            files.append(File.generated(config, site_path(origin), abs_src_path=str(place)))
        if origin.endswith(".md"):
            text = (ROOT / origin).read_text(encoding="utf-8")
            new = {target for target in targets(text, origin) if target not in seen}
            waiting += sorted(target for target in new if not target.startswith("docs/"))
            seen |= new
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Make a page's links relative to where it lies on the site, and drop the tests' comments."""
    here = page.file.src_uri
    origin = next((source for source, place in HOME.items() if place == here), None)
    if origin is None:
        origin = f"docs/{here}" if (ROOT / "docs" / here).exists() else here

    def moved(link: re.Match[str]) -> str:
        target = site_path(normpath(f"{dirname(origin)}/{link[2]}".lstrip("/")))
        return f"{link[1]}{relpath(target, dirname(here) or '.')}{link[3] or ''}"

    return COMMENT.sub("", LINK.sub(moved, markdown))


def site_path(origin: str) -> str:
    """Path on the site, before it is rendered, of a file of the repository."""
    return HOME.get(origin, origin.removeprefix("docs/"))


def targets(text: str, origin: str) -> Iterator[str]:
    """Paths in the repository of what a page links to."""
    for link in LINK.finditer(text):
        yield normpath(f"{dirname(origin)}/{link[2]}".lstrip("/"))

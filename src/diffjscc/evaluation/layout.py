"""Names of the files in a folder of results.

    setup.json         what was run, see `Setup`
    rows.jsonl         a `Record` a line, in the order of the plan
    distances.jsonl    a `PointDistances` a line
    absent.jsonl       an `Absent` a line: what a scheme cannot send
    images.jsonl       a `KeptImages` a line: which images were kept, and of what
    images/            those images
    unfinished/        records and features of a run that is not finished

A line is a JSON object. rows.jsonl is written last: it is there if, and only if, a run is finished.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from diffjscc.data.search import safe_stem

IMAGES = "images"


@dataclass(frozen=True)
class Layout:
    """Paths within a folder of results.

    Attributes:
        folder: of the results.
    """

    folder: Path

    @property
    def setup(self) -> Path:
        """Set-up of the run."""
        return self.folder / "setup.json"

    @property
    def records(self) -> Path:
        """A line per transmission."""
        return self.folder / "rows.jsonl"

    @property
    def distances(self) -> Path:
        """A line per operating point and network of features."""
        return self.folder / "distances.jsonl"

    @property
    def absent(self) -> Path:
        """A line per image and operating point that does not exist."""
        return self.folder / "absent.jsonl"

    @property
    def kept(self) -> Path:
        """A line per transmission of which images were kept."""
        return self.folder / "images.jsonl"

    @property
    def unfinished(self) -> Path:
        """Folder that is gone once a run is finished."""
        return self.folder / "unfinished"

    @property
    def features(self) -> Path:
        """Features of the patches of an unfinished run."""
        return self.unfinished / "features"

    def point_distances(self, point: int) -> Path:
        """Distances of an operating point, by its number, in an unfinished run."""
        return self.unfinished / f"distances-{point}.jsonl"

    @staticmethod
    def original(image: str) -> str:
        """A kept original, as a path within the folder."""
        return f"{IMAGES}/{safe_stem(image)}.png"

    @staticmethod
    def kept_image(image: str, point: int, kind: str = "") -> str:
        """A kept image of an operating point, as a path within the folder."""
        suffix = f"-{kind}" if kind else ""
        return f"{IMAGES}/{safe_stem(image)}-{point}{suffix}.png"


def results_files(folder: Path) -> list[Path]:
    """List what a folder of results holds and no other output may replace."""
    layout = Layout(folder)
    lines = (layout.records, layout.distances, layout.absent, layout.kept)
    return [layout.setup, *lines, folder / IMAGES, layout.unfinished]

"""Names of the files in a folder of results.

    setup.json         what was run, see `Setup`
    rows.jsonl         a `Record` a line, in the order of the plan
    distances.jsonl    a `PointDistances` a line
    absent.jsonl       an `Absent` a line: what a scheme cannot send
    images.jsonl       a `KeptImages` a line: which images were kept, and of what
    images/            those images
    features/          features of patches, from which distances are measured anew when a sweep
                       gains images or repeats; nothing else needs them
    unfinished/        records of a run that is not finished
    .lock              process that writes here

A line is a JSON object. A run is finished if there is rows.jsonl, and no folder unfinished/, which
is removed last.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from diffjscc.data.search import safe_stem
from diffjscc.evaluation.records import OperatingPoint

IMAGES = "images"
LONGEST = 60  # bytes of a name in a file's name


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
    def lock(self) -> Path:
        """File that the process which writes here has locked."""
        return self.folder / ".lock"

    @property
    def features(self) -> Path:
        """Features of patches."""
        return self.folder / "features"

    def point_distances(self, point: OperatingPoint) -> Path:
        """Distances of an operating point in an unfinished run."""
        return self.unfinished / f"distances-{point_name(point)}.jsonl"

    @staticmethod
    def original(image: str) -> str:
        """A kept original, as a path within the folder."""
        return f"{IMAGES}/{safe_stem(image)}.png"

    @staticmethod
    def kept_image(image: str, point: OperatingPoint, kind: str = "") -> str:
        """A kept image of an operating point, as a path within the folder."""
        suffix = f"-{kind}" if kind else ""
        return f"{IMAGES}/{safe_stem(image, LONGEST)}--{point_name(point)}{suffix}.png"


def results_files(folder: Path) -> list[Path]:
    """List what a folder of results holds and no other output may replace."""
    layout = Layout(folder)
    lines = (layout.records, layout.distances, layout.absent, layout.kept)
    return [layout.setup, *lines, folder / IMAGES, layout.features, layout.unfinished]


def point_name(point: OperatingPoint) -> str:
    """Name of an operating point in names of files, such as "diffjscc--awgn--1_128--1dB"."""
    names = (point.scheme, point.channel, point.nominal_rate.replace("/", "_"))
    return "--".join([*map(safe_name, names), f"{point.nominal_snr_db:.9g}dB"])


def safe_name(name: str) -> str:
    """Return an ASCII name that every file system takes; a changed one ends with a hash."""
    safe = re.sub(r"[^a-zA-Z0-9_.+-]+", "-", name).strip(".-")
    if safe == name and len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{safe[:LONGEST]}-{digest}" if safe else f"_{digest}"

"""Kept images, ready to be put into a page beside each other."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from PIL import Image

from diffjscc.data.images import decode
from diffjscc.evaluation.layout import Layout
from diffjscc.evaluation.lines import ResultsError
from diffjscc.evaluation.records import KeptImages, Record
from diffjscc.evaluation.results import Results

QUALITY = 90  # of WebP
WEBP_SIDE = 16383  # pixels; the format has no larger images

Kind = Literal["original", "initial", "final", "uncertainty"]


@dataclass(frozen=True)
class Embedded:
    """An image as a data URI, and its size in pixels."""

    source: str
    width: int
    height: int


@dataclass(frozen=True)
class View:
    """An image in a scene.

    Attributes:
        label: distinguishes it from the others there.
        kind: its part in the transmission.
        image: its number among the images.
        record: the number of its transmission among the records; None for an original.
    """

    label: str
    kind: Kind
    image: int
    record: int | None


@dataclass
class Scene:
    """Everything that was kept of an image at an operating point, by whichever scheme.

    Attributes:
        image: the image's name.
        point: rate, SNR and channel, and which repeat if it is not the first.
        views: the original, then each scheme's images.
    """

    image: str
    point: str
    views: list[View] = field(default_factory=list)


class Gallery:
    """Scenes, and the images in them: each once, however often it is shown.

    Args:
        records: that views refer to.
    """

    def __init__(self, records: Sequence[Record]) -> None:
        self.scenes: dict[object, Scene] = {}
        self.images: list[Embedded] = []
        self._numbers: dict[bytes, int] = {}
        self._records = {record.transmission: n for n, record in enumerate(records)}

    def add(self, result: Results) -> None:
        """Add the kept images of a folder of results.

        Raises:
            ResultsError: an image is missing, or has no record.
            ValueError: an image is damaged.
        """
        for kept in result.kept:
            record = result.record_of(kept)
            place = (kept.image, record.image_hash, *kept.point[1:], kept.repeat)
            scene = self.scenes.setdefault(place, Scene(kept.image, _point(kept)))
            number = self._records[record.transmission]
            originals = [View("original", "original", self._number(result, kept.original), None)]
            own: tuple[tuple[Kind, str | None], ...] = (
                ("initial", kept.initial),
                ("final", kept.final),
                ("uncertainty", kept.uncertainty),
            )
            views = originals + [
                View(f"{kept.scheme}, {kind}", kind, self._number(result, name), number)
                for kind, name in own
                if name is not None
            ]
            scene.views += [view for view in views if view not in scene.views]

    def _number(self, result: Results, name: str) -> int:
        path = result.folder / name
        try:
            content = path.read_bytes()
        except FileNotFoundError as error:
            raise ResultsError(
                f"{path} is missing; put it back, or remove its line in "
                f"{Layout(result.folder).kept}"
            ) from error
        digest = hashlib.sha256(content).digest()
        if digest not in self._numbers:
            self._numbers[digest] = len(self.images)
            self.images.append(embedded(content, path))
        return self._numbers[digest]


def embedded(content: bytes, path: Path) -> Embedded:
    """Encode a PNG file's image as WebP of quality 90, or keep it where that takes fewer bytes.

    Args:
        content: of the file.
        path: of the file, for errors.

    Raises:
        ImageError: it cannot be decoded.
    """
    image = Image.fromarray(decode(io.BytesIO(content), path))
    kind, best = "png", content
    if max(image.size) <= WEBP_SIDE:
        buffer = io.BytesIO()
        image.save(buffer, "WEBP", quality=QUALITY)
        if buffer.tell() < len(content):
            kind, best = "webp", buffer.getvalue()
    source = f"data:image/{kind};base64,{base64.b64encode(best).decode()}"
    return Embedded(source, image.width, image.height)


def _point(kept: KeptImages) -> str:
    repeat = f", repeat {kept.repeat}" if kept.repeat else ""
    return f"R = {kept.nominal_rate}, {kept.nominal_snr_db:g} dB, {kept.channel}{repeat}"

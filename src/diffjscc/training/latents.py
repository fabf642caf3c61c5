"""Precomputed latents on disk, which training on latents reads in place of images.

    FOLDER/index.json               which images, over what link, with whose weights
    FOLDER/part-00000.safetensors   256 images, the next ones in the next part

Of every image: mean and deviation of its own latent, the condition latents of its initial
images (one per transmission), the SNRs and rates of these. In float16 that is a few per cent of
the size of the initial images, and neither codec nor VAE is run in training. Where
training reads them, the images, the latents that the prior sampled, and what it sampled them from
are kept too.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from safetensors import SafetensorError, safe_open
from safetensors.torch import save as to_safetensors
from torch import Tensor

from diffjscc.data.files import atomic_write
from diffjscc.pretrained.storage import read_json

PART = 256  # images; a killed process loses at most so many
INDEX = "index.json"
KINDS = ("original", "initial", "snr_db", "rates")  # tensors of every image


@dataclass(frozen=True)
class ImageLatents:
    """One image and its N transmissions.

    Attributes:
        original: mean and deviation of the image's latent, float16 [2, C, h, w].
        initial: condition latents of the initial images, float16 [N, C, h, w].
        snr_db: effective SNR in dB, float32 [N].
        rates: numbers of the rates, among those of the codec, int64 [N].
        captions: captions of the initial images.
        sampled: latents that the prior sampled for the initial images, float16 [N, C, h, w]; only
            where training reads them, as is `image`.
        image: the image, uint8 [1, 3, H, W].
        noise: noise that sampling began with, float16 [N, C, h, w].
        begin: time steps that sampling skipped, int64 [N].
    """

    original: Tensor
    initial: Tensor
    snr_db: Tensor
    rates: Tensor
    captions: list[str]
    sampled: Tensor | None = None
    image: Tensor | None = None
    noise: Tensor | None = None
    begin: Tensor | None = None


def part_path(folder: Path, number: int) -> Path:
    """The file of images 256·number and after."""
    return folder / f"part-{number:05}.safetensors"


def part_count(images: int) -> int:
    """Files that hold so many images."""
    return -(-images // PART)


def write_part(path: Path, images: Iterable[ImageLatents]) -> None:
    """Write one part atomically; it may be without images, if none could be read."""
    tensors: dict[str, Tensor] = {}
    captions = []
    for row, image in enumerate(images):
        tensors[f"original.{row}"] = image.original.contiguous()
        tensors[f"initial.{row}"] = image.initial.contiguous()
        tensors[f"snr_db.{row}"] = image.snr_db
        tensors[f"rates.{row}"] = image.rates
        for name in ("sampled", "image", "noise", "begin"):
            if (value := getattr(image, name)) is not None:
                tensors[f"{name}.{row}"] = value.contiguous()
        captions.append(image.captions)
    with atomic_write(path) as temporary:
        temporary.write_bytes(to_safetensors(tensors, {"captions": json.dumps(captions)}))


class LatentFolder:
    """The images of all parts, by number; reading a crop touches little but its own bytes.

    Args:
        folder: a folder that `diffjscc precompute` wrote, say.
        expected: settings that the latents must have been computed with.

    Attributes:
        folder: as given.

    Raises:
        ValueError: nothing there, not complete, damaged, or made with other settings.
    """

    def __init__(self, folder: Path, expected: dict[str, Any]) -> None:
        self.folder = folder
        if not (folder / INDEX).exists():
            raise ValueError(
                f"{folder} holds no latents; run `diffjscc precompute` with this config first"
            )
        check_index(folder, expected)
        parts = part_count(expected["images"])
        missing = [n for n in range(parts) if not part_path(folder, n).exists()]
        if missing:
            raise ValueError(
                f"{len(missing)} of the {parts} parts of {folder} are missing, the first is "
                f"{part_path(folder, missing[0]).name}; run `diffjscc precompute` again, it goes on"
            )
        self._parts: list[Any] = []
        self._places: list[tuple[int, int]] = []
        self._captions: list[list[str]] = []
        for number in range(parts):
            path = part_path(folder, number)
            try:
                part: Any = safe_open(path, "pt")
                metadata: dict[str, str] = part.metadata()
                captions = json.loads(metadata["captions"])
                names = {f"{kind}.{row}" for row in range(len(captions)) for kind in KINDS}
                if lost := names - set(part.keys()):
                    raise ValueError(f"it lacks {min(lost)}")
            except (SafetensorError, OSError, ValueError, TypeError, KeyError) as error:
                raise ValueError(
                    f"{path} is damaged ({error}); remove it and run the same command again"
                ) from error
            self._parts.append(part)
            self._places += [(number, row) for row in range(len(captions))]
            self._captions += captions
        if not self._places:
            raise ValueError(f"none of the images of {folder} could be read; check data.train")
        if left_out := expected["images"] - len(self):
            warnings.warn(
                f"{left_out} of {expected['images']} images could not be read when the latents in "
                f"{folder} were made, and are left out",
                stacklevel=2,
            )

    def __len__(self) -> int:
        return len(self._places)

    def name(self, number: int) -> str:
        """Place of an image: its part and the row there."""
        part, row = self._places[number]
        return f"{part_path(self.folder, part).stem} row {row}"

    def original(self, number: int, size: int, corner: tuple[float, float]) -> Tensor:
        """A square of an image's own latent: mean and deviation, float32 [2, C, size, size].

        Args:
            number: of the image.
            size: side of the square, in latent positions.
            corner: where it lies, from (0, 0), top left, to (1, 1), bottom right; 1 excluded.
        """
        place, row = self._places[number]
        return _square(self._parts[place].get_slice(f"original.{row}"), slice(None), size, corner)

    def initial(
        self, number: int, transmission: int, size: int, corner: tuple[float, float]
    ) -> Tensor:
        """The same square of a transmission's condition latent, float32 [C, size, size]."""
        place, row = self._places[number]
        return _square(self._parts[place].get_slice(f"initial.{row}"), transmission, size, corner)

    def sampled(
        self, number: int, transmission: int, size: int, corner: tuple[float, float]
    ) -> Tensor:
        """The same square of the latent sampled for a transmission, float32 [C, size, size]."""
        place, row = self._places[number]
        return _square(self._parts[place].get_slice(f"sampled.{row}"), transmission, size, corner)

    def noise(self, number: int, transmission: int) -> Tensor:
        """Noise that the sampling for a transmission began with, float32 [C, h, w]."""
        place, row = self._places[number]
        noise: Tensor = self._parts[place].get_tensor(f"noise.{row}")[transmission].float()
        return noise

    def begin(self, number: int, transmission: int) -> int:
        """Number of time steps that the sampling for a transmission skipped."""
        place, row = self._places[number]
        return int(self._parts[place].get_tensor(f"begin.{row}")[transmission])

    def image(self, number: int, size: int, corner: tuple[float, float], stride: int) -> Tensor:
        """The image behind the same square, float32 [3, stride·size, stride·size] in [0, 1].

        `stride` is in pixels per latent position and side.
        """
        place, row = self._places[number]
        pixels = self._parts[place].get_slice(f"image.{row}")
        return _square(pixels, 0, size, corner, stride) / 255

    def snr_db(self, number: int, transmission: int) -> float:
        """Effective SNR of a transmission in dB."""
        place, row = self._places[number]
        value: float = self._parts[place].get_tensor(f"snr_db.{row}")[transmission].item()
        return value

    def caption(self, number: int, transmission: int) -> str:
        """Caption of a transmission's initial image; empty without one."""
        return self._captions[number][transmission]


class _OnDisk(Protocol):
    """A tensor in a safetensors file, of which parts can be read."""

    def get_shape(self) -> list[int]: ...

    def __getitem__(self, index: tuple[slice | int, ...]) -> Tensor: ...


def _square(
    tensor: _OnDisk, which: slice | int, size: int, corner: tuple[float, float], stride: int = 1
) -> Tensor:
    """Read a square of size² positions of [N, C, stride·h, stride·w] without the rest."""
    sides = (side // stride for side in tensor.get_shape()[2:])
    top, left = (int(place * (side - size + 1)) for place, side in zip(corner, sides, strict=True))
    rows, columns = (slice(stride * n, stride * (n + size)) for n in (top, left))
    return tensor[which, :, rows, columns].float()


def check_index(folder: Path, expected: dict[str, Any]) -> None:
    """Raise ValueError unless the latents in `folder` were made with the expected settings."""
    found = read_json(folder / INDEX)
    changed = [
        f"{key}: {found.get(key)} there, {expected.get(key)} here"
        for key in sorted(found.keys() | expected.keys())
        if found.get(key) != expected.get(key)
    ]
    if changed:
        raise ValueError(
            f"the latents in {folder} were made with other settings ({'; '.join(changed)}); "
            "choose another folder for these, or go back to those"
        )

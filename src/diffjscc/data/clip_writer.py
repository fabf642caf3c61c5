"""Clips as files: GIF by Pillow, MP4, Matroska and WebM by PyAV."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from fractions import Fraction
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from diffjscc.data.clip_names import ENCODERS
from diffjscc.data.clips import load_av
from diffjscc.data.decoding import ImageError
from diffjscc.data.files import atomic_write
from diffjscc.data.images import to_pillow

MOST_GIF_PIXELS = 300_000_000  # of all frames, which a GIF's writer keeps in memory, a byte each

Add = Callable[[Tensor], None]


def check_clip_output(path: Path, count: int, size: tuple[int, int]) -> None:
    """Raise ImageError if a clip of so many frames of this size cannot be written to `path`."""
    if path.suffix.lower() == ".gif":
        if count * size[0] * size[1] > MOST_GIF_PIXELS:
            raise ImageError(
                path,
                f"would have {count} frames of {size[1]}x{size[0]}, too many pixels for a GIF",
                "write .mp4, or give --max-side",
            )
        return
    av = load_av(str(path))
    encoder, _ = ENCODERS[path.suffix.lower()]
    if encoder not in av.codecs_available:
        raise ImageError(path, f"needs {encoder}, which this PyAV lacks", "write .gif or a folder")


@contextmanager
def writing_clip(path: Path, rate: Fraction) -> Iterator[Add]:
    """Provide a function that adds a frame, 8-bit levels uint8 [3, H, W], to a clip.

    The file appears when the block ends, however it ends, if there is at least one frame: what an
    interruption leaves is a clip of the frames until then.

    Args:
        path: with one of `clip_names.CLIP_SUFFIXES`; its folder must exist.
        rate: frames per second.
    """
    writer = _GIF(path, rate) if path.suffix.lower() == ".gif" else _Video(path, rate)
    try:
        yield writer.add
    finally:
        writer.finish()


def _check_size(path: Path, size: tuple[int, int], first: tuple[int, int]) -> None:
    """Raise ImageError for a frame whose size in pixels is not that of the first one."""
    if size != first:
        raise ImageError(
            path,
            f"has frames of {first[0]}x{first[1]}, and this image is {size[0]}x{size[1]}",
            "send images of one size, or write to a folder",
        )


class _GIF:
    """Frames in memory, of 256 colours each, which Pillow writes together."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.path, self.rate = path, rate
        self.frames: list[Image.Image] = []

    def add(self, levels: Tensor) -> None:
        """Add a frame."""
        frame = to_pillow(levels).quantize(dither=Image.Dither.NONE)
        _check_size(self.path, frame.size, (self.frames or [frame])[0].size)
        self.frames.append(frame)

    def finish(self) -> None:
        """Write the file, if there are frames."""
        if not self.frames:
            return
        shown = max(20, round(1000 / self.rate))  # ms; browsers take less for a mistake
        with atomic_write(self.path) as temporary:
            self.frames[0].save(
                temporary, save_all=True, append_images=self.frames[1:], duration=shown, loop=0
            )


class _Video:
    """A video, encoded frame by frame."""

    def __init__(self, path: Path, rate: Fraction) -> None:
        self.path, self.rate = path, rate
        self.av = load_av(str(path))
        self.file = ExitStack()
        self.container: Any = None

    def add(self, levels: Tensor) -> None:
        """Add a frame; the first one opens the file."""
        pixels = _even(levels).permute(1, 2, 0).contiguous().cpu().numpy()
        if self.container is None:
            encoder, options = ENCODERS[self.path.suffix.lower()]
            temporary = self.file.enter_context(atomic_write(self.path))
            self.container = self.av.open(str(temporary), "w")
            self.stream = self.container.add_stream(encoder, rate=self.rate, options=options)
            self.stream.height, self.stream.width = pixels.shape[:2]
            self.stream.pix_fmt = "yuv420p"
        size = pixels.shape[1], pixels.shape[0]
        _check_size(self.path, size, (self.stream.width, self.stream.height))
        frame = self.av.VideoFrame.from_ndarray(pixels, format="rgb24")
        self.container.mux(self.stream.encode(frame))

    def finish(self) -> None:
        """Give the file its name, if there are frames."""
        if self.container is not None:
            with self.file, self.container:
                self.container.mux(self.stream.encode(None))


def _even(levels: Tensor) -> Tensor:
    """Repeat the last row and column of odd sides: colours have half the resolution."""
    height, width = levels.shape[-2:]
    rows = torch.arange(height + height % 2).clamp_(max=height - 1)
    columns = torch.arange(width + width % 2).clamp_(max=width - 1)
    return levels[:, rows][:, :, columns]

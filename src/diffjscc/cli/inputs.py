"""Images that `diffjscc transmit` is given: files, folders, clips and standard input."""

from __future__ import annotations

import sys
import tempfile
import unicodedata
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import torch

from diffjscc.cli.terminal import printed, stderr
from diffjscc.data.clips import VIDEO_SUFFIXES, Clip, is_clip, is_video, open_clip
from diffjscc.data.decoding import ImageError, Pixels, decode, is_image
from diffjscc.data.folders import visible_files
from diffjscc.data.search import find_images_below, safe_stem, unique_stems
from diffjscc.evaluation.images import SourceImage
from diffjscc.paths import expanded, printable, resolved

STDIN = "-"
STDIN_NAME = "standard input"
MOST_BYTES = 1 << 30  # of standard input
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Input:
    """An image to send.

    Attributes:
        name: in records and messages.
        stem: beginning of the names of what is made of it, after its folder within the output.
        file: that it is read from; of standard input, a copy.
        read: reads it. Frames of a clip are read in their order, each once.
        clip: that it is a frame of, if any.
    """

    name: str
    stem: str
    file: Path
    read: Callable[[], SourceImage]
    clip: Clip | None = None


@dataclass(frozen=True)
class _Found:
    """A file among the arguments: its path, its folder within the output, its name."""

    path: Path
    folder: PurePosixPath
    name: str


class Inputs:
    """Images of a command's arguments; a context that ends with the copy of standard input.

    Args:
        arguments: files, folders (with their subfolders), glob patterns and "-".
        output: folder that is passed over where it lies in one of them; None is none.
        max_side: larger images are reduced to this longest side, in pixels.
        most_frames: of each clip, from its beginning, see `open_clip`.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        output: Path | None,
        max_side: int | None = None,
        most_frames: int | None = None,
    ) -> None:
        self.arguments, self.output = arguments, output
        self.max_side, self.most_frames = max_side, most_frames
        self._copies = tempfile.TemporaryDirectory(prefix="diffjscc-")

    def __enter__(self) -> list[Input]:
        """Find everything; clips are looked through, images are not yet read.

        Raises:
            ImageError: an argument matches nothing, or a clip cannot be sent.
            ValueError: standard input is given twice, empty, too long or a terminal.
        """
        try:
            return self._find()
        except BaseException:
            self._copies.cleanup()
            raise

    def __exit__(self, *_: object) -> None:
        self._copies.cleanup()

    def _find(self) -> list[Input]:
        twice = list(self.arguments).count(STDIN)
        if twice > 1:
            raise ValueError(f"{STDIN_NAME} (-) is given {twice} times; give it once")
        found: dict[Path, _Found] = {}
        for argument in self.arguments:
            if argument == STDIN:
                copy = Path(self._copies.name, "stdin")
                _copy_stdin(copy)
                found[copy] = _Found(copy, PurePosixPath("."), STDIN_NAME)
                continue
            for path, folder in find_images_below(argument, self.output):
                found.setdefault(resolved(path), _Found(path, folder, printable(str(path))))
            _warn_of_videos(Path(expanded(argument)))
        inputs: list[Input] = []
        files = list(found.values())
        for one, stem in zip(files, _stems(files), strict=True):
            inputs += self._inputs(one, stem)
        if self.most_frames is not None and not any(one.clip for one in inputs):
            raise ValueError(
                f"--frames {self.most_frames} is for videos and animations, and there are none; "
                "leave it out"
            )
        return inputs

    def _inputs(self, found: _Found, stem: str) -> list[Input]:
        """An image, or the frames of a clip."""
        if not (_is_clip_of_any_name if found.name == STDIN_NAME else is_clip)(found.path):
            return [Input(found.name, stem, found.path, lambda: self._image(found))]
        with stderr.status(f"looking through {printed(found.name)}"):
            clip = open_clip(found.path, found.name, self.max_side, self.most_frames)
        if clip.sound:
            warnings.warn(f"{found.name}: its sound is left out", stacklevel=2)
        digits = max(4, len(str(clip.count)))
        frames = _Frames(clip)
        return [
            Input(f"{found.name}#{number}", f"{stem}/{number:0{digits}}", found.path, frames, clip)
            for number in range(1, clip.count + 1)
        ]

    def _image(self, found: _Found) -> SourceImage:
        if found.name != STDIN_NAME:
            return SourceImage.read(found.path, max_side=self.max_side)
        with found.path.open("rb") as file:
            return _image(found.name, decode(file, found.name, self.max_side))


class _Frames:
    """Frames of a clip, the next one at every call."""

    def __init__(self, clip: Clip) -> None:
        self.clip, self.number = clip, 0
        self._decoded: Iterator[Pixels] = clip.frames()

    def __call__(self) -> SourceImage:
        self.number += 1
        name = f"{self.clip.name}#{self.number}"
        pixels = next(self._decoded, None)
        if pixels is None:
            raise ImageError(name, "cannot be read any more", "send the clip again")
        return _image(name, pixels)


def _image(name: str, pixels: Pixels) -> SourceImage:
    return SourceImage.checked(name, torch.from_numpy(pixels).permute(2, 0, 1).contiguous())


def _copy_stdin(path: Path) -> None:
    """Copy standard input into a file."""
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None or sys.stdin.closed:
        raise ValueError(f"{STDIN_NAME} is closed; pipe an image into it, or name a file")
    if sys.stdin.isatty():
        raise ValueError(f"{STDIN_NAME} is a terminal; pipe an image into it, or name a file")
    size = 0
    with path.open("wb") as file:
        while chunk := stream.read(_CHUNK):
            size += len(chunk)
            if size > MOST_BYTES:
                raise ValueError(
                    f"{STDIN_NAME} holds more than {MOST_BYTES >> 20:,} MiB; save it to a file, "
                    "and name that"
                )
            file.write(chunk)
    if not size:
        raise ValueError(f"{STDIN_NAME} is empty; pipe an image into it, or name a file")


def _is_clip_of_any_name(path: Path) -> bool:
    """Return whether a file is an animation or a video, by its content alone."""
    if is_clip(path):
        return True
    with path.open("rb") as file:
        return not is_image(file) and is_video(path)


def _stems(found: Sequence[_Found]) -> list[str]:
    """Choose distinct stems within each folder, which keep the folders of the arguments."""
    folders = ["/".join(map(safe_stem, one.folder.parts)) for one in found]
    groups: dict[str, list[int]] = {}
    for index, folder in enumerate(folders):
        groups.setdefault(unicodedata.normalize("NFC", folder).casefold(), []).append(index)
    stems = [""] * len(found)
    for group in groups.values():
        for index, stem in zip(group, unique_stems([found[i].path for i in group]), strict=True):
            stems[index] = f"{folders[index]}/{stem}" if folders[index] else stem
    return stems


def _warn_of_videos(folder: Path) -> None:
    """Say that the videos of a folder are not sent with its images."""
    if folder.is_dir():
        names = visible_files(folder)
        videos = [name for name in names if Path(name).suffix.lower() in VIDEO_SUFFIXES]
        if videos:
            warnings.warn(
                f"{printable(str(folder))}: {len(videos)} videos are left out, the first one "
                f"{printable(videos[0])}; name them to send them",
                stacklevel=2,
            )

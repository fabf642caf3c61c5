"""Clips: frames of videos (PyAV) and animations (Pillow), in order, one in memory at a time."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from diffjscc.data.decoding import (
    MAX_PIXELS,
    ImageError,
    Pixels,
    check_pixels,
    decode_frames,
    is_animation,
    reduced,
)

if TYPE_CHECKING:
    from types import ModuleType

MOST_FRAMES = 1000
VIDEO_SUFFIXES = frozenset(
    (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".ogv", ".y4m")
)
DEFAULT_RATE, HIGHEST_RATE = Fraction(25), Fraction(240)  # frames per second

# Those of lists of other files, which could name any file or address, are left out.
_DEMUXERS = "avi,matroska,webm,mov,mp4,m4a,3gp,3g2,mj2,mpeg,mpegts,mpegvideo,ogg,yuv4mpegpipe"


@dataclass(frozen=True)
class Clip:
    """Frames of a file, all of one size.

    Attributes:
        path: of the file.
        name: of the clip, in errors.
        count: frames.
        rate: frames per second, their mean.
        size: height and width in pixels.
        sound: whether there is sound beside them.
        max_side: larger frames are reduced to this longest side, in pixels.
    """

    path: Path
    name: str
    count: int
    rate: Fraction
    size: tuple[int, int]
    sound: bool
    max_side: int | None

    def frames(self) -> Iterator[Pixels]:
        """Decode the frames, in order.

        Raises:
            ImageError: the file has changed, or cannot be decoded any more.
        """
        with closing(_frames(self.path, self.name, self.max_side)) as frames:
            yield from (pixels for pixels, _ in islice(frames, self.count))


def is_clip(path: Path) -> bool:
    """Return whether a file is a video, by its suffix, or an animation, by its content."""
    return path.suffix.lower() in VIDEO_SUFFIXES or _is_animation(path)


def is_video(path: Path) -> bool:
    """Return whether a file of any name has a video in it; False without PyAV."""
    try:
        return any(True for _ in islice(_video_frames(path, str(path), None), 1))
    except ImageError:
        return False


def open_clip(
    path: Path, name: str, max_side: int | None = None, most_frames: int | None = None
) -> Clip:
    """Look a video or an animation through.

    Args:
        path: of the file.
        name: of the clip, in errors.
        max_side: larger frames are reduced to this longest side, in pixels.
        most_frames: to take from the beginning; None takes all, which must be at most
            `MOST_FRAMES`.

    Raises:
        ImageError: it cannot be decoded, has no frames, too many, too large ones or ones of
            several sizes, or PyAV is not installed.
    """
    count, seconds, size = 0, 0.0, None
    limit = MOST_FRAMES + 1 if most_frames is None else most_frames
    with closing(_frames(path, name, max_side)) as frames:
        try:
            for pixels, shown in islice(frames, limit):
                count, seconds = count + 1, seconds + shown
                size = size or (pixels.shape[0], pixels.shape[1])
                if size != pixels.shape[:2]:
                    raise ImageError(name, "has frames of several sizes", "convert it to one size")
        except ImageError as error:
            if count == 0 or size is None:
                raise
            raise ImageError(
                name,
                f"{error.problem}, after {count} frames",
                f"{error.remedy}, or give --frames {count} to send those",
            ) from error
    if size is None:
        raise ImageError(name, "has no frames", "export it again")
    if most_frames is None and count > MOST_FRAMES:
        raise ImageError(
            name,
            f"has more than {MOST_FRAMES:,} frames",
            f"give --frames {MOST_FRAMES} to send the beginning, or cut it",
        )
    rate = Fraction(count / seconds).limit_denominator(1001) if seconds > 0 else DEFAULT_RATE
    rate = min(max(rate, Fraction(1, 10)), HIGHEST_RATE)
    return Clip(path, name, count, rate, size, _has_sound(path, name), max_side)


def _is_animation(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return is_animation(file)
    except OSError:
        return False


def _frames(
    path: Path, name: str, max_side: int | None
) -> Generator[tuple[Pixels, float], None, None]:
    """Decode frames of either kind, each with the seconds for which it is shown."""
    if _is_animation(path):
        with path.open("rb") as file:
            yield from decode_frames(file, name, max_side)
    else:
        yield from _video_frames(path, name, max_side)


def _video_frames(path: Path, name: str, max_side: int | None) -> Iterator[tuple[Pixels, float]]:
    """Decode the frames of a video, upright."""
    av = load_av(name)
    try:
        with path.open("rb") as file, _open_video(av, file) as container:
            stream = _video_stream(container, name)
            check_pixels(name, stream.codec_context.width, stream.codec_context.height)
            rate = stream.average_rate or stream.guessed_rate or DEFAULT_RATE
            for frame in container.decode(stream):
                check_pixels(name, frame.width, frame.height)
                pixels = np.rot90(frame.to_ndarray(format="rgb24"), frame.rotation // 90 % 4)
                image = reduced(Image.fromarray(np.ascontiguousarray(pixels)), max_side)
                yield np.array(image), float(1 / rate)
    except ImageError:
        raise
    except Exception as error:  # of PyAV: its own errors, ValueError, ZeroDivisionError, …
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        way = "it is damaged or of an unusual kind: export it again"
        raise ImageError(name, f"cannot be decoded ({reason})", way) from error


def _open_video(av: ModuleType, file: Any) -> Any:  # noqa: ANN401 - PyAV's container
    return av.open(
        file,
        options={"max_pixels": str(MAX_PIXELS)},
        container_options={"format_whitelist": _DEMUXERS, "protocol_whitelist": "none"},
    )


def _video_stream(container: Any, name: str) -> Any:  # noqa: ANN401 - PyAV's stream
    if not container.streams.video:
        raise ImageError(name, "has no video in it", "give another file")
    stream = container.streams.video[0]
    if stream.codec_context is None:
        raise ImageError(name, "has a video of an unknown kind", "convert it to H.264")
    return stream


def _has_sound(path: Path, name: str) -> bool:
    if _is_animation(path):
        return False
    with path.open("rb") as file, _open_video(load_av(name), file) as container:
        return bool(container.streams.audio)


def load_av(name: str) -> ModuleType:
    """Import PyAV.

    Raises:
        ImageError: it is not installed; `name` is the file that needs it.
    """
    try:
        import av  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise ImageError(
            name, "is a video, which needs PyAV", "pip install 'diffjscc[digital]'"
        ) from error
    return av

"""Small clips for tests."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from PIL import Image

Frames = Sequence[Image.Image]


def moving_square(count: int = 4, size: tuple[int, int] = (64, 48)) -> list[Image.Image]:
    """Frames in which a light square moves to the right over a dark ramp."""
    frames = []
    for number in range(count):
        ramp = np.tile(np.linspace(20, 90, size[0]), (size[1], 1))
        pixels = np.stack((ramp, ramp * 0.5, ramp * 1.5), -1)
        left = 4 + 8 * number
        pixels[10:26, left : left + 16] = 230
        frames.append(Image.fromarray(pixels.astype(np.uint8)))
    return frames


def write_video(path: Path, frames: Frames, rate: int = 10, sound: bool = False) -> Path:
    """Write a video with H.264, VP9 or MPEG-4, as its suffix has it."""
    encoder = {".webm": "libvpx-vp9", ".avi": "mpeg4"}.get(path.suffix, "libx264")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(encoder, rate=rate)
        stream.width, stream.height = frames[0].size
        stream.pix_fmt = "yuv420p"
        audio = container.add_stream("aac", rate=44100) if sound else None
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_image(frame)))
        container.mux(stream.encode(None))
        if audio is not None:
            silence = av.AudioFrame.from_ndarray(
                np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
            )
            silence.sample_rate = 44100
            container.mux(audio.encode(silence))
            container.mux(audio.encode(None))
    return path


def write_animation(path: Path, frames: Frames, milliseconds: int = 100) -> Path:
    """Write a GIF, WebP or PNG with several frames."""
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=milliseconds)
    return path


def write_clip(path: Path, frames: Frames) -> Path:
    """Write a video or an animation, as its suffix has it."""
    write = write_animation if path.suffix in (".gif", ".webp", ".png") else write_video
    return write(path, frames)

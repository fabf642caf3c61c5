"""Clips: frames of videos and animations come out as they went in."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from clips import moving_square, write_animation, write_clip, write_video
from diffjscc.data.clip_names import CLIP_SUFFIXES
from diffjscc.data.clip_writer import MOST_GIF_PIXELS, check_clip_output, writing_clip
from diffjscc.data.clips import MOST_FRAMES, is_clip, is_video, open_clip
from diffjscc.data.decoding import ImageError


def levels(frame: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(frame)).permute(2, 0, 1)


def error_of(one: np.ndarray, other: Image.Image) -> float:
    return float(np.abs(one.astype(float) - np.asarray(other, dtype=float)).mean())


@pytest.mark.parametrize(
    "suffix", [".gif", ".webp", ".png", ".mp4", ".mkv", ".webm", ".mov", ".avi"]
)
def test_frames_in_order_at_their_rate(suffix: str, tmp_path: Path) -> None:
    frames = moving_square()
    path = write_clip(tmp_path / f"clip{suffix}", frames)
    assert is_clip(path)
    clip = open_clip(path, "clip")
    assert (clip.count, clip.size, clip.sound) == (4, (48, 64), False)
    assert clip.rate == 10
    decoded = list(clip.frames())
    for one, frame in zip(decoded, frames, strict=True):
        others = [error_of(one, other) for other in frames]
        assert min(others) == error_of(one, frame) < 6
    assert all(np.array_equal(a, b) for a, b in zip(decoded, clip.frames(), strict=True))


def test_images_are_no_clips(tmp_path: Path) -> None:
    for suffix in (".gif", ".webp", ".png", ".jpg"):
        moving_square(1)[0].save(tmp_path / f"one{suffix}")
        assert not is_clip(tmp_path / f"one{suffix}")
        assert not is_video(tmp_path / f"one{suffix}")
    (tmp_path / "no.gif").write_bytes(b"GIF89a")
    assert not is_clip(tmp_path / "no.gif")
    assert is_video(write_video(tmp_path / "a.mp4", moving_square()).rename(tmp_path / "a"))


def test_limits(tmp_path: Path) -> None:
    frames = moving_square(2, (16, 16)) * (MOST_FRAMES // 2) + moving_square(1, (16, 16))
    path = write_video(tmp_path / "long.mp4", frames)
    with pytest.raises(ImageError, match=r"more than 1,000 frames; give --frames 1000 to send"):
        open_clip(path, "long.mp4")
    assert open_clip(path, "long.mp4", most_frames=1000).count == 1000
    few = open_clip(path, "long.mp4", most_frames=3)
    assert few.count == len(list(few.frames())) == 3
    assert open_clip(path, "long.mp4", max_side=8, most_frames=1).size == (8, 8)
    assert open_clip(path, "long.mp4", most_frames=5000).count == 1001


def test_sound_is_noticed(tmp_path: Path) -> None:
    assert open_clip(write_video(tmp_path / "a.mp4", moving_square(), sound=True), "a").sound


def test_videos_of_phones_are_turned_upright(tmp_path: Path) -> None:
    path = write_video(tmp_path / "a.mp4", moving_square())
    content = path.read_bytes()
    upright = np.array([1, 0, 0, 0, 1, 0, 0, 0, 0x4000], ">i4")
    upright[[0, 4]] = 0x10000
    turned = np.array([0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000], ">i4")  # by 90° clockwise
    upright[8] = 0x40000000
    track = content.rindex(upright.tobytes())  # the first one is the whole file's
    path.write_bytes(content[:track] + turned.tobytes() + content[track + 36 :])
    clip = open_clip(path, "a")
    assert clip.size == (64, 48)
    for one, frame in zip(clip.frames(), moving_square(), strict=True):
        assert error_of(one, frame.rotate(-90, expand=True)) < 6


@pytest.mark.parametrize("suffix", CLIP_SUFFIXES)
@pytest.mark.parametrize("size", [(64, 48), (31, 17)])
def test_written_clips_are_read_again(suffix: str, size: tuple[int, int], tmp_path: Path) -> None:
    frames, path = moving_square(5, size), tmp_path / f"clip{suffix}"
    with writing_clip(path, Fraction(10)) as add:
        for frame in frames:
            add(levels(frame))
        assert not path.exists()
    clip = open_clip(path, "clip")
    assert (clip.count, clip.rate) == (5, 10)
    for one, frame in zip(clip.frames(), frames, strict=True):
        assert error_of(one[: size[1], : size[0]], frame) < 5
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", CLIP_SUFFIXES)
def test_an_interruption_leaves_the_frames_until_then(suffix: str, tmp_path: Path) -> None:
    path, frames = tmp_path / f"clip{suffix}", moving_square()

    def interrupted(count: int) -> None:
        with writing_clip(path, Fraction(10)) as add:
            for frame in frames[:count]:
                add(levels(frame))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted(0)
    assert not list(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        interrupted(2)
    assert open_clip(path, "clip").count == 2
    with writing_clip(path, Fraction(10)) as add:
        for frame in frames[:3]:
            add(levels(frame))
        with pytest.raises(ImageError, match="has frames of 64x48, and this image is 32x32"):
            add(levels(frames[0].resize((32, 32))))
    assert open_clip(path, "clip").count == 3


def test_a_gif_of_too_many_pixels_is_refused_first(tmp_path: Path) -> None:
    count = MOST_GIF_PIXELS // (1920 * 1080) + 1
    with pytest.raises(ImageError, match=r"too many pixels for a GIF; write \.mp4"):
        check_clip_output(tmp_path / "a.gif", count, (1080, 1920))
    check_clip_output(tmp_path / "a.mp4", count, (1080, 1920))


def test_without_pyav_animations_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    video = write_video(tmp_path / "a.mp4", moving_square())
    gif = write_animation(tmp_path / "a.gif", moving_square())
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    assert open_clip(gif, "a.gif").count == 4
    with pytest.raises(ImageError, match=r"needs PyAV; pip install 'diffjscc\[digital\]'"):
        open_clip(video, "a.mp4")
    assert not is_video(video)

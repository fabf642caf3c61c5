"""Images from files to tensors and back; whatever is wrong is one kind of error."""

import os
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFile

from diffjscc.data.images import (
    MAX_PIXELS,
    ImageError,
    load_image,
    quantise,
    save_image,
)
from diffjscc.data.search import find_images, unique_stems
from locations import PHOTOGRAPHS

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)


def png(width, height, depth, colour, body):
    """A PNG file written by hand, for what Pillow does not write."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    data = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(body))
    return b"\x89PNG\r\n\x1a\n" + data + chunk(b"IEND", b"")


def stored(image, path, **options):
    image.save(path, **options)
    return load_image(path)


def grey(image):
    assert torch.equal(image[0], image[1])
    assert torch.equal(image[0], image[2])
    return image[0].numpy()


# Writing and reading back


def test_what_is_written_is_read_and_is_what_quantise_gave(tmp_path):
    image = torch.rand(3, 37, 53, generator=torch.Generator().manual_seed(0)) * 1.2 - 0.1
    save_image(image, tmp_path / "a.png")
    again = load_image(tmp_path / "a.png")
    assert again.dtype == torch.float32
    assert again.is_contiguous()
    assert torch.equal(again, quantise(image))
    assert torch.equal(quantise(again), again)


def test_values_are_rounded_not_truncated(tmp_path):
    level = torch.arange(256).float()
    for shift, expected in ((-0.4, level), (0.0, level), (0.4, level)):
        image = ((level + shift) / 255).expand(3, 1, 256)
        save_image(image, tmp_path / "a.png")
        assert torch.equal(load_image(tmp_path / "a.png")[0, 0] * 255, expected)


def test_a_photograph_makes_the_round_trip(tmp_path):
    path = PHOTOGRAPHS / "astronaut.webp"
    image = load_image(path)
    assert image.shape == (3, 512, 512)
    save_image(image, tmp_path / "again.png")
    assert np.array_equal(np.array(Image.open(path)), np.array(Image.open(tmp_path / "again.png")))


def test_half_precision_can_be_saved(tmp_path):
    save_image(torch.full((3, 2, 2), 0.5, dtype=torch.bfloat16), tmp_path / "a.png")
    assert torch.equal(load_image(tmp_path / "a.png"), torch.full((3, 2, 2), 128 / 255))


def test_what_cannot_be_saved(tmp_path):
    with pytest.raises(ValueError, match="NaN"):
        save_image(torch.full((3, 2, 2), torch.nan), tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"\(1, 3, 2, 2\)"):
        save_image(torch.zeros(1, 3, 2, 2), tmp_path / "a.png")
    with pytest.raises(ValueError, match="int32"):
        save_image(torch.zeros(3, 2, 2, dtype=torch.int32), tmp_path / "a.png")
    with pytest.raises(ImageError, match="lossless"):
        save_image(torch.zeros(3, 2, 2), tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError):
        save_image(torch.zeros(3, 2, 2), tmp_path / "missing" / "a.png")
    assert not list(tmp_path.iterdir())


# Kinds of images


@pytest.mark.parametrize("suffix", ["png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation(tmp_path, suffix, orientation):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    shown = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.transpose(1, 0, 2),
        6: np.rot90(pixels, -1),
        7: pixels[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(pixels, 1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if suffix == "webp" else {}
    image = stored(Image.fromarray(pixels), tmp_path / f"a.{suffix}", exif=exif, **options)
    assert np.array_equal(image.permute(1, 2, 0).numpy() * 255, shown)


@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0\xff\xff\xff\xffxx", b"Exif\0\0garbage", b"x"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_spoils_nothing(tmp_path, exif):
    image = stored(Image.fromarray(RAMP), tmp_path / "a.png", exif=exif)
    assert np.array_equal(grey(image) * 255, RAMP)


def test_grey_palette_and_one_bit(tmp_path):
    assert np.array_equal(grey(stored(Image.fromarray(RAMP), tmp_path / "l.png")) * 255, RAMP)
    palette = Image.fromarray(RAMP).convert("P")
    assert np.array_equal(grey(stored(palette, tmp_path / "p.png")) * 255, RAMP)
    bits = Image.fromarray(np.eye(5, dtype=np.uint8) * 255).convert("1", dither=0)
    assert np.array_equal(grey(stored(bits, tmp_path / "1.png")), np.eye(5))


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_composited_on_white(tmp_path, mode):
    pixels = np.zeros((1, 3, 4), dtype=np.uint8)
    pixels[0, :, 3] = 0, 128, 255
    pillow = Image.fromarray(pixels)
    if mode == "PA":
        pillow = pillow.quantize(4)
        assert pillow.mode == "P"
    else:
        pillow = pillow.convert(mode)
    image = stored(pillow, tmp_path / "a.png")
    assert np.allclose(grey(image)[0] * 255, [255, 127, 0], atol=1)


def test_transparent_colours(tmp_path):
    pillow = Image.fromarray(np.array([[10, 20]], dtype=np.uint8))
    assert np.array_equal(
        grey(stored(pillow, tmp_path / "a.png", transparency=10))[0] * 255, [255, 20]
    )
    pillow = Image.new("P", (2, 1))
    pillow.putpalette([200, 0, 0, 0, 0, 200])
    pillow.putpixel((1, 0), 1)
    image = stored(pillow, tmp_path / "a.gif", transparency=0)
    assert torch.equal(image[:, 0] * 255, torch.tensor([[255, 0], [255, 0], [255.0, 200]]))


def test_sixteen_bit_grey_keeps_its_depth(tmp_path):
    values = np.array([[0, 1, 256, 32767, 65534, 65535]], dtype=np.uint16)
    for name in ("a.png", "a.tif"):
        image = stored(Image.fromarray(values), tmp_path / name)
        assert np.array_equal(grey(image), values.astype(np.float32) / np.float32(65535))
    big_endian = Image.frombytes("I;16B", (6, 1), values.astype(">u2").tobytes())
    assert np.array_equal(grey(stored(big_endian, tmp_path / "b.tif"))[0] * 65535, values[0])
    (tmp_path / "a.pgm").write_bytes(b"P5 6 1 65535\n" + values.astype(">u2").tobytes())
    assert np.array_equal(grey(load_image(tmp_path / "a.pgm"))[0] * 65535, values[0])


def test_sixteen_bit_colour_is_right_to_eight_bits(tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (5, 7, 3), dtype=np.uint16)
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    (tmp_path / "a.png").write_bytes(png(7, 5, 16, 2, rows))
    image = load_image(tmp_path / "a.png").permute(1, 2, 0).numpy()
    assert np.abs(image - values / 65535).max() <= 1 / 255


def test_float_and_wide_integers(tmp_path):
    values = np.array([[0, 0.25, 1]], dtype=np.float32)
    assert np.array_equal(grey(stored(Image.fromarray(values), tmp_path / "f.tif")), values)
    wide = Image.fromarray(np.array([[0, 65535]], dtype=np.int32))
    assert np.array_equal(grey(stored(wide, tmp_path / "i.tif")), [[0, 1]])
    for wrong in (values * 255, values - 1, values * np.nan, np.array([[70000]], dtype=np.int32)):
        with pytest.raises(ImageError, match="where 0 is black"):
            stored(Image.fromarray(wrong), tmp_path / "wrong.tif")


def test_cmyk_and_animation(tmp_path):
    image = stored(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), tmp_path / "a.tif")
    assert torch.equal(image[:, 0, 0], torch.tensor([0.0, 1, 1]))
    first, second = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")
    first.save(tmp_path / "a.webp", save_all=True, append_images=[second], lossless=True)
    assert torch.equal(load_image(tmp_path / "a.webp")[:, 0, 0], torch.tensor([1.0, 0, 0]))


@pytest.mark.parametrize("size", [(1, 1), (5000, 1), (1, 5000), (7680, 4320)])
def test_sizes(tmp_path, size):
    pillow = Image.new("L", size, 77)
    image = stored(pillow, tmp_path / "a.png", compress_level=1)
    assert image.shape == (3, size[1], size[0])
    assert torch.equal(image[:, -1, -1] * 255, torch.full((3,), 77.0))


# Failures


def test_every_failure_is_an_image_error_with_its_cause(tmp_path):
    good = tmp_path / "good.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(good)
    data = good.read_bytes()
    Image.fromarray(noise).save(tmp_path / "good.jpg")
    jpeg = (tmp_path / "good.jpg").read_bytes()
    contents = {
        "empty.png": (b"", "is empty"),
        "text.png": (b"this is no image\n" * 50, "is not a readable image"),
        "cut.png": (data[: len(data) // 2], "cannot be decoded"),
        "cut.jpg": (jpeg[: len(jpeg) // 2], "cannot be decoded"),
        "head.png": (data[:20], "is not a readable image|cannot be decoded"),
        "damaged.png": (data[:5000] + bytes(100) + data[5100:], "cannot be decoded"),
        "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "is not a readable image"),
        "script.eps": (
            b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
            "is not a readable image",
        ),
    }
    for name, (content, problem) in contents.items():
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(ImageError, match=problem) as caught:
            load_image(path)
        assert str(path) in str(caught.value)
        assert caught.value.remedy in str(caught.value)
    for path, problem in (
        (tmp_path / "missing.png", "does not exist"),
        (tmp_path, "is a folder"),
        (good / "inside.png", "cannot be read"),
        (tmp_path / ("x" * 300 + ".png"), "cannot be read"),
        ("null\0byte.png", "cannot be read"),
    ):
        with pytest.raises(ImageError, match=problem):
            load_image(path)


def test_a_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a regular file"):
        load_image(tmp_path / "pipe.png")


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_a_bomb_is_refused_before_it_is_decoded(tmp_path):
    (tmp_path / "bomb.png").write_bytes(png(30000, 30000, 1, 0, b""))
    with pytest.raises(ImageError, match="179 million pixels"):
        load_image(tmp_path / "bomb.png")
    side = 13400
    assert side**2 > MAX_PIXELS
    (tmp_path / "large.png").write_bytes(png(side, side, 1, 0, b""))
    with pytest.raises(ImageError, match="179 million pixels"):
        load_image(tmp_path / "large.png")


def test_pillow_is_left_as_it_was(tmp_path):
    before = Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES
    (tmp_path / "bomb.png").write_bytes(png(30000, 30000, 1, 0, b""))
    with pytest.raises(ImageError):
        load_image(tmp_path / "bomb.png")
    assert before == (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES)


@pytest.fixture
def ordinary(tmp_path_factory):
    """A folder of a user to whom permissions apply."""
    if os.geteuid() != 0:
        yield tmp_path_factory.mktemp("ordinary")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chown(folder, 65534, 65534)
        os.seteuid(65534)
        try:
            yield folder
        finally:
            os.seteuid(0)


def test_permission(ordinary):
    path = ordinary / "secret.png"
    Image.fromarray(RAMP).save(path)
    load_image(path)
    path.chmod(0)
    with pytest.raises(ImageError, match="permission denied"):
        load_image(path)
    locked = ordinary / "locked"
    locked.mkdir()
    Image.fromarray(RAMP).save(locked / "a.png")
    locked.chmod(0)
    with pytest.raises(ImageError, match="permissions"):
        find_images([locked])
    with pytest.raises(ImageError, match="permission denied"):
        load_image(locked / "a.png")
    locked.chmod(0o555)
    with pytest.raises(PermissionError, match="no permission for this folder"):
        save_image(torch.zeros(3, 2, 2), locked / "b.png")
    locked.chmod(0o700)


# What arguments name


@pytest.fixture
def album(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    for name in ("one/a2.png", "one/a10.png", "one/b[1].jpg", "two/a2.jpg", "two/A3.PNG"):
        Image.fromarray(RAMP).save(tmp_path / name)
    (tmp_path / "one" / "notes.txt").write_text("no image")
    (tmp_path / "one" / ".hidden.png").write_bytes((tmp_path / "one" / "a2.png").read_bytes())
    return tmp_path


def test_find_images(album):
    def names(*arguments):
        return [path.relative_to(album).as_posix() for path in find_images(arguments)]

    one = ["one/a2.png", "one/a10.png", "one/b[1].jpg"]
    assert names(album / "one") == one
    assert names(album / "one", str(album / "one" / ".." / "one" / "a2.png")) == one
    assert find_images(album / "one" / ".." / "one" / "*[02].png") == [
        album / "one" / ".." / name for name in one[:2]
    ]
    assert names(album / "one" / "b[1].jpg") == ["one/b[1].jpg"]
    assert names(album / "*" / "a*.*") == ["one/a2.png", "one/a10.png", "two/a2.jpg"]
    assert names(str(album / "**" / "*")) == [*one, "two/a2.jpg", "two/A3.PNG"]
    assert names(album / "one" / "notes.txt") == ["one/notes.txt"]  # named outright: load decides
    assert find_images(str(album / "two")) == [album / "two" / "a2.jpg", album / "two" / "A3.PNG"]


def test_images_in_subfolders_are_not_passed_over_in_silence(album):
    Image.fromarray(RAMP).save(album / "top.png")
    with pytest.warns(UserWarning, match=r"subfolders are not taken; .*\*\*/\*"):
        assert find_images(album) == [album / "top.png"]
    assert len(find_images(album / "**" / "*")) == 6


def test_what_names_no_image(album):
    (album / "empty").mkdir()
    with pytest.raises(ImageError, match="matches no image"):
        find_images([album / "one", album / "*.webp"])
    with pytest.raises(ImageError, match="contains no images"):
        find_images([album / "empty"])
    with pytest.raises(ImageError, match=r"matches no image|is not a pattern"):
        find_images([album / "**webp"])
    with pytest.raises(ImageError, match="does not exist"):
        find_images([album / "three"])


def test_unique_stems(album):
    assert unique_stems(find_images(album / "one")) == ["a2", "a10", "b[1]"]
    paths = [album / "one" / "a2.png", album / "two" / "a2.jpg", album / "two" / "a10.png"]
    assert unique_stems(paths) == ["a2_png", "a2_jpg", "a10"]
    paths = [album / "one" / "a.png", album / "two" / "A.PNG", album / "two" / "a_png.png"]
    labels = unique_stems(paths)
    assert labels == ["one_a_png", "two_A_PNG", "two_a_png_png"]
    assert unique_stems([]) == []
    with pytest.raises(ImageError, match="listed twice"):
        unique_stems([album / "one" / "a2.png"] * 2)

"""Image files as they come: decoded rightly, or refused by name, and never the end of others."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms, ImageDraw

from attempts import Attempts, unfinished
from diffjscc.data import decoding
from diffjscc.data.folders import FolderSource
from diffjscc.data.images import ImageError, load_image, read_pixels
from diffjscc.data.search import find_images

KIND = "image files"
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (40, 60, 3), np.uint8)


def smooth(mode: str = "RGB", size: tuple[int, int] = (60, 40)) -> Image.Image:
    ramps = [Image.linear_gradient("L").rotate(90 * turn).resize(size) for turn in range(3)]
    return Image.merge("RGB", ramps).convert(mode)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def with_chunks(*chunks: bytes, at_the_end: bool = False) -> bytes:
    stored = io.BytesIO()
    Image.fromarray(NOISE).save(stored, format="PNG")
    data = stored.getvalue()
    place = len(data) - 12 if at_the_end else 33  # before IEND, or after IHDR
    return data[:place] + b"".join(chunks) + data[place:]


def profile(red: tuple[float, float], green: tuple[float, float], gamma: float) -> bytes:
    """An ICC profile of a display with these primaries and a pure gamma, D65 adapted to D50."""

    def xyz(x: float, y: float) -> np.ndarray:
        return np.array([x / y, 1, (1 - x - y) / y])

    white = xyz(0.3127, 0.3290)
    primaries = np.stack([xyz(*red), xyz(*green), xyz(0.15, 0.06)], axis=1)
    columns = primaries * np.linalg.solve(primaries, white)
    cone = np.array(
        [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
    )
    d50 = np.array([0.9642, 1.0, 0.8249])
    scale = np.diag((cone @ d50) / (cone @ white))
    columns = np.linalg.inv(cone) @ scale @ cone @ columns

    def number(value: float) -> bytes:
        return struct.pack(">i", round(value * 65536))

    def place(values: np.ndarray) -> bytes:
        return b"XYZ \0\0\0\0" + b"".join(map(number, values))

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    name = b"Wide\0"
    words = b"desc\0\0\0\0" + struct.pack(">I", len(name)) + name + bytes(78)
    parts = {b"desc": words + b"\0" * (-len(words) % 4), b"wtpt": place(d50)}
    for letter, column in zip(b"rgb", columns.T, strict=True):
        parts[bytes([letter]) + b"XYZ"] = place(column)
        parts[bytes([letter]) + b"TRC"] = curve
    table, body = struct.pack(">I", len(parts)), b""
    first = 128 + 4 + 12 * len(parts)
    for kind, data in parts.items():
        table += kind + struct.pack(">II", first + len(body), len(data))
        body += data
    size = first + len(body)
    head = struct.pack(">I4sI4s4s4s", size, b"\0\0\0\0", 0x02400000, b"mntr", b"RGB ", b"XYZ ")
    head += bytes(12) + b"acsp" + bytes(28) + b"".join(map(number, d50))
    return head + bytes(128 - len(head)) + table + body


P3 = profile((0.68, 0.32), (0.265, 0.69), 2.2)
ADOBE = profile((0.64, 0.33), (0.21, 0.71), 2.2)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.mark.parametrize("megabytes", [1, 9])
@pytest.mark.parametrize("kind", [b"tEXt", b"zTXt", b"iTXt", b"iCCP"])
@pytest.mark.parametrize("at_the_end", [False, True])
def test_much_text_in_a_png(
    megabytes: int, kind: bytes, at_the_end: bool, tmp_path: Path, attempts: Attempts
) -> None:
    text = b"x" * (megabytes << 20)
    packed = zlib.compress(text)
    body = {
        b"tEXt": b"key\0" + text,
        b"zTXt": b"key\0\0" + packed,
        b"iTXt": b"key\0\1\0\0\0" + packed,
        b"iCCP": b"name\0\0" + packed,
    }[kind]
    path = tmp_path / "a.png"
    path.write_bytes(with_chunks(chunk(kind, body), at_the_end=at_the_end))
    with warnings.catch_warnings(record=True):
        assert np.array_equal(attempts.call(KIND, lambda: read_pixels(path)), NOISE)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "tif", "avif"])
@pytest.mark.parametrize("wide", [P3, ADOBE], ids=["Display P3", "Adobe RGB"])
def test_wide_colours_become_srgb(
    suffix: str, wide: bytes, tmp_path: Path, attempts: Attempts
) -> None:
    colours = [(0, 200, 0), (200, 0, 0), (120, 120, 120), (255, 255, 255)]
    for number, colour in enumerate(colours):
        path = tmp_path / f"{number}.{suffix}"
        Image.new("RGB", (16, 16), colour).save(path, icc_profile=wide, quality=100)
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            found = attempts.call(KIND, lambda path=path: read_pixels(path))[8, 8].astype(int)
        assert any("converted to sRGB" in str(one.message) for one in said)
        expected = {0: found[1] > 200 or found[0] < 3, 1: found[0] > 200}.get(number, True)
        assert expected, (colour, found)
        if number > 1:  # greys stay grey, and where they were
            assert np.abs(found - found.mean()).max() <= 2
            assert abs(found[0] - colour[0]) <= 4


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "CMYK", "I;16"])
@pytest.mark.parametrize("data", [SRGB, P3, b"no profile", P3[:200], b"\0" * 4096, P3[::-1]])
def test_profiles_of_any_image(mode: str, data: bytes, tmp_path: Path, attempts: Attempts) -> None:
    image = (
        Image.fromarray(NOISE[..., 0].astype(np.uint16) * 257) if mode == "I;16" else smooth(mode)
    )
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path, icc_profile=data)
    plain = tmp_path / f"plain{path.suffix}"
    image.save(plain)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        found = attempts.call(KIND, lambda: read_pixels(path))
    assert found.shape == (40, 60, 3)
    if data != P3:
        assert np.array_equal(found, read_pixels(plain))
    elif mode in ("RGB", "RGBA", "P"):
        assert any("converted" in str(one.message) for one in said)


def test_every_length_of_a_truncated_file(tmp_path: Path, attempts: Attempts) -> None:
    for suffix in ("png", "jpg", "webp", "gif", "tif", "bmp", "ppm", "jp2"):
        whole = tmp_path / f"whole.{suffix}"
        Image.fromarray(NOISE).save(whole)
        data = whole.read_bytes()
        path = tmp_path / f"cut.{suffix}"
        for length in (0, 1, 8, 20, len(data) // 4, len(data) // 2, len(data) * 9 // 10):
            path.write_bytes(data[:length])
            with warnings.catch_warnings(record=True):
                found = attempts.call(KIND, lambda path=path: load_image(path))
            assert isinstance(found, torch.Tensor) or str(path) in str(found)


def test_damaged_bytes(tmp_path: Path, attempts: Attempts) -> None:
    for suffix in ("png", "jpg", "webp", "gif", "tif", "avif"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(NOISE).save(path)
        data = path.read_bytes()
        for _ in range(12):
            damaged = bytearray(data)
            for place in RNG.integers(0, len(data), 6):
                damaged[place] = RNG.integers(256)
            path.write_bytes(damaged)
            with warnings.catch_warnings(record=True):
                found = attempts.call(KIND, lambda path=path: load_image(path))
            assert isinstance(found, torch.Tensor) or str(path) in str(found)


def test_wrong_suffixes(tmp_path: Path, attempts: Attempts) -> None:
    kinds = {"png": "PNG", "jpg": "JPEG", "webp": "WEBP", "gif": "GIF", "tif": "TIFF", "bmp": "BMP"}
    for right, kind in kinds.items():
        for wrong in kinds:
            path = tmp_path / f"{right}-as.{wrong}"
            smooth().save(path, format=kind)
            assert attempts.call(KIND, lambda path=path: load_image(path)).shape == (3, 40, 60)


def test_several_images_in_a_file(tmp_path: Path, attempts: Attempts) -> None:
    first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    for suffix in ("gif", "webp", "png", "tif", "mpo", "avif"):
        path = tmp_path / f"a.{suffix}"
        first.save(path, save_all=True, append_images=[second, second])
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            red, _, blue = attempts.call(KIND, lambda path=path: read_pixels(path))[4, 4]
        assert red > 240
        assert blue < 15
        told = any("first one is taken" in str(one.message) for one in said)
        assert told == (suffix != "mpo"), suffix  # a phone's second image is no page


def test_kinds_that_need_an_extra(
    tmp_path: Path, attempts: Attempts, monkeypatch: pytest.MonkeyPatch
) -> None:
    smooth().save(tmp_path / "a.png")
    known = {
        suffix: kind
        for suffix, kind in Image.registered_extensions().items()
        if kind in decoding._FORMATS
    }
    monkeypatch.setattr(decoding, "_readable_formats", lambda: known)
    for name in ("b.heic", "c.HEIC", "d.jxl", "e.dng"):
        (tmp_path / name).write_bytes(b"\0\0\0\x18ftypheic" + bytes(100))
    for search in (lambda: find_images(tmp_path), lambda: FolderSource(tmp_path).names):
        with pytest.warns(UserWarning, match=r"passed over 4 images .*diffjscc\[heic,jxl\]"):
            assert len(attempts.call(KIND, search)) == 1
    refused = attempts.call(KIND, lambda: load_image(tmp_path / "b.heic"))
    assert "diffjscc[heic]" in str(refused)
    (tmp_path / "a.png").unlink()
    assert "diffjscc[heic,jxl]" in str(attempts.call(KIND, lambda: find_images(tmp_path)))


@pytest.mark.parametrize(("module", "kind"), [("pillow_heif", "HEIF"), ("pillow_jxl", "JXL")])
def test_extras_read_their_kinds(
    module: str, kind: str, tmp_path: Path, attempts: Attempts
) -> None:
    pytest.importorskip(module, reason=f"the extra for {kind} files is not installed")
    decoding._readable_formats()
    path = tmp_path / ("a.heic" if kind == "HEIF" else "a.jxl")
    smooth().save(path, format=kind, quality=95)
    found = attempts.call(KIND, lambda: read_pixels(path))
    assert np.abs(found.astype(int) - np.asarray(smooth()).astype(int)).mean() < 6
    assert find_images(tmp_path) == [path]


def test_reduced_to_a_longest_side(tmp_path: Path, attempts: Attempts) -> None:
    for suffix, mode in [
        ("png", "RGB"),
        ("jpg", "RGB"),
        ("png", "L"),
        ("tif", "F"),
        ("png", "RGBA"),
    ]:
        for size in ((300, 200), (200, 300), (301, 7), (1, 400)):
            path = tmp_path / f"a.{suffix}"
            image = smooth("RGB", size)
            if mode == "F":
                image = Image.fromarray(np.asarray(image.convert("L"), np.float32) / 255)
            else:
                image = image.convert(mode)
            image.save(path)
            for side in (1, 50, 299, 300, 1000):
                found = attempts.call(KIND, lambda path=path, side=side: load_image(path, side))
                assert max(found.shape) == max(3, min(side, max(size)))
                assert found.min() >= 0
                assert found.max() <= 1
            assert torch.equal(load_image(path, 1000), load_image(path))


def test_bombs(tmp_path: Path, attempts: Attempts) -> None:
    for side in (14_000, 30_000, 60_000, 2**31 - 1):
        path = tmp_path / f"{side}.png"
        head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
        data = chunk(b"IDAT", zlib.compress(bytes(1000)))
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + data + chunk(b"IEND", b""))
        with warnings.catch_warnings(record=True):
            refused = attempts.call(KIND, lambda path=path: load_image(path))
        assert isinstance(refused, ImageError)
    bomb = with_chunks(chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(100 << 20))))
    (tmp_path / "text.png").write_bytes(bomb)
    assert attempts.call(KIND, lambda: load_image(tmp_path / "text.png")).shape == (3, 40, 60)


def test_one_bad_file_stops_no_other(tmp_path: Path, attempts: Attempts) -> None:
    folder, output = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    smooth().save(folder / "good.png")
    smooth("L").save(folder / "grey.png")
    smooth("L").convert("RGB").save(folder / "grey too.jpg", quality=100)
    turned = Image.Exif()
    turned[0x0112] = 6
    smooth("RGB", (60, 40)).save(folder / "turned.jpg", exif=turned)
    smooth("CMYK").save(folder / "cmyk.jpg")
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("no image")
    Image.fromarray(NOISE).save(folder / "cut.png")
    data = (folder / "cut.png").read_bytes()
    (folder / "cut.png").write_bytes(data[: len(data) // 2])
    result = attempts.command(KIND, "transmit", folder, "--refiner", "none", "-o", output)
    assert result.exit_code == 1
    for name in ("empty.png", "text.jpg", "cut.png"):
        assert result.stderr.count(f"{folder / name}: ") >= 1
    with Image.open(output / "turned.png") as upright:
        assert upright.size == (40, 60)
    for name, mode in {"good": "RGB", "grey": "L", "grey too": "L", "cmyk": "RGB"}.items():
        with Image.open(output / f"{name}.png") as written:
            assert written.mode == mode, name
            assert written.size == (60, 40)
    assert not unfinished(tmp_path)


def test_smaller_on_demand(tmp_path: Path, attempts: Attempts) -> None:
    image = smooth("RGB", (900, 600))
    ImageDraw.Draw(image).ellipse((100, 100, 500, 500), fill="white")
    image.save(tmp_path / "a.jpg")
    words = ("transmit", tmp_path / "a.jpg", "--refiner", "none", "-o", tmp_path / "out")
    assert attempts.command(KIND, *words, "--max-side", 96).exit_code == 0
    with Image.open(tmp_path / "out" / "a.png") as written:
        assert written.size == (96, 64)
    for side in (0, -1, "x"):
        assert attempts.command(KIND, *words, "--max-side", side).exit_code == 2

"""Source codecs: rate and quality on photographs, every size, and damage."""

import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffjscc.codecs.digital.capacity import capacity_bits
from diffjscc.codecs.digital.source_codecs.cached import CachedSource
from diffjscc.codecs.digital.source_codecs.downsampled import Downsampled, DownsamplingLadder
from diffjscc.codecs.digital.source_codecs.hevc import HEVCIntra
from diffjscc.codecs.digital.source_codecs.pillow import AVIF, JPEG, JPEG2000, WebP
from diffjscc.codecs.digital.source_codecs.source import SourceCodec, SourceError
from diffjscc.codecs.digital.source_codecs.ycbcr import double, halve, to_rgb, to_ycbcr
from diffjscc.data.images import load_image, quantise
from diffjscc.metrics.fidelity import psnr
from locations import GOLDEN, PHOTOGRAPHS

# Made by benchmarks/capacity.py.
CAPACITY = json.loads((GOLDEN / "bpg-capacity.json").read_text())
# Mean PSNR over Kodak of BPG 4:4:4 at capacity and R = 1/16, as published, by SNR in dB.
PUBLISHED = {1: 26.4, 4: 27.7, 7: 28.7, 10: 29.8, 13: 30.7}

SOURCES: dict[str, Callable[[], SourceCodec]] = {
    "bpg": HEVCIntra,
    "bpg 4:2:0": lambda: HEVCIntra("4:2:0"),
    "jpeg": JPEG,
    "jpeg2000": JPEG2000,
    "webp": WebP,
    "avif": AVIF,
    "bpg/2": lambda: Downsampled(HEVCIntra(), 2),
    "bpg/2 or bpg": lambda: DownsamplingLadder([Downsampled(HEVCIntra(), 2), HEVCIntra()]),
}


@pytest.fixture(params=SOURCES)
def source(request: pytest.FixtureRequest) -> SourceCodec:
    made = SOURCES[request.param]()
    assert made.name == request.param
    return made


@pytest.fixture(scope="module")
def photograph() -> Tensor:
    return load_image(PHOTOGRAPHS / "coffee.webp")


@pytest.fixture(scope="module")
def crop() -> Tensor:
    """A part of a photograph with fur and an eye, [3, 96, 128]."""
    return load_image(PHOTOGRAPHS / "chelsea.webp")[:, 100:196, 100:228]


def size_of(image: Tensor) -> tuple[int, int]:
    return image.shape[-2], image.shape[-1]


def closeness(image: Tensor, reference: Tensor) -> float:
    return psnr(quantise(image)[None], reference[None]).item()


def smooth(height: int, width: int) -> Tensor:
    """Colours that change slowly, at their steepest by 1/64 a pixel."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    ramp = (torch.stack((rows, columns, rows + columns)) % 64).float() / 64
    return 0.2 + 0.3 * (1 - (2 * ramp - 1).abs())


@pytest.mark.parametrize(
    ("chroma", "qp", "size", "quality"),
    [
        ("4:4:4", 32, 13915, 33.26),
        ("4:4:4", 42, 2859, 27.46),
        ("4:4:4", 51, 691, 23.49),
        ("4:2:0", 32, 12817, 32.62),
    ],
)
def test_hevc_gives_the_recorded_bytes_and_psnr(
    photograph: Tensor, chroma: str, qp: int, size: int, quality: float
) -> None:
    hevc = HEVCIntra(chroma)
    data = hevc.encode(photograph, 51 - qp)
    assert len(data) == pytest.approx(size, rel=0.03)
    assert closeness(hevc.decode(data, size_of(photograph)), photograph) == pytest.approx(
        quality, abs=0.15
    )


def assert_bpg_at_capacity(original: Tensor, snr_db: float, size: int, quality: float) -> None:
    """At R = 1/16: bytes and PSNR in dB, to what other builds of the encoder may change."""
    bits = capacity_bits(original[0].numel() // 16, snr_db)
    data = HEVCIntra().finest(original, bits)
    assert data is not None
    assert 0.85 * bits < 8 * len(data) <= bits
    assert len(data) == pytest.approx(size, rel=0.03)
    image = HEVCIntra().decode(data, size_of(original))
    assert closeness(image, original) == pytest.approx(quality, abs=0.15)


@pytest.mark.parametrize(
    ("name", "snr_db", "size", "quality"),
    [("coffee", 1, 2050, 26.53), ("astronaut", 7, 4797, 28.91), ("chelsea", 13, 4319, 32.85)],
)
def test_bpg_at_capacity_gives_the_recorded_figures(
    name: str, snr_db: int, size: int, quality: float
) -> None:
    assert_bpg_at_capacity(load_image(PHOTOGRAPHS / f"{name}.webp"), snr_db, size, quality)


def test_bpg_at_capacity_gives_the_golden_figures(kodak: Path) -> None:
    rows = {(row["image"], row["snr_db"]): row for row in CAPACITY["rows"]}
    for name, snr_db in (("kodim03", 7), ("kodim13", 1), ("kodim15", 13), ("kodim23", 10)):
        row = rows[f"{name}.png", snr_db]
        original = load_image(kodak / row["image"])
        assert_bpg_at_capacity(original, snr_db, row["bytes"], row["psnr"])


def test_golden_means_are_the_published_ones() -> None:
    for snr_db, published in PUBLISHED.items():
        values = [row["psnr"] for row in CAPACITY["rows"] if row["snr_db"] == snr_db]
        assert len(values) == 24
        assert sum(values) / 24 == pytest.approx(published, abs=0.4)


def test_bytes_and_quality_grow_together(source: SourceCodec, crop: Tensor) -> None:
    whole = source.sources[1] if isinstance(source, DownsamplingLadder) else source
    qualities = [*whole.qualities[:: len(whole.qualities) // 5], whole.qualities[-1]]
    data = [whole.encode(crop, quality) for quality in qualities]
    sizes = [len(part) for part in data]
    assert sizes == sorted(sizes)
    assert sizes[-1] > 5 * sizes[0]
    images = [whole.decode(part, size_of(crop)) for part in data]
    assert [closeness(image, crop) for image in images] == pytest.approx(
        sorted(closeness(image, crop) for image in images), abs=0.01
    )
    # What half the pixels or a quarter of the colours lose comes back at no quality.
    assert closeness(images[-1], crop) > (27 if whole.name == "bpg/2" else 36)


@pytest.mark.parametrize("size", [(1, 1), (1, 2), (2, 3), (17, 33), (9, 150)])
def test_every_size_comes_back(source: SourceCodec, size: tuple[int, int]) -> None:
    original = smooth(*size)
    data = source.encode(original, source.qualities[-1])
    image = source.decode(data, size)
    assert (image.shape, image.dtype) == (original.shape, torch.float32)
    assert 0 <= image.min() <= image.max() <= 1
    assert closeness(image, original) > 30
    coarsest = source.decode(source.encode(original, source.qualities[0]), size)
    assert coarsest.shape == original.shape


def test_a_grey_image_takes_next_to_nothing(source: SourceCodec) -> None:
    image = torch.full((3, 64, 80), 100 / 255)
    middle = source.qualities[len(source.qualities) // 2]
    data = source.encode(image, middle)
    assert len(data) < 180
    assert (source.decode(data, (64, 80)) - image).abs().max() < 3 / 255


def test_damaged_data_are_refused(source: SourceCodec, crop: Tensor) -> None:
    data = source.encode(crop, source.qualities[len(source.qualities) // 3])
    assert data[-1] != 0
    generator = torch.Generator().manual_seed(0)
    damaged = [data[:n] for n in (0, 1, 4, 5, len(data) // 2, len(data) - 1)]
    damaged += [data[1:], data + b"\1", b"\0" * len(data), bytes(reversed(data))]
    for position in torch.randint(8 * len(data), (20,), generator=generator).tolist():
        flipped = bytearray(data)
        flipped[position // 8] ^= 1 << position % 8
        damaged.append(bytes(flipped))
    for bad in damaged:
        with pytest.raises(SourceError, match=r"bytes|quality|damaged"):
            source.decode(bad, size_of(crop))


def test_another_size_or_setting_is_refused(crop: Tensor) -> None:
    for make in (HEVCIntra, JPEG, JPEG2000, WebP, AVIF):
        source: SourceCodec = make()
        data = source.encode(crop, source.qualities[10])
        with pytest.raises(SourceError, match=f"not a {source.name} image of 256x96"):
            source.decode(data, (96, 256))
    with pytest.raises(SourceError, match="not a bpg image"):
        HEVCIntra().decode(HEVCIntra("4:2:0").encode(crop, 20), size_of(crop))


def test_a_frame_may_be_filled_up_with_zeros(source: SourceCodec, crop: Tensor) -> None:
    data = source.encode(crop, source.qualities[0])
    filled = source.decode(data + bytes(100), size_of(crop))
    assert torch.equal(filled, source.decode(data, size_of(crop)))


@pytest.mark.parametrize("name", [name for name in SOURCES if " or " not in name])
def test_finest_is_the_finest_that_fits(name: str, crop: Tensor) -> None:
    source = SOURCES[name]()
    small = crop[:, :80, :96] if isinstance(source, Downsampled) else crop[:, :40, :48]
    data = [source.encode(small, quality) for quality in source.qualities]
    for number in (0, len(data) // 4, len(data) // 2, 7 * len(data) // 8, -1):
        for bits in (8 * len(data[number]), 8 * len(data[number]) - 1):
            fitting = [part for part in data if 8 * len(part) <= bits]
            assert source.finest(small, bits) == (fitting[-1] if fitting else None)
    assert source.finest(small, 0) is None


def test_a_ladder_goes_below_the_coarsest_and_takes_the_closest(crop: Tensor) -> None:
    whole = HEVCIntra()
    half, quarter = Downsampled(whole, 2), Downsampled(whole, 4)
    ladder = DownsamplingLadder([quarter, half, whole])
    coarsest = 8 * len(whole.encode(crop, 0))
    assert whole.finest(crop, coarsest - 8) is None
    for bits in (coarsest - 8, 2 * coarsest, 40 * coarsest):
        data = ladder.finest(crop, bits)
        assert data is not None
        assert 8 * len(data) <= bits
        reached = closeness(ladder.decode(data, size_of(crop)), crop)
        for source in (quarter, half, whole):
            single = source.finest(crop, bits - 8)
            if single is not None:
                image = source.decode(single, size_of(crop))
                assert closeness(image, crop) <= reached + 0.01
    assert ladder.finest(crop, 40 * coarsest)[:1] == b"\2"
    assert ladder.finest(crop, 8) is None
    assert len(ladder.qualities) == 3 * 52
    assert ladder.encode(crop, 52 + 30) == b"\1" + half.encode(crop, 30)


def test_no_image_is_coded_twice_at_one_quality(crop: Tensor) -> None:
    class Counting(WebP):
        written = 0

        def write(self, image: Tensor, quality: int) -> bytes:
            self.written += 1
            return super().write(image, quality)

    counting = Counting()
    remembered = CachedSource(counting)
    plain = WebP()
    for image in (crop, crop.flip(1), crop.reshape(3, 128, 96)):
        for bits in (10_000, 14_000, 20_000, 10_000):
            assert remembered.finest(image, bits) == plain.finest(image, bits)
    once = counting.written
    assert once < 3 * 4 * 9
    assert remembered.finest(crop, 14_000) == plain.finest(crop, 14_000)
    assert counting.written == once
    assert remembered.encode(crop, 3) == plain.encode(crop, 3)
    with pytest.raises(ValueError, match="nan"):
        remembered.encode(crop * torch.nan, 3)


def test_reduced_images_are_means_and_do_not_shift() -> None:
    wave = torch.linspace(0, 6.3, 203).sin().expand(3, 101, 203) / 4 + 0.5
    reduced = Downsampled(HEVCIntra(), 4)
    image = reduced.decode(reduced.encode(wave, 51), (101, 203))
    # A shift by half a pixel would be an error of up to 0.004 at the steepest.
    assert (image - wave)[:, :, 8:-8].abs().mean() < 0.002
    assert torch.allclose(reduced._shrink(wave)[0, 0, :3], wave[0, 0, :12].view(3, 4).mean(1))


def test_colours_are_those_of_bt_601_in_full_range() -> None:
    primaries = torch.eye(3).reshape(3, 3, 1)  # red, green and blue pixels below one another
    expected = [
        [0.299, 0.587, 0.114],
        [-0.168736, -0.331264, 0.5],
        [0.5, -0.418688, -0.081312],
    ]
    torch.testing.assert_close(
        to_ycbcr(primaries)[..., 0], torch.tensor(expected), atol=1e-6, rtol=0
    )
    colours = torch.rand(3, 20, 30)
    torch.testing.assert_close(to_rgb(to_ycbcr(colours)), colours, atol=1e-6, rtol=0)
    ramp = torch.arange(40.0).expand(2, 20, 40)
    # A shift by half a sample would be an error of 0.5.
    torch.testing.assert_close(double(halve(ramp))[..., 6:-6], ramp[..., 6:-6], atol=0.1, rtol=0)


def test_another_process_needs_the_bytes_and_the_size_alone(crop: Tensor) -> None:
    made = {name: make() for name, make in SOURCES.items()}
    data = {name: source.encode(crop, source.qualities[20]) for name, source in made.items()}
    script = (
        "import pickle, sys; from test_source_codecs import SOURCES; import torch\n"
        "data, size = pickle.load(sys.stdin.buffer)\n"
        "images = {name: SOURCES[name]().decode(part, size) for name, part in data.items()}\n"
        "torch.save(images, sys.stdout.buffer)"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    result = subprocess.run(
        [sys.executable, "-c", script],
        input=pickle.dumps((data, size_of(crop))),
        capture_output=True,
        check=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    images = torch.load(io.BytesIO(result.stdout), weights_only=True)
    for name, source in made.items():
        assert torch.equal(images[name], source.decode(data[name], size_of(crop)))


def test_what_is_no_image_or_quality_is_refused(source: SourceCodec) -> None:
    image = torch.rand(3, 20, 20)
    for bad, text in [
        (image[None], r"\[3, H, W\]"),
        ((255 * image).byte(), "uint8"),
        (3 * image, r"give values in \[0, 1\]"),
        (image * torch.nan, "nan"),
        (image[:, :0], "no side may be 0"),
    ]:
        with pytest.raises(ValueError, match=text):
            source.encode(bad, source.qualities[0])
        with pytest.raises(ValueError, match=text):
            source.finest(bad, 10**6)
    with pytest.raises(ValueError, match=r"qualities \d+ to \d+, not -1"):
        source.encode(image, -1)


@pytest.mark.parametrize("make", [HEVCIntra, JPEG, WebP])
def test_images_that_a_format_cannot_hold_are_refused(make: Callable[[], SourceCodec]) -> None:
    with pytest.raises(ValueError, match=r"70000x\d+.*resize"):
        make().encode(torch.zeros(3, 1, 70000), 1)


def test_capacity_is_shannon_s() -> None:
    assert capacity_bits(1000, 0) == 1000
    assert capacity_bits(24576, 10) == 85018  # 24576 · log2(11) = 85018.99
    assert capacity_bits(0, 5) == 0
    assert capacity_bits(10, -400) == 0
    with pytest.raises(ValueError, match="channel_uses is -1"):
        capacity_bits(-1, 0)
    with pytest.raises(ValueError, match="snr_db is nan"):
        capacity_bits(1, float("nan"))

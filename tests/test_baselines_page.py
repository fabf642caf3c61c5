"""docs/baselines.md says what the code does: its example, its table, its conversions."""

import math
import re
from fractions import Fraction
from pathlib import Path
from typing import get_args

import pytest
import torch

from diffjscc.choices import DigitalKind
from diffjscc.codecs.digital.capacity import capacity_bits
from diffjscc.codecs.digital.frame import Frame
from diffjscc.codecs.digital.link import MEAN_COLOUR, channel_uses
from diffjscc.codecs.digital.mcs import ALL, most_efficient, thresholds_db
from diffjscc.data.images import load_image
from diffjscc.metrics.fidelity import psnr
from diffjscc.schemes.digital import SOURCES
from locations import ROOT

PAGE = (ROOT / "docs" / "baselines.md").read_text(encoding="utf-8")


def test_the_worked_example() -> None:
    uses = channel_uses(Fraction(1, 128), (512, 768))
    bits = capacity_bits(uses, 1.0)
    assert f"= {uses:,} channel uses" in PAGE
    assert f"= {bits:,} bits: {bits // 8} bytes" in PAGE
    mcs = most_efficient(1.0)
    assert mcs is not None
    assert mcs.name == "bpsk 2/3"
    frame = Frame(mcs, uses)
    kinds = frame.uses_by_kind
    told = (
        f"{kinds['payload']:,} payload, {kinds['crc']} CRC and {kinds['parity']:,} parity bits: "
        f"{frame.data_bytes} bytes"
    )
    assert told in PAGE
    assert kinds["repetition"] == 0


def test_the_coarsest_images(kodak: Path) -> None:
    image = load_image(kodak / "kodim03.png")
    bpg = SOURCES["bpg"]()
    coarsest = 8 * len(bpg.encode(image, bpg.qualities[0]))
    told = re.search(r"kodim03 takes ([\d,]+) bits", PAGE)
    assert told is not None
    assert coarsest == pytest.approx(int(told[1].replace(",", "")), rel=0.03)


def test_the_table_of_thresholds() -> None:
    for modulation in ("BPSK", "QPSK", "16-QAM", "64-QAM", "256-QAM"):
        needed = [thresholds_db()[name] for name in ALL if name.startswith(modulation.lower())]
        assert f"| {modulation} | {' | '.join(f'{level:g}' for level in needed)} |" in PAGE


def test_the_cost_of_an_outage(kodak: Path) -> None:
    fixed, own = [], []
    for path in sorted(kodak.glob("*.png")):
        image = load_image(path)[None]
        colour = torch.tensor(MEAN_COLOUR)[:, None, None].expand_as(image)
        fixed.append(psnr(colour, image).item())
        own.append(psnr(image.mean(dim=(2, 3), keepdim=True).expand_as(image), image).item())
    assert f"{sum(fixed) / 24:.2f} dB PSNR on the Kodak images" in PAGE
    assert f"would be {sum(own) / 24:.2f} dB" in PAGE


def test_eb_n0_of_an_mcs() -> None:
    for name, told in (("bpsk 2/3", "BPSK 2/3 -1.76"), ("64-qam 3/4", "64-QAM 3/4 +6.53")):
        assert told in PAGE
        step_db = 10 * math.log10(ALL[name].efficiency)
        assert step_db == pytest.approx(float(told.rpartition(" ")[2]), abs=0.005)
    assert ALL["qpsk 1/2"].efficiency == 1


def test_every_source_codec_is_named() -> None:
    for name in SOURCES:
        assert f"`{name}-ldpc`" in PAGE
    assert set(get_args(DigitalKind)) == {
        f"{name}-{carrier}" for name in SOURCES for carrier in ("ldpc", "capacity")
    }

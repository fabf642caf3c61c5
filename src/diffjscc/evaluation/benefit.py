"""Benefit of a receiver: what generating repairs and breaks, and the strength that follows.

Each region of 64x64 pixels is compared with the original before and after the receiver, by LPIPS:
what is nearer then was repaired, what is further away was broken. Where photographs gain in the
mean the receiver works in full, where they do not the codec's image is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from math import log2

import numpy as np
import torch

from diffjscc.channels.awgn import AWGN
from diffjscc.data.crops import random_crop
from diffjscc.data.images import quantise
from diffjscc.data.sources import ImageSource
from diffjscc.evaluation.statistics import estimate
from diffjscc.metrics.lpips import LPIPS
from diffjscc.metrics.regions import SIDE, regional_lpips
from diffjscc.rate import Rate
from diffjscc.refiners.config import FULL
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.sampling import ByBits
from diffjscc.scheme import Scheme

CROP = 384  # pixels a side
FEWEST = 4  # photographs


@dataclass(frozen=True)
class Benefit:
    """Changes by the receiver at one rate and SNR, means over photographs.

    Attributes:
        rate: nominal, in channel uses per pixel.
        snr_db: Es/N0, over AWGN.
        repaired: fall of LPIPS where it falls, as a mean over all regions.
        broken: rise of LPIPS where it rises, likewise.
        half_width: half of the 95 % interval of repaired - broken, over photographs.
        worse: share of the regions whose LPIPS rises.
        photographs: how many.
    """

    rate: str
    snr_db: float
    repaired: float
    broken: float
    half_width: float
    worse: float
    photographs: int

    @property
    def net(self) -> float:
        """Fall of LPIPS by the receiver."""
        return self.repaired - self.broken

    @property
    def helps(self) -> bool:
        """Return whether photographs gain, beyond doubt at 95 %."""
        return self.net > self.half_width

    @property
    def bits(self) -> float:
        """Capacity in bits per pixel."""
        return float(Fraction(self.rate)) * log2(1 + 10 ** (self.snr_db / 10))


@torch.no_grad()
def measure_benefit(
    scheme: Scheme,
    photographs: ImageSource,
    lpips: LPIPS,
    snrs_db: Sequence[float],
    rates: Sequence[Rate] = (),
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> list[Benefit]:
    """Send photographs over the points, and compare the images of the receiver and the codec.

    Args:
        scheme: with a diffusion receiver, which works in full whatever its strength was.
        photographs: at least `FEWEST`; of each a square of `CROP` pixels is sent.
        lpips: the metric.
        snrs_db: Es/N0, over AWGN.
        rates: of the codec; all of them if empty.
        seed: of squares, noise and sampling.
        progress: called with 1 after each transmission.

    Raises:
        ValueError: a scheme without a diffusion receiver, or too few photographs.
    """
    refiner = scheme.refiner
    if not isinstance(refiner, ControlledDiffusion):
        raise ValueError(  # noqa: TRY004 - of the user's weights, not of a call
            "these weights have no diffusion receiver; there is nothing to measure"
        )
    if len(photographs) < FEWEST:
        raise ValueError(
            f"{len(photographs)} photographs are too few to choose by; give at least {FEWEST}, "
            "better 20"
        )
    refiner.config = refiner.config.at_full_strength
    rng = np.random.default_rng(seed)
    changes: dict[tuple[Fraction, float], list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]]
    schemes = [scheme.at_rate(rate) for rate in rates or scheme.codec.rates]
    changes = {(one.rate, snr_db): [] for one in schemes for snr_db in snrs_db}
    for index in range(len(photographs)):
        levels = np.array(random_crop(photographs[index], CROP, rng))
        image = torch.from_numpy(levels).permute(2, 0, 1)[None].float() / 255
        image = image.to(scheme.device)
        for (rate, snr_db), found in changes.items():
            generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
            at_rate = scheme.at_rate(rate)
            received = at_rate.decode(at_rate.send(image, AWGN(snr_db), generator), generator)
            both = quantise(torch.cat((received.initial, received.image)))
            before, after = regional_lpips(lpips, both, image.expand(2, -1, -1, -1), SIDE)
            found.append((before - after).cpu().numpy())
            if progress is not None:
                progress(1)
    return [_summary(str(rate), snr_db, found) for (rate, snr_db), found in changes.items()]


def _summary(
    rate: str, snr_db: float, changes: list[np.ndarray[tuple[int, ...], np.dtype[np.float32]]]
) -> Benefit:
    falls = np.stack(changes).astype(float)
    net = estimate((str(number), float(one.mean())) for number, one in enumerate(falls))
    return Benefit(
        rate,
        snr_db,
        float(falls.clip(0).mean()),
        float((-falls).clip(0).mean()),
        net.half_width or 0.0,
        float((falls < 0).mean()),
        len(falls),
    )


def strength_of(benefits: Sequence[Benefit]) -> ByBits:
    """Choose the receiver's strength over the capacity: `DiffusionConfig.strength`.

    It is 1 up to the capacity below which generating helps at all points, 0 from that on above
    which it helps at none, and falls in between. Where it helps at the best link it is 1.

    Raises:
        ValueError: there is no point.
    """
    if not benefits:
        raise ValueError("there is no point to choose the strength by; measure some")
    ordered = sorted(benefits, key=lambda one: one.bits)
    helping = [number for number, one in enumerate(ordered) if one.helps]
    if not helping:
        return ((ordered[0].bits, 0.0),)
    last = helping[-1]
    if last == len(ordered) - 1:
        return FULL
    certain = next(number for number, one in enumerate(ordered) if not one.helps) - 1
    full = ordered[certain if certain >= 0 else last]
    return ((full.bits, 1.0), (ordered[last + 1].bits, 0.0))

"""Choice of the rate of each image, from its content and the SNR at the transmitter.

Yang and Kim, "Deep joint source-channel coding for wireless image transmission with adaptive rate
control", ICASSP 2022, arXiv 2110.04456, learn which parts of a latent to send. Here a codec of
several rates is left as it is, and one of its rates is chosen for an image as a whole: the lowest
that reaches a PSNR, or the one that maximises PSNR - λ·R. The price λ, in dB per channel use and
pixel, is that at which photographs take a given rate in the mean: no other choice of rates has a
higher mean PSNR at that mean rate.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from diffjscc.channels.awgn import AWGN
from diffjscc.codecs.content import FEATURES, content_features
from diffjscc.codecs.joint import JointCodec
from diffjscc.symbols import ChannelState

Floats = NDArray[np.float64]
# Maps images [B, 3, H, W] and the transmitter's CSI to the PSNR in dB at each rate, [B, rates].
Estimator = Callable[[Tensor, ChannelState], Tensor]

RIDGE = 1.0
SEED = 0
STEP_DB = 2.5  # between the SNRs at which prices are noted
DEGREE = 3  # powers of the SNR, the zeroth included
PRICES = (*np.geomspace(1, 1000, 31),)  # dB per channel use and pixel


@dataclass(frozen=True)
class RatePredictor:
    """PSNR of a codec at each of its rates by linear regression on content and SNR.

    Attributes:
        rates: of the codec, ascending.
        snr_range_db: of the measurements; SNRs beyond it count as its ends.
        centre, scale: of the content's features, [FEATURES].
        coefficients: [rates, DEGREE·(FEATURES + 1)], of each power of the SNR times each feature.
        errors_db: root mean square of what is left of the PSNR at each rate.
        snrs_db: at which mean rates are noted, ascending.
        mean_rates: mean rate of the photographs at each of them and each of `PRICES`.

    Raises:
        ValueError: a table of another shape, or numbers that are not finite.
    """

    rates: tuple[Fraction, ...]
    snr_range_db: tuple[float, float]
    centre: tuple[float, ...]
    scale: tuple[float, ...]
    coefficients: tuple[tuple[float, ...], ...]
    errors_db: tuple[float, ...]
    snrs_db: tuple[float, ...]
    mean_rates: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        shapes = {
            "centre": (FEATURES,),
            "scale": (FEATURES,),
            "coefficients": (len(self.rates), DEGREE * (FEATURES + 1)),
            "errors_db": (len(self.rates),),
            "mean_rates": (len(self.snrs_db), len(PRICES)),
        }
        for name, shape in shapes.items():
            try:
                values = np.array(getattr(self, name), dtype=float)
            except (TypeError, ValueError):
                values = np.array(np.nan)
            if values.shape != shape or not np.isfinite(values).all():
                raise ValueError(
                    f"{name} has the shape {values.shape}; it must be {shape}, of finite numbers: "
                    "measure the table again"
                )

    @classmethod
    def fit(
        cls, rates: tuple[Fraction, ...], features: Floats, snrs_db: Floats, psnr: Floats
    ) -> RatePredictor:
        """Fit the regression to transmissions, by ridge regression, and note the mean rates.

        Args:
            rates: of the codec, ascending.
            features: of the N images, [N, FEATURES].
            snrs_db: of their transmissions, [N].
            psnr: in dB at each rate, [N, rates].

        Raises:
            ValueError: there are fewer than 8 images.
        """
        if len(features) < 8:
            raise ValueError(
                f"{len(features)} images are too few to learn from; give at least 8, better 200"
            )
        low, high = float(snrs_db.min()), float(snrs_db.max())
        centre, scale = features.mean(0), features.std(0) + 1e-9
        design = _design((features - centre) / scale, _unit(snrs_db, low, high))
        penalty = np.full(design.shape[1], RIDGE)
        penalty[:: FEATURES + 1] = 1e-6  # the mean over images is not shrunk
        gram = design.T @ design + np.diag(penalty)
        solved = np.linalg.solve(gram, design.T @ psnr)
        left = np.sqrt(np.square(psnr - design @ solved).mean(0))
        places = np.arange(low, high + STEP_DB / 2, STEP_DB)
        table = []
        for snr_db in places:
            at = np.full(len(features), _unit(snr_db, low, high))
            predicted = _design((features - centre) / scale, at) @ solved
            numbers = np.array([float(rate) for rate in rates])
            table.append(
                tuple(float(numbers[best_for(predicted, numbers, p)].mean()) for p in PRICES)
            )
        return cls(
            rates,
            (low, high),
            tuple(centre.tolist()),
            tuple(scale.tolist()),
            tuple(map(tuple, solved.T.tolist())),
            tuple(left.tolist()),
            tuple(places.tolist()),
            tuple(table),
        )

    def __call__(self, images: Tensor, csi: ChannelState) -> Tensor:
        """Predict the PSNR in dB at each rate, float64 [B, rates], for the transmitter's CSI."""
        features = content_features(images).double().cpu().numpy()
        snrs_db = _unit(csi.snr_db.double().cpu().numpy(), *self.snr_range_db)
        design = _design((features - self.centre) / np.array(self.scale), snrs_db)
        return torch.from_numpy(design @ np.array(self.coefficients).T)

    @property
    def digest(self) -> str:
        """Start of the hash of all numbers."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:12]

    def price(self, snr_db: float, mean_rate: Fraction) -> float:
        """Return the price at which photographs take a mean rate, in dB per channel use and pixel.

        Between the SNRs of the table mean rates are interpolated.
        """
        table = np.array(self.mean_rates)
        at = [float(np.interp(snr_db, self.snrs_db, column)) for column in table.T]
        # Rates fall as prices rise: mean rates between two of the table are mixed on a log scale.
        logarithms = np.interp(-float(mean_rate), [-rate for rate in at], np.log(PRICES))
        return float(np.exp(logarithms))


@dataclass(frozen=True)
class Simulation:
    """PSNR at each rate by a rehearsal: the transmitter sends the image to a decoder of its own.

    Each rate takes an encoding and a decoding, with noise of its own for fades that are not known.

    Attributes:
        codec: with both its ends.
    """

    codec: JointCodec

    @torch.no_grad()
    def __call__(self, images: Tensor, csi: ChannelState) -> Tensor:
        """Measure the PSNR in dB at each rate, float64 [B, rates], for the transmitter's CSI."""
        columns = []
        for rate in self.codec.rates:
            generator = torch.Generator().manual_seed(SEED)
            symbols = self.codec.encode(images, csi, rate)
            received = AWGN(csi.snr_db)(symbols, generator)
            error = (self.codec.decode(received) - images).double().square().mean(dim=(1, 2, 3))
            columns.append(-10 * error.clamp(min=1e-12).log10())
        return torch.stack(columns, dim=1).cpu()


@dataclass(frozen=True)
class RatePolicy:
    """Rule that chooses a rate for each image.

    Attributes:
        estimate: of the PSNR at each rate.
        predictor: has the rates and prices.
        target_psnr: PSNR in dB that the lowest sufficient rate is taken for; the highest rate
            where none suffices. None maximises the mean PSNR at a mean rate.
    """

    estimate: Estimator
    predictor: RatePredictor
    target_psnr: float | None = None

    def choose(self, images: Tensor, csi: ChannelState, rate: Fraction) -> list[int]:
        """Choose the number of a rate for each image.

        Args:
            images: [B, 3, H, W] in [0, 1].
            csi: the transmitter's.
            rate: the mean rate; with a target the highest.
        """
        psnr = self.estimate(images, csi).numpy()
        rates = self.predictor.rates
        if self.target_psnr is not None:
            allowed = [number for number, one in enumerate(rates) if one <= rate]
            return [
                next((n for n in allowed if row[n] >= self.target_psnr), allowed[-1])
                for row in psnr
            ]
        numbers = np.array([float(one) for one in rates])
        levels = csi.snr_db.tolist()
        return [
            int(best_for(row[None], numbers, self.predictor.price(level, rate))[0])
            for row, level in zip(psnr, levels, strict=True)
        ]


def best_for(psnr: Floats, rates: Floats, price: float) -> NDArray[np.int64]:
    """Find the rate with the highest PSNR - price·R of psnr [N, rates]: int64 [N]."""
    best: NDArray[np.int64] = (psnr - price * rates).argmax(axis=1)
    return best


def _unit(snr_db: Floats | float, low: float, high: float) -> Floats:
    """Map SNRs to [-1, 1]."""
    return (np.clip(snr_db, low, high) - (low + high) / 2) / max((high - low) / 2, 1e-9)


def _design(features: Floats, snr: Floats) -> Floats:
    """Multiply (1, features) [N, F + 1] by the powers of the SNR [N]: [N, DEGREE·(F + 1)]."""
    columns = np.concatenate((np.ones((len(features), 1)), features), axis=1)
    return np.concatenate([columns * (snr**power)[:, None] for power in range(DEGREE)], axis=1)

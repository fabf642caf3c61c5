"""Metrics of held-out images during training, of a codec and of a whole receiver."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import torch
from torch import Tensor

from diffjscc.data.readable import readable_numbers
from diffjscc.data.sources import ImageSource
from diffjscc.metrics.fidelity import psnr
from diffjscc.metrics.lpips import LPIPS
from diffjscc.metrics.weights import MetricUnavailable
from diffjscc.protocols import Codec
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.scheme import Scheme
from diffjscc.training.config import DataConfig, TrainingChannelConfig
from diffjscc.training.control_config import ControlConfig
from diffjscc.training.log import Log
from diffjscc.training.sampled_config import SampledStageConfig


def read_image(source: ImageSource, number: int, device: torch.device) -> Tensor:
    """Image `number` of a source, float32 [1, 3, H, W] in [0, 1]."""
    pixels = torch.from_numpy(source[number].copy()).permute(2, 0, 1)[None]
    return pixels.to(device).float() / 255


def load_lpips(device: torch.device) -> LPIPS | None:
    """Load LPIPS with SqueezeNet, or None where its weights cannot be had."""
    try:
        return LPIPS.load("squeeze").to(device)
    except MetricUnavailable:
        return None


class _MeanMetrics:
    """Means over images of PSNR and, with its network, LPIPS."""

    def __init__(self, lpips: LPIPS | None) -> None:
        self.lpips = lpips
        self._values: dict[str, list[float]] = {}

    def add(self, place: str, image: Tensor, original: Tensor) -> None:
        """Measure an image [1, 3, H, W]; `place` ends the metrics' names."""
        self._values.setdefault(f"psnr/{place}", []).append(psnr(image, original).item())
        if self.lpips is not None:
            distance = self.lpips(image, original).item()
            self._values.setdefault(f"lpips/{place}", []).append(distance)

    def report(self) -> dict[str, float]:
        """Return the means by name."""
        return {name: float(np.mean(each)) for name, each in self._values.items()}


class CodecValidation:
    """Metrics of a codec's images, at the ends and in the middle of the SNR range.

    Args:
        source: held-out images.
        data: at most how many of them are used.
        channel: channel and SNR range.
        rates: rates at which they are sent.
        codec: the codec in training.
        device: of the codec.
        lpips: measures LPIPS besides PSNR, if given.
    """

    def __init__(
        self,
        source: ImageSource,
        data: DataConfig,
        channel: TrainingChannelConfig,
        rates: Sequence[Fraction],
        codec: Codec,
        device: torch.device,
        lpips: LPIPS | None = None,
    ) -> None:
        self.source, self.channel, self.rates = source, channel, rates
        self.codec, self.device, self.lpips = codec, device, lpips
        self.numbers = readable_numbers(source, data.validation_images)

    @torch.no_grad()
    def __call__(self, log: Log, step: int) -> None:
        """Log mean metrics at every rate and SNR, and the first image at the lowest SNR."""
        low, high = self.channel.snr_db
        for rate in self.rates:
            for snr_db in (low, (low + high) / 2, high):
                place = f"rate {rate} at {snr_db:g} dB"
                metrics = _MeanMetrics(self.lpips)
                for number in self.numbers:
                    original = read_image(self.source, number, self.device)
                    generator = torch.Generator().manual_seed(number)
                    scheme = Scheme(self.codec, rate)
                    image = scheme(original, self.channel.at(snr_db), generator).image
                    metrics.add(place, image, original)
                    if number == self.numbers[0] and snr_db == low:
                        log.images(step, place, torch.cat((original, image)))
                log.numbers(step, metrics.report())


class ReceiverValidation:
    """Metrics of a diffusion receiver's initial and final images.

    Image n of those that can be read is sent at the n-th of evenly spread SNRs, at rates in turn.

    Args:
        source: held-out images.
        config: of the stage: how many of them are used at most, channel and SNR range.
        rates: rates at which they are sent.
        codec: frozen.
        refiner: the receiver, one of whose networks is in training.
    """

    def __init__(
        self,
        source: ImageSource,
        config: ControlConfig | SampledStageConfig,
        rates: Sequence[Fraction],
        codec: Codec,
        refiner: ControlledDiffusion,
    ) -> None:
        self.source, self.channel, self.rates = source, config.channel, rates
        self.codec, self.refiner = codec, refiner
        self.lpips = load_lpips(refiner.placement.device)
        self.numbers = readable_numbers(source, config.data.validation_images)

    @torch.no_grad()
    def __call__(self, log: Log, step: int) -> None:
        """Log mean metrics, and all images."""
        low, high = self.channel.snr_db
        metrics = _MeanMetrics(self.lpips)
        for place, number in enumerate(self.numbers):
            original = read_image(self.source, number, self.refiner.placement.device)
            snr_db = low + (place + 0.5) / len(self.numbers) * (high - low)
            rate = self.rates[place % len(self.rates)]
            scheme = Scheme(self.codec, rate, self.refiner)
            generator = torch.Generator().manual_seed(number)
            result = scheme(original, self.channel.at(snr_db), generator)
            for name, image in (("initial", result.initial), ("final", result.image)):
                metrics.add(name, image, original)
            images = torch.cat((result.initial, result.image, original))
            log.images(step, f"{number}: initial, final, original; {rate}, {snr_db:.1f} dB", images)
        log.numbers(step, metrics.report())

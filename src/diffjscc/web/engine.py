"""Computations of the page: one image over one link, by `Scheme`s that share their networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from diffjscc.channels.awgn import AWGN
from diffjscc.data.images import grey_levels, quantise, to_levels
from diffjscc.evaluation.images import SourceImage
from diffjscc.evaluation.transmission import Delivery, Link
from diffjscc.evaluation.uncertainty import disagreement
from diffjscc.metrics.catalogue import MetricInfo
from diffjscc.metrics.evaluator import MetricEvaluator
from diffjscc.metrics.fidelity import psnr
from diffjscc.pretrained.diffjscc import choose_device
from diffjscc.protocols import Channel, InfeasibleError, SamplingRefiner
from diffjscc.rate import parse_rate
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.scheme import Scheme
from diffjscc.schemes.channel import ChannelConfig
from diffjscc.schemes.digital_options import DigitalOptions
from diffjscc.schemes.loader import SchemeLoader
from diffjscc.schemes.options import RefinerOptions
from diffjscc.symbols import ChannelState, Generators, Received, Symbols
from diffjscc.web.jobs import Progress
from diffjscc.web.settings import DemoSettings

METRICS = ("psnr", "ms_ssim", "lpips")
SAMPLES = 4  # of the uncertainty map
CURVE_SNRS = tuple(range(-6, 21, 2))
MOST_PREVIEWS = 8  # of one image while it is sampled; each takes as long as a step or two


@dataclass(frozen=True)
class Curve:
    """PSNR of one scheme over the channel's SNR, its transmitter set for one SNR.

    Attributes:
        name: of the scheme.
        snr_db: of the channel.
        psnr: in dB, one per SNR.
        outage: whether nothing could be decoded, one per SNR.
    """

    name: str
    snr_db: Sequence[float]
    psnr: Sequence[float]
    outage: Sequence[bool]


class Engine:
    """Transmits images for the page.

    Args:
        weights: bundled name, folder or hub id.
        device: "auto", "cpu", "cuda", …

    Attributes:
        rates: nominal rates of the weights, as text, ascending.
        steps: sampling steps that the weights come with; None where they have no receiver.

    Raises:
        ValueError: no such weights or device.
    """

    def __init__(self, weights: str = "compact", device: str = "auto") -> None:
        self._device = choose_device(device)
        self._loader = SchemeLoader(str(self._device))
        self._weights = weights
        self._evaluator, _ = MetricEvaluator.load(METRICS, self._device)
        self._codec = self._loader.codec_alone(weights)
        self.rates = [str(rate) for rate in self._codec.codec.rates]
        self.steps = self._own_steps()

    @property
    def infos(self) -> tuple[MetricInfo, ...]:
        """Metrics that are measured."""
        return self._evaluator.infos

    def codec(
        self, source: SourceImage, settings: DemoSettings
    ) -> tuple[Delivery, Received | None]:
        """Transmit by the codec alone; also gives what its receiver got."""
        link = self._link("codec", self._codec.at_rate(settings.rate), settings)
        tapped = _Tapped(link.channel)
        delivery = replace(link, channel=tapped).transmit([source], [0])[0]
        return delivery, tapped.received

    def receiver(self, source: SourceImage, settings: DemoSettings, progress: Progress) -> Delivery:
        """Transmit by codec and diffusion receiver; some of the steps come with a preview."""
        link = self._receiver_link(settings, progress)
        if isinstance(link.sampler, ControlledDiffusion):
            _show_previews(link.sampler, source, progress)
        return link.transmit([source], [0])[0]

    def rival(self, source: SourceImage, settings: DemoSettings) -> Delivery:
        """Transmit by the digital link.

        Raises:
            InfeasibleError: the image does not fit at this rate and SNR.
        """
        scheme = self._digital(settings)
        return self._link(settings.rival, scheme, settings).transmit([source], [0])[0]

    def uncertainty(
        self, source: SourceImage, settings: DemoSettings, progress: Progress
    ) -> Tensor:
        """Compute where `SAMPLES` sampled images disagree, [H, W]; progress over all samples."""
        done = 0

        def over_all(step: int, total: int) -> None:
            nonlocal done
            progress(done * total + step, SAMPLES * total)
            done += step == total

        link = self._receiver_link(settings, over_all)
        return disagreement(link.samples(source, 0, SAMPLES))

    def curves(
        self, source: SourceImage, settings: DemoSettings, progress: Progress
    ) -> list[Curve]:
        """Compute PSNR over the channel's SNR (AWGN), transmitters set for `settings.snr`."""
        schemes = {"codec": self._codec.at_rate(settings.rate)}
        if settings.rival != "none":
            schemes[settings.rival] = self._digital(settings)
        total = len(schemes) * len(CURVE_SNRS)
        curves: list[Curve] = []
        for number, (name, scheme) in enumerate(schemes.items()):
            step = partial(_later, progress, number * len(CURVE_SNRS), total)
            with suppress(InfeasibleError):  # it has no curve then
                curves.append(self._curve(name, scheme, source, settings, step))
        return curves

    @torch.no_grad()
    def _curve(
        self,
        name: str,
        scheme: Scheme,
        source: SourceImage,
        settings: DemoSettings,
        step: Callable[[int], None],
    ) -> Curve:
        images = source.pixels[None].to(self._device)
        symbols = scheme.encode(images, settings.snr)
        values, outages = [], []
        for i, snr_db in enumerate(CURVE_SNRS, start=1):
            received = AWGN(float(snr_db))(symbols, [source.generator(settings.seed, i)])
            image, _, outage = scheme.attempt(received)
            values.append(float(psnr(quantise(image), images)[0]))
            outages.append(outage is not None and bool(outage[0]))
            step(i)
        return Curve(name, CURVE_SNRS, values, outages)

    def _own_steps(self) -> int | None:
        try:
            scheme = self._loader.with_receiver(self._weights, RefinerOptions())
        except ValueError:
            return None
        refiner = scheme.refiner
        return refiner.num_inference_steps if isinstance(refiner, SamplingRefiner) else None

    def _receiver_link(self, settings: DemoSettings, progress: Callable[[int, int], None]) -> Link:
        options = RefinerOptions(num_inference_steps=settings.steps)
        scheme = self._loader.with_receiver(self._weights, options).at_rate(settings.rate)
        link = self._link("receiver", scheme, settings)
        if link.sampler is not None:  # the loader gives every caller a refiner of its own
            link.sampler.progress = progress
        return link

    def _digital(self, settings: DemoSettings) -> Scheme:
        return self._loader.digital(
            settings.rival, DigitalOptions(downsample=True), parse_rate(settings.rate)
        )

    def _link(self, name: str, scheme: Scheme, settings: DemoSettings) -> Link:
        channel = _channel(settings)
        return Link(
            name,
            scheme,
            channel.at(settings.snr),
            channel.label,
            settings.snr,
            settings.seed,
            self._evaluator,
            self._device,
        )


class _Tapped:
    """A channel that keeps what it delivered."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.received: Received | None = None

    @property
    def transmitter_csi(self) -> bool:
        """See `Channel`."""
        return self._channel.transmitter_csi

    def sample_state(
        self, batch: int, generator: Generators = None, device: torch.device | str = "cpu"
    ) -> ChannelState:
        """See `Channel`."""
        return self._channel.sample_state(batch, generator, device)

    def __call__(
        self, symbols: Symbols, generator: Generators = None, state: ChannelState | None = None
    ) -> Received:
        """See `Channel`."""
        self.received = self._channel(symbols, generator, state)
        return self.received


def _show_previews(refiner: ControlledDiffusion, source: SourceImage, progress: Progress) -> None:
    """Have a refiner report its steps, every few of them with a preview."""
    decode: Callable[[], Tensor] | None = None

    def keep(decoded: Callable[[], Tensor]) -> None:
        nonlocal decode
        decode = decoded

    def report(done: int, total: int) -> None:
        every = max(2, -(-total // MOST_PREVIEWS))
        if decode is None or done == total or done % every:
            return progress(done, total)
        levels = to_levels(decode()[0])
        return progress(done, total, grey_levels(levels) if source.grey else levels)

    refiner.preview, refiner.progress = keep, report


def _channel(settings: DemoSettings) -> ChannelConfig:
    return ChannelConfig(name=settings.channel)


def _later(progress: Progress, before: int, total: int, step: int) -> None:
    """Report a step of several rounds."""
    progress(before + step, total)

"""Transmission of images over a link: send, receive, measure, record."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import torch
from torch import Tensor

from diffjscc.arrays import levels_to_floats
from diffjscc.data.images import grey, grey_levels, quantise, to_levels
from diffjscc.evaluation.environment import library_versions
from diffjscc.evaluation.images import SourceImage
from diffjscc.evaluation.records import OperatingPoint, Record
from diffjscc.metrics.evaluator import MetricEvaluator, Metrics
from diffjscc.protocols import Channel, SamplingRefiner
from diffjscc.scheme import Scheme
from diffjscc.symbols import Received


@dataclass(frozen=True, eq=False)
class Delivery:
    """Outcome of one transmission: its record, and images of 8 bits on the CPU.

    Attributes:
        record: of the transmission.
        final_levels: the final image, uint8 [3, H, W].
        initial_levels: the initial image, likewise; None without a refiner.
    """

    record: Record
    final_levels: Tensor
    initial_levels: Tensor | None

    @property
    def final(self) -> Tensor:
        """The final image, float32 [3, H, W], multiples of 1/255."""
        return levels_to_floats(self.final_levels)

    @property
    def initial(self) -> Tensor | None:
        """The initial image, likewise; None without a refiner."""
        return None if self.initial_levels is None else levels_to_floats(self.initial_levels)


# Gets an image as soon as there is one: "initial" or "final", the number of its transmission, and
# 8-bit levels uint8 [3, H, W] on the CPU.
Arrived = Callable[[Literal["initial", "final"], int, Tensor], None]


@dataclass(frozen=True)
class _Decoded:
    """Receiver output of several transmissions, all as long as these; images are 8-bit levels.

    `away` are the seconds that whoever takes the images spent on them.
    """

    final: Tensor
    initial: Tensor
    captions: list[str | None]
    outages: list[bool | None]
    away: float


def _levels(images: Tensor, sources: Sequence[SourceImage]) -> Tensor:
    """Round decoded images to 8-bit levels [B, 3, H, W], grey ones where the source is grey.

    Images that are levels already are changed in place.
    """
    levels = images if images.dtype == torch.uint8 else to_levels(images)
    for i, source in enumerate(sources):
        if source.grey:
            levels[i] = grey_levels(levels[i])
    return levels


def _joined(parts: list[Tensor]) -> Tensor:
    """Concatenate batches; a single one is not copied."""
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _batch(sources: Sequence[SourceImage]) -> Tensor:
    """Join images of one size: levels, uint8 [P, 3, H, W], or floats if any is not of levels."""
    if len(sources) == 1:
        return sources[0].stored[None]
    levels = all(source.stored.dtype == torch.uint8 for source in sources)
    return torch.stack([source.stored if levels else source.pixels for source in sources])


@dataclass(frozen=True)
class Link:
    """A scheme over a channel, and the metrics of its images.

    Attributes:
        name: of the scheme in records.
        scheme: codec, rate and refiner.
        channel: to send over, at one SNR.
        channel_label: of the channel in records.
        snr_db: nominal SNR of the channel, mean Es/N0; None takes the channel's own, which may
            differ from image to image.
        seed: see `SourceImage.generator`.
        evaluator: of the metrics.
        device: to compute on.
    """

    name: str
    scheme: Scheme
    channel: Channel
    channel_label: str
    snr_db: float | None
    seed: int
    evaluator: MetricEvaluator
    device: torch.device

    @property
    def sampler(self) -> SamplingRefiner | None:
        """The refiner, if it is one that samples."""
        refiner = self.scheme.refiner
        return refiner if isinstance(refiner, SamplingRefiner) else None

    @torch.no_grad()
    def transmit(
        self,
        sources: Sequence[SourceImage],
        repeats: Sequence[int],
        at_once: int = 1,
        arrived: Arrived | None = None,
    ) -> list[Delivery]:
        """Transmit images of one size; repeats of one share its encoding where they can.

        Args:
            sources: P images.
            repeats: the numbers of N transmissions of each.
            at_once: transmissions that are received together. More fills a GPU; rounding may
                differ.
            arrived: gets images at once: the initial ones before the refiner begins, the final
                ones before they are measured. Its time does not count as the transmission's.

        Returns:
            P·N deliveries, an image's one after the other.

        Raises:
            InfeasibleError: see there; then nothing is sent of any of them.
        """
        # Of large images only levels are kept: 48 megapixels take 0.14 GB, as floats 0.6 GB.
        images = _batch(sources).to(self.device)
        sent = list(product(sources, repeats))
        generators = [source.generator(self.seed, repeat) for source, repeat in sent]
        start = time.perf_counter()
        received = self.scheme.send(images, self.channel, generators, len(repeats))
        originals = [source for source, _ in sent]
        decoded = self._decode(received, originals, generators, at_once, arrived)
        refined = self.scheme.refiner is not None
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds = (time.perf_counter() - start - decoded.away) / len(sent)
        references = images if len(repeats) == 1 else images.repeat_interleave(len(repeats), 0)
        metrics = self.evaluator(decoded.final, references)
        before = self.evaluator(decoded.initial, references) if refined else [None] * len(sent)
        return [
            Delivery(
                record=self._record(
                    source, repeat, received, i, decoded, metrics[i], before[i], seconds
                ),
                final_levels=decoded.final[i].cpu(),
                initial_levels=decoded.initial[i].cpu() if refined else None,
            )
            for i, (source, repeat) in enumerate(sent)
        ]

    @torch.no_grad()
    def samples(self, image: SourceImage, repeat: int, number: int) -> Tensor:
        """Sample several final images from one transmission of an image.

        One by one: on a CPU that takes a tenth longer than all at once, but the memory of one, and
        the first is the image that `transmit` delivers where it sends this one alone. Of an outage
        all are the placeholder.

        Returns:
            8-bit levels, float32 [number, 3, H, W] on the CPU.

        Raises:
            ValueError: the scheme's refiner does not sample.
        """
        sampler = self.sampler
        if sampler is None:
            raise ValueError(f"{self.name} has no refiner that samples; take one that has")
        generators = [image.generator(self.seed, repeat)]
        received = self.scheme.send(image.pixels[None].to(self.device), self.channel, generators)
        initial, received, outage = self.scheme.attempt(received)
        lost = outage is not None and bool(outage.all())
        samples = torch.empty(number, *image.stored.shape)
        for sample in samples:
            final = initial if lost else sampler.sample(initial, received, 1, generators).image
            levels = quantise(final[0])
            sample.copy_(grey(levels) if image.grey else levels)
        return samples

    def point(self, snr_db: float) -> OperatingPoint:
        """The operating point, at a nominal SNR in dB."""
        return OperatingPoint(self.name, self.channel_label, str(self.scheme.rate), snr_db)

    def _decode(
        self,
        received: Received,
        sources: list[SourceImage],
        generators: list[torch.Generator],
        at_once: int,
        arrived: Arrived | None,
    ) -> _Decoded:
        """Receive some transmissions at a time."""
        final, initial = list[Tensor](), list[Tensor]()
        captions, outages = list[str | None](), list[bool | None]()
        away = 0.0

        def show(kind: Literal["initial", "final"], first: int, levels: Tensor) -> None:
            nonlocal away
            if arrived is not None:
                levels = levels.cpu()  # which waits for a GPU
                start = time.perf_counter()
                for i, image in enumerate(levels, first):
                    arrived(kind, i, image)
                away += time.perf_counter() - start

        for first in range(0, len(generators), at_once):
            some = slice(first, first + at_once)
            decoded, known, outage = self.scheme.attempt(received.select(some))
            initial.append(_levels(decoded, sources[some]))
            if self.scheme.refiner is not None:
                show("initial", first, initial[-1])
            result = self.scheme.refine(decoded, known, outage, generators[some], levels=True)
            image, caption = result.image, result.caption
            same = image is decoded
            del decoded, result  # large images, before others take memory
            final.append(initial[-1] if same else _levels(image, sources[some]))
            del image
            show("final", first, final[-1])
            unknown: list[None] = [None] * len(final[-1])
            captions += caption or unknown
            outages += unknown if outage is None else outage.tolist()
        return _Decoded(_joined(final), _joined(initial), captions, outages, away)

    def _record(
        self,
        image: SourceImage,
        repeat: int,
        received: Received,
        index: int,
        decoded: _Decoded,
        metrics: Metrics,
        initial_metrics: Metrics | None,
        seconds: float,
    ) -> Record:
        height, width = image.size
        sampler = self.sampler
        mean_snr_db = received.state.mean_snr_db[index].item()
        return Record(
            *self.point(mean_snr_db if self.snr_db is None else self.snr_db),
            weights=self.scheme.provenance,
            image=image.name,
            image_hash=image.digest,
            width=width,
            height=height,
            rate=received.rate,
            snr_db=received.snr_db[index].item(),
            repeat=repeat,
            seed=self.seed,
            channel_uses=received.channel_uses,
            uses_by_kind=dict(received.uses_by_kind),
            metrics=metrics,
            initial_metrics=initial_metrics,
            caption=decoded.captions[index],
            sampler=None if sampler is None else sampler.sampler_name,
            num_inference_steps=None if sampler is None else sampler.num_inference_steps,
            seconds=seconds,
            versions=library_versions(),
            outage=decoded.outages[index],
            feedback_uses=received.feedback_uses,
        )

"""Transmit images: send, receive, measure."""

from __future__ import annotations

import hashlib
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from diffjscc.data.images import load_image, quantise
from diffjscc.evaluation.records import Record, library_versions
from diffjscc.metrics.evaluator import MetricEvaluator, Metrics
from diffjscc.scheme import Received, Scheme
from diffjscc.schemes.channel import ChannelConfig

if TYPE_CHECKING:
    from diffjscc.refiners.diffusion import ControlledDiffusion
    from diffjscc.refiners.sampling import SamplerConfig


@dataclass(frozen=True, eq=False)
class SourceImage:
    """An image to send.

    Attributes:
        name: its file, or what else it is called.
        pixels: float32 [3, H, W], multiples of 1/255 in [0, 1].
    """

    name: str
    pixels: Tensor

    @classmethod
    def read(cls, path: Path, name: str | None = None) -> SourceImage:
        """The image in a file; it is called `name`, or as the file is."""
        return cls(str(path) if name is None else name, load_image(path))

    @cached_property
    def digest(self) -> str:
        """Start of the SHA-256 of its 8-bit pixels, 16 hexadecimal digits."""
        return hashlib.sha256(_levels(self.pixels)).hexdigest()[:16]

    @cached_property
    def _checksum(self) -> int:
        return zlib.crc32(_levels(self.pixels))

    def generator(self, seed: int, repeat: int) -> torch.Generator:
        """Random numbers that depend on the seed, the pixels and the repeat, on nothing else."""
        entropy = [seed, self._checksum, repeat]
        state = np.random.SeedSequence(entropy).generate_state(1, np.uint64)
        return torch.Generator().manual_seed(int(state[0] >> 1))


def _levels(image: Tensor) -> bytes:
    """The 8-bit pixels of an image [3, H, W] in [0, 1]."""
    return quantise(image).mul(255).to(torch.uint8).cpu().numpy().tobytes()


@dataclass(frozen=True, eq=False)
class Delivery:
    """What came of one transmission: its figures, and 8-bit levels [3, H, W] on the CPU.

    Attributes:
        row: the figures.
        final: the final image.
        initial: the one that the refiner was given; None without a refiner.
    """

    row: Record
    final: Tensor
    initial: Tensor | None


@dataclass(frozen=True)
class Link:
    """A scheme over a channel, and how what comes out is judged.

    Attributes:
        name: what rows call the scheme.
        scheme: codec, rate and refiner.
        channel: what to send over.
        snr_db: mean Es/N0 of the channel.
        seed: see `Image.generator`.
        judge: what measures.
        device: where to compute.
    """

    name: str
    scheme: Scheme
    channel: ChannelConfig
    snr_db: float
    seed: int
    judge: MetricEvaluator
    device: torch.device

    @torch.no_grad()
    def transmit(
        self, sources: Sequence[SourceImage], repeats: Sequence[int], at_once: int = 1
    ) -> list[Delivery]:
        """Send images of one size; repeats of one share its encoding where they can.

        Args:
            sources: P of them.
            repeats: the numbers of N transmissions of each.
            at_once: how many are received together. More fills a GPU; rounding may differ.

        Returns:
            P·N deliveries, an image's one after the other.

        Raises:
            InfeasibleError: see there; then nothing is sent of any of them.
        """
        images = torch.stack([source.pixels for source in sources]).to(self.device)
        generators = [p.generator(self.seed, repeat) for p in sources for repeat in repeats]
        start = time.perf_counter()
        received = self.scheme.send(images, self.channel.at(self.snr_db), generators, len(repeats))
        results, captions, outages = [], list[str | None](), list[bool | None]()
        for first in range(0, len(generators), at_once):
            some = slice(first, first + at_once)
            results.append(self.scheme.decode(received.select(some), generators[some]))
            unknown = [None] * len(results[-1].image)
            captions += results[-1].caption or unknown
            lost = results[-1].outage
            outages += unknown if lost is None else lost.tolist()
        final = torch.cat([quantise(result.image) for result in results])
        initial = torch.cat([quantise(result.initial) for result in results])
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        seconds = (time.perf_counter() - start) / len(final)
        references = images.repeat_interleave(len(repeats), 0)
        refined = self.scheme.refiner is not None
        figures = self.judge(final, references)
        before = self.judge(initial, references) if refined else [None] * len(final)
        deliveries = []
        for i, (source, repeat) in enumerate((p, r) for p in sources for r in repeats):
            told = figures[i], before[i], captions[i], outages[i]
            row = self._row(source, repeat, received, i, *told, seconds)
            painted_from = initial[i].cpu() if refined else None
            deliveries.append(Delivery(row, final[i].cpu(), painted_from))
        return deliveries

    @torch.no_grad()
    def samples(self, image: SourceImage, repeat: int, number: int) -> Tensor:
        """Images that the refiner paints from one transmission of an image.

        One by one: on a CPU that takes a tenth longer than all at once, but the memory of one, and
        the first is the image that `transmit` delivers where it sends this one alone.

        Returns:
            8-bit levels, float32 [number, 3, H, W] on the CPU.

        Raises:
            ValueError: the scheme's refiner draws no samples.
        """
        sampler = sampling_refiner(self.scheme)
        if sampler is None:
            raise ValueError(f"{self.name} has no diffusion receiver that could draw samples")
        generators = [image.generator(self.seed, repeat)]
        images = image.pixels[None].to(self.device)
        received = self.scheme.send(images, self.channel.at(self.snr_db), generators)
        initial = self.scheme.codec.decode(received)
        samples = torch.empty(number, *image.pixels.shape)
        for sample in samples:
            sample.copy_(quantise(sampler.sample(initial, received, 1, generators).image[0]))
        return samples

    def _row(
        self,
        image: SourceImage,
        repeat: int,
        received: Received,
        index: int,
        final: Metrics,
        initial: Metrics | None,
        caption: str | None,
        outage: bool | None,
        seconds: float,
    ) -> Record:
        height, width = image.pixels.shape[-2:]
        sampler = _sampler(self.scheme)
        return Record(
            scheme=self.name,
            weights=self.scheme.provenance,
            image=image.name,
            image_hash=image.digest,
            width=width,
            height=height,
            nominal_rate=str(self.scheme.rate),
            rate=received.rate,
            channel=self.channel.label,
            nominal_snr_db=self.snr_db,
            snr_db=received.snr_db[index].item(),
            repeat=repeat,
            seed=self.seed,
            channel_uses=received.channel_uses,
            uses_by_kind=dict(received.uses_by_kind),
            psnr=final.psnr,
            ms_ssim=final.ms_ssim,
            lpips=final.lpips,
            niqe=final.niqe,
            psnr_initial=None if initial is None else initial.psnr,
            ms_ssim_initial=None if initial is None else initial.ms_ssim,
            lpips_initial=None if initial is None else initial.lpips,
            niqe_initial=None if initial is None else initial.niqe,
            caption=caption,
            sampler=None if sampler is None else sampler.name,
            steps=None if sampler is None else sampler.num_inference_steps,
            seconds=seconds,
            versions=library_versions(),
            outage=outage,
        )


def sampling_refiner(scheme: Scheme) -> ControlledDiffusion | None:
    """The refiner of a scheme, if it is one that draws samples."""
    if scheme.refiner is None:
        return None
    # Imported here: a codec alone does not wait for diffusers.
    from diffjscc.refiners.diffusion import ControlledDiffusion  # noqa: PLC0415

    return scheme.refiner if isinstance(scheme.refiner, ControlledDiffusion) else None


def _sampler(scheme: Scheme) -> SamplerConfig | None:
    """How the refiner of a scheme samples, if it does."""
    if scheme.refiner is None:
        return None
    from diffjscc.refiners.ddnm import DDNM  # noqa: PLC0415
    from diffjscc.refiners.diffusion import ControlledDiffusion  # noqa: PLC0415

    if isinstance(scheme.refiner, ControlledDiffusion | DDNM):
        return scheme.refiner.config.sampler
    return None

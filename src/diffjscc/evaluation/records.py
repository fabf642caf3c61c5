"""Records of transmissions, and what is noted beside them: one JSON line each."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

from pydantic import ConfigDict

from diffjscc.metrics.evaluator import Metrics


class OperatingPoint(NamedTuple):
    """Scheme, channel, nominal rate and nominal SNR: metrics are averaged over its transmissions.

    Attributes:
        scheme: name of the scheme.
        channel: label of the channel, see `ChannelConfig.label`.
        nominal_rate: in channel uses per pixel, such as "1/128".
        nominal_snr_db: mean Es/N0 in dB.
    """

    scheme: str
    channel: str
    nominal_rate: str
    nominal_snr_db: float

    def __str__(self) -> str:
        return (
            f'"{self.scheme}" over {self.channel} at {self.nominal_rate} and '
            f"{self.nominal_snr_db:g} dB"
        )


@dataclass(frozen=True)
class AtPoint:
    """Base of all that belongs to one operating point.

    Attributes:
        scheme, channel, nominal_rate, nominal_snr_db: see `OperatingPoint`.
    """

    __pydantic_config__ = ConfigDict(extra="forbid", allow_inf_nan=False)

    scheme: str
    channel: str
    nominal_rate: str
    nominal_snr_db: float

    @property
    def point(self) -> OperatingPoint:
        """The operating point."""
        return OperatingPoint(self.scheme, self.channel, self.nominal_rate, self.nominal_snr_db)


class Transmission(NamedTuple):
    """Identity of a transmission: two records of one transmission share it.

    Attributes:
        point: its operating point.
        image, image_hash: see `Record`.
        repeat, seed: what decides the noise, beside the image.
    """

    point: OperatingPoint
    image: str
    image_hash: str
    repeat: int
    seed: int


@dataclass(frozen=True)
class Record(AtPoint):
    """One transmission of one image.

    `rate` and `snr_db` are the true ones: K/(H·W) and |h|²/N0.

    Attributes:
        weights: provenance of the scheme: name and hash of its weights.
        image: file or name of the image.
        image_hash: start of the SHA-256 of its 8-bit pixels.
        width, height: in pixels.
        rate: channel uses per pixel.
        snr_db: effective Es/N0 in dB.
        repeat, seed: what decides the noise, beside the image.
        channel_uses: K, complex channel uses.
        uses_by_kind: what they are spent on, such as "image" and "padding"; adds up to K.
        metrics: of the final image, rounded to 8 bits, by name; None where one is not defined.
        initial_metrics: likewise of the initial image; None without a refiner.
        caption: the refiner was conditioned on; None without one.
        sampler, num_inference_steps: of the refiner, steps from pure noise; None without a sampler.
        seconds: wall time of transmission and reception, an equal share of it in a batch. Without
            the time of a digital link's source codec for files that were made before.
        versions: of the libraries that computed it.
        outage: whether the receiver received nothing of the image and delivered one colour, which
            is what the metrics are of; None where a scheme cannot know.
        feedback_uses: uses of the feedback link, noiseless or not, beside the K of the channel; 0
            without feedback.
    """

    weights: str
    image: str
    image_hash: str
    width: int
    height: int
    rate: float
    snr_db: float
    repeat: int
    seed: int
    channel_uses: int
    uses_by_kind: dict[str, int]
    metrics: Metrics
    initial_metrics: Metrics | None
    caption: str | None
    sampler: str | None
    num_inference_steps: int | None
    seconds: float
    versions: str
    outage: bool | None = None
    feedback_uses: int = 0

    @property
    def transmission(self) -> Transmission:
        """Identity of the transmission."""
        return Transmission(self.point, self.image, self.image_hash, self.repeat, self.seed)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    def as_flat_dict(self) -> dict[str, Any]:
        """Plain values, one key per column of a table: "psnr", "psnr_initial" and so on."""
        values = self.as_dict()
        uses, metrics = values.pop("uses_by_kind"), values.pop("metrics")
        initial = values.pop("initial_metrics") or {}
        values |= metrics
        values |= {f"{name}_initial": value for name, value in initial.items()}
        return values | {f"uses_{kind}": number for kind, number in uses.items()}


@dataclass(frozen=True)
class PointDistances(AtPoint):
    """Distances between an operating point's final images and the originals, as sets of patches.

    Attributes:
        features: the network, "inception" or "squeezenet"; only distances on the former are FID
            and KID.
        patches: of final images; half-overlapping, 256 px a side.
        frechet: Fréchet distance.
        kernel: kernel distance, mean over subsets.
        kernel_deviation: its standard deviation over them.
        biased: whether originals or final images have no more patches than the network has
            features: then the Fréchet distance is too large, by more for fewer patches. None in
            results of versions that did not say so.
        frechet_256: Fréchet distance on the patches of FID/256, see `patches_256`; None where there
            are fewer than two.
    """

    features: str
    patches: int
    frechet: float
    kernel: float
    kernel_deviation: float
    biased: bool | None = None
    frechet_256: float | None = None


@dataclass(frozen=True)
class Absent(AtPoint):
    """An image that a scheme cannot send at a point, or could not: there is no record of it.

    Attributes:
        image: name of the image.
        reason: what it would take, or the error.
        failed: whether an error ended the transmission; the next run tries it again.
        repeat: of the transmission that failed; None stands for all of them.
    """

    image: str
    reason: str
    failed: bool = False
    repeat: int | None = None


@dataclass(frozen=True)
class KeptImages(AtPoint):
    """Images that were kept of one transmission, as paths within the results folder.

    Attributes:
        image, repeat: of its record.
        original, final: PNG files.
        initial: likewise; None without a refiner.
        uncertainty: map of the disagreement of the receiver's samples, a PNG; None without.
    """

    image: str
    repeat: int
    original: str
    final: str
    initial: str | None = None
    uncertainty: str | None = None

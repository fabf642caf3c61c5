"""What is written down of one transmission."""

from __future__ import annotations

import platform
from dataclasses import MISSING, asdict, dataclass, fields
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import TypeAdapter, ValidationError

from diffjscc.metrics.evaluator import Metrics

# Scheme, channel, nominal rate and nominal SNR: what figures are averaged over.
OperatingPoint = tuple[str, str, str, float]

LIBRARIES = ("diffjscc", "torch", "diffusers", "numpy", "pillow", "av", "torchmetrics")


@dataclass(frozen=True)
class Record:
    """One transmission of one image.

    `rate` and `snr_db` are the true ones (K/(H·W) and |h|²/N0). Figures are those of the final
    image, rounded to 8 bits. With a refiner `…_initial` are those of the image that it was
    given, and `steps` are its sampler's from pure noise; without one all of these are None.

    Attributes:
        scheme: what the reader calls it.
        weights: name and hash of its weights.
        image: file or name of the image.
        image_hash: start of the SHA-256 of its 8-bit pixels.
        channel: see `ChannelConfig.label`.
        repeat, seed: what decides the noise, beside the image.
        channel_uses: K.
        uses_by_kind: what they are spent on; adds up to K.
        seconds: wall time of sending and receiving, an equal share of it in a batch. Without the
            time of a digital link's source codec for files that the sweep has made before.
        versions: of the libraries that computed it.
        outage: whether the receiver could not decode and delivered an image that tells nothing,
            whose figures these are; None where a scheme cannot know.
    """

    scheme: str
    weights: str
    image: str
    image_hash: str
    width: int
    height: int
    nominal_rate: str
    rate: float
    channel: str
    nominal_snr_db: float
    snr_db: float
    repeat: int
    seed: int
    channel_uses: int
    uses_by_kind: dict[str, int]
    psnr: float
    ms_ssim: float | None
    lpips: float | None
    niqe: float | None
    psnr_initial: float | None
    ms_ssim_initial: float | None
    lpips_initial: float | None
    niqe_initial: float | None
    caption: str | None
    sampler: str | None
    steps: int | None
    seconds: float
    versions: str
    outage: bool | None = None

    @property
    def final(self) -> Metrics:
        """Those of the final image."""
        return Metrics(self.psnr, self.ms_ssim, self.lpips, self.niqe)

    @property
    def initial(self) -> Metrics | None:
        """Those of the initial image; None without a refiner."""
        if self.psnr_initial is None:
            return None
        return Metrics(
            self.psnr_initial, self.ms_ssim_initial, self.lpips_initial, self.niqe_initial
        )

    @property
    def cell(self) -> OperatingPoint:
        """The cell of the sweep that it belongs to."""
        return self.scheme, self.channel, self.nominal_rate, self.nominal_snr_db

    @property
    def transmission(self) -> tuple[OperatingPoint, str, str, int, int]:
        """Cell, image and what decided the noise: what two rows of one transmission share."""
        return self.cell, self.image, self.image_hash, self.repeat, self.seed

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any], where: str) -> Record:
        """The row that `as_dict` wrote.

        Args:
            values: plain values. What has a default may be missing: earlier versions had it not.
            where: they come from, for errors.

        Raises:
            ValueError: they are no row, or one of another version of this package.
        """
        own = {field.name for field in fields(cls)}
        needed = {field.name for field in fields(cls) if field.default is MISSING}
        missing, unknown = needed - values.keys(), values.keys() - own
        if missing or unknown:
            told = [f"lacks {', '.join(sorted(missing))}"] if missing else []
            told += [f"has the unknown {', '.join(sorted(unknown))}"] if unknown else []
            raise ValueError(
                f"{where}: a row {' and '.join(told)}; another version of this package wrote it, "
                "or it is no row of figures"
            )
        try:
            return TypeAdapter(cls).validate_python(values)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"]))
            raise ValueError(f"{where}: {place} = {first['input']!r}: {first['msg']}") from error


@cache
def library_versions() -> str:
    """Versions of what computes, as "python 3.11.7, diffjscc 0.1.0, …"."""
    found = [f"python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # run from a source tree that is not installed
            continue
    return ", ".join(found)

"""Every metric of an image in one table: its name, how it is shown, and how it is computed.

A new metric is an entry of `METRICS`; records, summaries, comparisons, plots, tables and the report
take all they show of it from there. A user's own metric is a function, see `custom_metric`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from diffjscc.choices import LPIPSNet
from diffjscc.metrics.fidelity import MS_SSIM_SMALLEST_SIDE, MSSSIM, psnr
from diffjscc.metrics.lpips import BACKBONES, LPIPS
from diffjscc.metrics.niqe import BLOCK, Pristine, niqe

Value = TypeVar("Value", str, bool, int, float)


class Metric(Protocol):
    """Images and the originals, both float [B, 3, H, W] in [0, 1], to one number per image, [B].

    NaN stands where a metric is not defined, such as on images that are too small.
    """

    def __call__(self, images: Tensor, references: Tensor) -> Tensor:
        """Float [B], finite or NaN."""
        ...


@dataclass(frozen=True)
class MetricInfo:
    """Name, presentation and direction of a metric.

    Attributes:
        name: its key in records.
        label: its name for readers, without the unit.
        higher_is_better: otherwise lower is.
        digits: after the decimal point in tables.
        tolerance: largest change that counts as none, in its unit: a few units of the last digit
            that papers print.
        unit: such as "dB"; empty for a pure number.
        bounds: smallest and largest possible value; None where there is none.
        needs_reference: whether it compares with the original.
        below_images: whether sheets of images show it below each image, where room is scarce.
    """

    name: str
    label: str
    higher_is_better: bool
    digits: int
    tolerance: float
    unit: str = ""
    bounds: tuple[float | None, float | None] = (None, None)
    needs_reference: bool = True
    below_images: bool = False

    @property
    def heading(self) -> str:
        """Label and unit, such as "PSNR / dB"."""
        return f"{self.label} / {self.unit}" if self.unit else self.label

    def number(self, value: float | None) -> str:
        """Value without label and unit; a dash where there is none."""
        return "–" if value is None else f"{value:.{self.digits}f}"

    def text(self, value: float) -> str:
        """Label, value and unit in a sentence, such as "PSNR 21.50 dB"; at most three decimals."""
        unit = f" {self.unit}" if self.unit else ""
        return f"{self.label} {value:.{min(self.digits, 3)}f}{unit}"


@dataclass(frozen=True)
class CatalogueEntry:
    """A metric that the package has.

    Attributes:
        info: name and presentation.
        load: makes the function, on a device; raises MetricUnavailable where weights that it needs
            are neither on this machine nor to be fetched.
        smallest: short and long side in pixels of the smallest images that it is defined for.
        levels: whether the function takes 8-bit levels as well, see `fidelity.as_floats`.
    """

    info: MetricInfo
    load: Callable[[torch.device], Metric]
    smallest: tuple[int, int] = (1, 1)
    levels: bool = True


@dataclass(frozen=True)
class LoadedMetric:
    """A metric ready to compute.

    Attributes:
        info: name and presentation.
        compute: the function.
        levels: whether it takes 8-bit levels as well, see `fidelity.as_floats`.
    """

    info: MetricInfo
    compute: Metric
    levels: bool = False


def _load_niqe(_: torch.device) -> Metric:
    pristine = Pristine.load()

    def without_reference(images: Tensor, references: Tensor) -> Tensor:
        del references
        return niqe(images, pristine)

    return without_reference


def _lpips_entry(name: str, label: str, net: LPIPSNet, below_images: bool) -> CatalogueEntry:
    """LPIPS on the features of one network; distances of different networks do not compare."""
    info = MetricInfo(
        name,
        label,
        higher_is_better=False,
        digits=4,
        tolerance=0.003,
        bounds=(0, None),
        below_images=below_images,
    )
    side = BACKBONES[net].smallest_side
    return CatalogueEntry(info, lambda device: LPIPS.load(net).to(device), (side, side))


_ENTRIES = (
    CatalogueEntry(
        MetricInfo(
            "psnr",
            "PSNR",
            higher_is_better=True,
            digits=2,
            tolerance=0.05,
            unit="dB",
            bounds=(0, 80),
            below_images=True,
        ),
        lambda _: psnr,
    ),
    CatalogueEntry(
        MetricInfo(
            "ms_ssim", "MS-SSIM", higher_is_better=True, digits=4, tolerance=0.002, bounds=(0, 1)
        ),
        lambda _: MSSSIM(),
        (MS_SSIM_SMALLEST_SIDE, MS_SSIM_SMALLEST_SIDE),
    ),
    _lpips_entry("lpips", "LPIPS", "squeeze", below_images=True),
    _lpips_entry("lpips_alex", "LPIPS (AlexNet)", "alex", below_images=False),
    _lpips_entry("lpips_vgg", "LPIPS (VGG)", "vgg", below_images=False),
    CatalogueEntry(
        MetricInfo(
            "niqe",
            "NIQE",
            higher_is_better=False,
            digits=2,
            tolerance=0.05,
            bounds=(0, None),
            needs_reference=False,
        ),
        _load_niqe,
        (BLOCK, 2 * BLOCK),
    ),
)
METRICS = {entry.info.name: entry for entry in _ENTRIES}


def undefined(names: Iterable[object], sizes: Sequence[tuple[int, int]]) -> list[str]:
    """Return a sentence for each metric that is not defined for some images.

    Args:
        names: of metrics; those of the user's own are passed over.
        sizes: (height, width) of the images, in pixels.
    """
    sentences = []
    for entry in [METRICS[name] for name in names if isinstance(name, str) and name in METRICS]:
        short, long = entry.smallest
        small = sum(min(size) < short or max(size) < long for size in sizes)
        if small:
            which = "the images" if small == len(sizes) else f"{small} of {len(sizes)} images"
            sentences.append(
                f"{entry.info.label} of {which}: it is not defined under {short}x{long} pixels"
            )
    return sentences


# Numbers of a transmission rather than of an image, averaged and shown as metrics are.
SECONDS = MetricInfo(
    "seconds",
    "time",
    higher_is_better=False,
    digits=2,
    tolerance=math.inf,
    unit="s",
    bounds=(0, None),
)
OUTAGE = MetricInfo(
    "outage", "outage rate", higher_is_better=False, digits=3, tolerance=0.005, bounds=(0, 1)
)


def frechet_info(features: str) -> MetricInfo:
    """Fréchet distance on a network's features; a FID on those of Inception alone.

    The tolerance is a fraction of the distance before, whose size depends on the number of patches.
    """
    label = "FID" if features == "inception" else f"Fréchet distance ({_network(features)})"
    return MetricInfo("frechet", label, higher_is_better=False, digits=2, tolerance=0.02)


def frechet_256_info(features: str) -> MetricInfo:
    """Fréchet distance on the patches of FID/256, see `feature_networks.patches_256`."""
    label = "FID/256" if features == "inception" else f"Fréchet/256 ({_network(features)})"
    return MetricInfo("frechet_256", label, higher_is_better=False, digits=2, tolerance=0.02)


def kernel_info(features: str) -> MetricInfo:
    """Kernel distance on a network's features; a KID on those of Inception alone."""
    label = "KID" if features == "inception" else f"kernel distance ({_network(features)})"
    return MetricInfo("kernel", label, higher_is_better=False, digits=4, tolerance=math.inf)


def _network(features: str) -> str:
    return {"squeezenet": "SqueezeNet"}.get(features, features)


def custom_metric(function: Metric, name: str = "") -> LoadedMetric:
    """A user's own metric.

    Args:
        function: called as function(images, references), see `Metric`. It may have attributes
            `label` (its name without one), `unit` (none), `higher_is_better` (True), `digits` (4)
            and `tolerance` (0).
        name: its key in records; the function's own name if empty.

    Raises:
        ValueError: it is not callable, an attribute is of the wrong type, or its name is taken or
            no identifier.
    """
    if not callable(function):
        raise ValueError(  # noqa: TRY004 - it may come from the command line
            f"metric {function!r} is not callable; give a function of (images, references)"
        )
    key = name or str(getattr(function, "__name__", type(function).__name__))
    if not re.fullmatch(r"[^\W\d]\w*", key):
        raise ValueError(f"metric {key!r} has no name of its own; define it by def, or as a class")
    if key in METRICS or key in (SECONDS.name, OUTAGE.name, "frechet", "frechet_256", "kernel"):
        raise ValueError(f"a metric of the package is called {key}; give yours another name")

    info = MetricInfo(
        name=key,
        label=_attribute(function, "label", key),
        higher_is_better=_attribute(function, "higher_is_better", True),
        digits=_attribute(function, "digits", 4),
        tolerance=_attribute(function, "tolerance", 0.0),
        unit=_attribute(function, "unit", ""),
    )
    return LoadedMetric(info, function)


def _attribute(function: Metric, field: str, default: Value) -> Value:
    """An attribute of a user's metric, of the default's type."""
    value = getattr(function, field, default)
    if not isinstance(value, type(default)):
        raise ValueError(  # noqa: TRY004 - it may come from the command line
            f"{field} of metric {function!r} is {value!r}; it must be {type(default).__name__}"
        )
    return value

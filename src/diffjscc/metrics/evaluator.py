"""Figures of images that came out of a link."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from diffjscc.metrics.fidelity import ms_ssim, psnr
from diffjscc.metrics.lpips import LPIPS
from diffjscc.metrics.niqe import Pristine, niqe


@dataclass(frozen=True)
class Metrics:
    """How close an image came, None where there is no figure.

    Attributes:
        psnr: in dB.
        ms_ssim, lpips: see `metrics.ms_ssim` and `LPIPS`.
        niqe: see `niqe`; it judges the image alone.
    """

    psnr: float
    ms_ssim: float | None = None
    lpips: float | None = None
    niqe: float | None = None


@dataclass(frozen=True)
class MetricEvaluator:
    """Measures images against those that were sent.

    Attributes:
        lpips: the perceptual distance, or None where there is to be no figure.
        pristine: what NIQE compares with, or None likewise.
    """

    lpips: LPIPS | None = None
    pristine: Pristine | None = None

    def __call__(self, images: Tensor, references: Tensor) -> list[Metrics]:
        """Figures of each of 8-bit levels [B, 3, H, W] against references of that shape.

        Images that equal the one before them, as those of digital links do, are measured once.
        """
        fresh = [
            i == 0
            or not torch.equal(images[i], images[i - 1])
            or not torch.equal(references[i], references[i - 1])
            for i in range(len(images))
        ]
        measured = self._measure(images[fresh], references[fresh])
        return [measured[number - 1] for number in accumulate(fresh)]

    def _measure(self, images: Tensor, references: Tensor) -> list[Metrics]:
        distances = None if self.lpips is None else self.lpips(images, references)
        naturalness = None if self.pristine is None else niqe(images, self.pristine)
        similarities = ms_ssim(images, references)
        return [
            Metrics(
                psnr=level,
                ms_ssim=_defined(similarities, i),
                lpips=_defined(distances, i),
                niqe=_defined(naturalness, i),
            )
            for i, level in enumerate(psnr(images, references).tolist())
        ]


def _defined(values: Tensor | None, index: int) -> float | None:
    """A figure; None where it was not measured or is not defined (NaN)."""
    if values is None:
        return None
    value = float(values[index])
    return None if math.isnan(value) else value

"""Networks of the rounds after the first: the receiver's uncertainty, and its new image."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffjscc.codecs.allocation import Allocation, allocate
from diffjscc.codecs.compact_layers import Block, Pointwise
from diffjscc.codecs.ranges import BLOCKS, WIDTH, check_numbers, check_odd
from diffjscc.layers.block_dct import STRIDE, dct_basis

FINE = 8  # pixels per side of a position of the network that corrects images
LEAST, MOST = -16.0, 4.0  # log variance of a coefficient of images in [0, 1]
TYPICAL = -2.0  # log variance of what a first round leaves of a strong coefficient
SNR_LIMITS_DB = (-20.0, 40.0)


@dataclass(frozen=True)
class FeedbackConfig:
    """Architecture of the rounds after the first, see `FeedbackJSCC`.

    Attributes:
        rounds: after the first; together they take as many channel uses as that.
        functions: of the block DCT, in which the receiver's error is described and sent.
        widths: feature channels of the network that predicts the error and of the one that corrects
            the image.
        blocks: of both.
        expansion, kernel: of a block, see `CompactConfig`.
        condition_width: width of the embedding of (SNR, rate, round).
    """

    rounds: int = 2
    functions: int = 192
    widths: tuple[int, int] = (96, 64)
    blocks: tuple[int, int] = (3, 6)
    expansion: int = 2
    kernel: int = 5
    condition_width: int = 32

    def __post_init__(self) -> None:
        check_numbers(
            self,
            {
                "rounds": (1, 64),
                "functions": (1, 3 * STRIDE**2),
                "widths": WIDTH,
                "blocks": BLOCKS,
                "expansion": (1, 16),
                "kernel": (1, 31),
                "condition_width": WIDTH,
            },
        )
        check_odd("kernel", self.kernel)


@dataclass(frozen=True)
class Estimate:
    """Everything that a receiver makes of the rounds so far.

    Attributes:
        image: float32 [B, 3, 16h, 16w], in about [0, 1].
        log_variance: of the error of each coefficient, as the rule of linear MMSE estimation leaves
            it, float32 [B, J, h, w].
        typical: the same where nothing of the image is known but that every round sent the same
            coefficients of all blocks, likewise: known to both ends without a word.
        update: coefficients that the last round added, like `log_variance`; 0 after the first.
    """

    image: Tensor
    log_variance: Tensor
    typical: Tensor
    update: Tensor


@dataclass(frozen=True)
class Uncertainty:
    """The receiver's uncertainty before a round.

    Attributes:
        log_variance: of the error of each coefficient, float32 [B, J, h, w].
        typical: see `Estimate.typical`.
    """

    log_variance: Tensor
    typical: Tensor

    @property
    def variance(self) -> Tensor:
        """Variance of the error of each coefficient, float32 [B, J, h, w]."""
        return self.log_variance.exp()

    def allocate(self, number: int, snr: Tensor, everywhere: bool) -> Allocation:
        """Allocate N real numbers to the most uncertain coefficients, or to all blocks alike."""
        chosen = self.typical.exp() if everywhere else self.variance
        return allocate(chosen.detach(), number, snr)


def linear_snr(snr_db: Tensor) -> Tensor:
    """SNR of each real number, from dB, within limits that float32 bears."""
    return torch.pow(10.0, snr_db.clamp(*SNR_LIMITS_DB) / 10)


def real_numbers(values: Tensor) -> Tensor:
    """Complex symbols [B, K] of mean power 1 as real numbers [B, 2K] of mean power 1."""
    return 2**0.5 * torch.cat((values.real, values.imag), dim=1)


def complex_symbols(numbers: Tensor) -> Tensor:
    """Invert `real_numbers`."""
    real, imaginary = (numbers / 2**0.5).chunk(2, dim=1)
    return torch.complex(real, imaginary)


class FeedbackLayer(nn.Module):
    """Processing of every round after the first, at both ends.

    The error of the receiver's image is described by the block DCT. From what the receiver has, a
    network predicts the variance of every coefficient: its map of uncertainty, which the
    transmitter knows by feedback. Coefficients that are sent are estimated by the linear MMSE rule,
    and a network corrects the image. The same weights serve all rounds, rates and SNRs.
    """

    analysis: Tensor
    synthesis: Tensor

    def __init__(self, config: FeedbackConfig) -> None:
        super().__init__()
        wide, fine = config.widths
        shape = (config.kernel, config.expansion, config.condition_width)
        basis, deviation = dct_basis(config.functions, STRIDE)
        self.register_buffer("analysis", basis.flatten(1)[:, :, None, None], persistent=False)
        self.register_buffer("synthesis", basis.flatten(1).T[:, :, None, None], persistent=False)
        number = config.functions
        self.condition = nn.Sequential(
            nn.Linear(3, config.condition_width),
            nn.SiLU(),
            nn.Linear(config.condition_width, config.condition_width),
            nn.SiLU(),
        )
        self.typical = nn.Linear(5, number)
        nn.init.zeros_(self.typical.weight)
        with torch.no_grad():
            self.typical.bias.copy_((2 * deviation.log()).clamp(max=TYPICAL))
        self.seen = Pointwise(3 * number, wide)
        self.predict = nn.ModuleList(Block(wide, *shape) for _ in range(config.blocks[0]))
        self.predicted = Pointwise(wide, number)
        self.stem = Pointwise(6 * FINE**2, fine)
        self.known = Pointwise(2 * number, fine)
        self.correct = nn.ModuleList(Block(fine, *shape) for _ in range(config.blocks[1]))
        self.corrected = Pointwise(fine, 3 * FINE**2)
        for zeroed in (self.predicted, self.corrected):
            nn.init.zeros_(zeroed.weight)
            nn.init.zeros_(zeroed.bias)

    def coefficients(self, images: Tensor) -> Tensor:
        """Block DCT [B, J, h, w] of images or errors [B, 3, 16h, 16w]."""
        return F.conv2d(F.pixel_unshuffle(images, STRIDE), self.analysis)

    def image_of(self, coefficients: Tensor) -> Tensor:
        """Inverse block DCT, [B, 3, 16h, 16w]."""
        return F.pixel_shuffle(F.conv2d(coefficients, self.synthesis), STRIDE)

    def embed(self, snr_db: Tensor, rate: float, number: int) -> Tensor:
        """Embed SNR [B], total rate in cpp and the number of the round, from 0, as [B, width]."""
        snr, octave = _centred(snr_db, rate)
        round_ = torch.full_like(snr, number / 2)
        out: Tensor = self.condition(torch.stack((snr, octave, round_), dim=1))
        return out

    def begin(self, image: Tensor, snr_db: Tensor, rate: float) -> Estimate:
        """Return the estimate after the first round.

        Args:
            image: of the first round, float32 [B, 3, 16h, 16w].
            snr_db: of the first round, float32 [B].
            rate: total rate in cpp.
        """
        s, r = _centred(snr_db, rate)
        typical = self.typical(2 * torch.stack((s, r, s * s, s * r, r * r), dim=1))
        nothing = torch.zeros_like(self.coefficients(image))
        typical = typical.clamp(LEAST, MOST)[:, :, None, None].expand_as(nothing)
        return Estimate(image, typical, typical, nothing)

    def uncertainty(self, estimate: Estimate, condition: Tensor) -> Uncertainty:
        """Predict the variance of the error of an estimate."""
        known = (
            (self.coefficients(estimate.image).square() + 1e-5).log(),
            estimate.log_variance,
            (estimate.update.square() + 1e-5).log(),
        )
        x = self.seen(torch.cat(known, dim=1) / 4 + 1)
        for block in self.predict:
            x = block(x, condition)
        log_variance = (estimate.log_variance + self.predicted(x)).clamp(LEAST, MOST)
        return Uncertainty(log_variance, estimate.typical)

    def send(self, error: Tensor, allocation: Allocation) -> Tensor:
        """Choose and scale coefficients of the error [B, J, h, w]: real numbers [B, N]."""
        return allocation.amplitudes * allocation.take(error)

    def receive(
        self,
        estimate: Estimate,
        uncertainty: Uncertainty,
        allocation: Allocation,
        numbers: Tensor,
        snr: Tensor,
        condition: Tensor,
    ) -> Estimate:
        """Improve an estimate by what a round brought.

        Args:
            estimate: before the round.
            uncertainty: likewise, of the receiver.
            allocation: of the round.
            numbers: equalised real numbers [B, N], a·r + n, n of variance 1/SNR.
            snr: linear, float32 [B].
            condition: see `embed`.
        """
        weight = allocation.amplitudes * snr[:, None]
        carried = weight * allocation.amplitudes * allocation.take(uncertainty.variance)
        known = numbers * weight * allocation.take(uncertainty.variance) / (1 + carried)
        update = allocation.put(known, torch.zeros_like(uncertainty.log_variance))
        log_variance = _left(uncertainty.log_variance, allocation, snr)
        typical = _left(uncertainty.typical, allocation, snr)
        image = estimate.image + self.image_of(update)
        return Estimate(
            self.corrected_image(image, log_variance, update, condition),
            log_variance,
            typical,
            update,
        )

    def corrected_image(
        self, image: Tensor, log_variance: Tensor, update: Tensor, condition: Tensor
    ) -> Tensor:
        """Correct an image [B, 3, 16h, 16w] to which the linear rule added an update."""
        added = self.image_of(update)
        x = self.stem(F.pixel_unshuffle(torch.cat((image - 0.5, 4 * added), dim=1), FINE))
        known = self.known(torch.cat((log_variance / 4 + 1, 4 * update), dim=1))
        x = x + F.interpolate(known, scale_factor=STRIDE // FINE, mode="nearest")
        for block in self.correct:
            x = block(x, condition)
        return image + F.pixel_shuffle(self.corrected(x), FINE)


def _left(log_variance: Tensor, allocation: Allocation, snr: Tensor) -> Tensor:
    """Log variance [B, J, h, w] after a round, v/(1 + a²·v·SNR) of what it sends."""
    before = allocation.take(log_variance)
    carried = allocation.amplitudes.square() * before.exp() * snr[:, None]
    return allocation.put(before - carried.log1p(), log_variance).clamp(LEAST, MOST)


def _centred(snr_db: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """SNR [B] and total rate in octaves, [B], both about within -1 to 1."""
    snr = (snr_db.clamp(*SNR_LIMITS_DB) - 7.5) / 12.5
    return snr, torch.full_like(snr, math.log2(rate) + 5)

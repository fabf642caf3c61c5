"""Train the rounds of a codec with feedback: `diffjscc train feedback`.

The first round is that of a trained codec, frozen. One iteration sends a batch of crops through all
rounds and minimises the distortion after each, and the negative log likelihood of the receiver's
errors under the variances that it predicts: its map of uncertainty. Images, crops, SNRs and noise
are functions of (seed, iteration).
"""

from __future__ import annotations

from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from diffjscc.channels.power import normalise_power
from diffjscc.codecs.feedback import FeedbackJSCC
from diffjscc.codecs.feedback_layers import (
    FeedbackConfig,
    complex_symbols,
    linear_snr,
    real_numbers,
)
from diffjscc.codecs.low_snr import equalise
from diffjscc.data.datasets import Dataset
from diffjscc.layers.block_dct import STRIDE
from diffjscc.pretrained.build import build_config
from diffjscc.pretrained.codec import read_codec, save_codec
from diffjscc.pretrained.pretrained import load_codec, open_weights
from diffjscc.pretrained.storage import WeightsError
from diffjscc.scheme import Scheme
from diffjscc.symbols import Symbols
from diffjscc.training.codec_config import FeedbackTrainingConfig
from diffjscc.training.fit import fit, start
from diffjscc.training.images import identity, open_images
from diffjscc.training.losses import distortion
from diffjscc.training.optimiser import ParameterGroup
from diffjscc.training.stage import Validation
from diffjscc.training.transmission import PSNRByRate, TransmissionBatch, TransmissionBatches
from diffjscc.training.transmission_stage import TransmissionStage
from diffjscc.training.validation import CodecValidation

DITHER = 1e-7  # added to squares whose logarithm is compared


class FeedbackLosses(nn.Module):
    """All rounds over the link, and their losses.

    Args:
        codec: whose layer is trained.
        config: channel and losses.
    """

    def __init__(self, codec: FeedbackJSCC, config: FeedbackTrainingConfig) -> None:
        super().__init__()
        self.layer, self.config = codec.layer, config
        self._codec = [codec]  # no module of this one: its first round is frozen

    def forward(
        self, images: Tensor, snr_db: Tensor, index: int, seeds: Tensor, everywhere: bool
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Losses by name, and each image's MSE [B] after the last round.

        Args:
            images: float32 [B, 3, n, n] in [0, 1], n a multiple of 16.
            snr_db: mean Es/N0 in dB, float32 [B].
            index: position in the codec's rates.
            seeds: seeds of each image's noise and fade, int64 [B].
            everywhere: whether all blocks are sent alike.
        """
        mse, likelihood = self._rounds(images, snr_db, index, seeds, everywhere)
        loss = distortion(mse.flatten(), self.config.loss)
        loss = loss + self.config.uncertainty * likelihood
        losses = {"loss": loss, "mse": mse[-1].mean(), "likelihood": likelihood}
        losses |= {f"mse of round {i}": one.mean() for i, one in enumerate(mse, 2)}
        return losses, mse[-1]

    def _rounds(
        self, images: Tensor, snr_db: Tensor, index: int, seeds: Tensor, everywhere: bool
    ) -> tuple[Tensor, Tensor]:
        """MSE of each image after each round but the first, [rounds, B], and the surprise."""
        codec, layer = self._codec[0], self.layer
        generators = [torch.Generator().manual_seed(seed) for seed in seeds.tolist()]
        channel = self.config.channel.at(snr_db)
        with torch.no_grad():
            received = Scheme(codec.first, codec.first.rates[index]).send(
                images, channel, generators
            )
            image = codec.first.decode(received)
        rate, state = codec.rates[index], received.state
        effective = equalise(received)[1].snr_db
        estimate = layer.begin(image, effective, float(rate))
        size = (images.shape[-2], images.shape[-1])
        first = layer.coefficients(images - image)
        errors, likelihoods = [], [_surprise(first, estimate.typical)]
        for number, uses in enumerate(codec.uses(size, rate)[1:]):
            condition = layer.embed(effective, float(rate), number)
            uncertainty = layer.uncertainty(estimate, condition)
            allocation = uncertainty.allocate(2 * uses, linear_snr(effective), everywhere)
            error = layer.coefficients(images - estimate.image)
            likelihoods.append(_surprise(error.detach(), uncertainty.log_variance))
            with torch.no_grad():
                numbers = layer.send(error, allocation)
                symbols = Symbols(normalise_power(complex_symbols(numbers)), size, rate)
                values, after = equalise(channel(symbols, generators, state))
            estimate = layer.receive(
                estimate,
                uncertainty,
                allocation,
                real_numbers(values),
                linear_snr(after.snr_db),
                condition,
            )
            errors.append((estimate.image - images).square().mean(dim=(1, 2, 3)))
        return torch.stack(errors), torch.stack(likelihoods).mean()


def _surprise(errors: Tensor, log_variance: Tensor) -> Tensor:
    """Negative log likelihood of Gaussian errors, mean, less log(2π)/2."""
    return (log_variance + (errors.square() + DITHER) * (-log_variance).exp()).mean() / 2


class FeedbackStage(TransmissionStage):
    """Training of the rounds after the first.

    Args:
        config: settings.
        accelerator: of this process.
        init: weights of an earlier codec with feedback to start from, in place of random ones.
        dataset: training images in place of those that `config` names.

    Raises:
        ValueError: a setting or weights that do not fit.
    """

    def __init__(
        self,
        config: FeedbackTrainingConfig,
        accelerator: Accelerator,
        init: str | None = None,
        dataset: Dataset | None = None,
    ) -> None:
        self.config, self.device = config, accelerator.device
        if config.data.crop % STRIDE:
            raise ValueError(f"data.crop is {config.data.crop}; give a multiple of {STRIDE}")
        set_seed(config.run.seed)
        architecture = build_config(FeedbackConfig, config.codec, "codec")
        first = load_codec(config.first).eval().requires_grad_(False)
        self.codec = FeedbackJSCC(architecture, first).to(self.device)
        if init is not None:
            _start_from(self.codec, init)
        training, self.held_out = open_images(config.data, dataset)
        self.identity = identity(training)
        self.batches = TransmissionBatches(training, config, self.codec.rates)
        self.psnr = PSNRByRate(self.codec.rates)
        self.trained = self.codec.layer.train()
        self.module = FeedbackLosses(self.codec, config).to(self.device)
        self.groups = (ParameterGroup(self.trained, config.optimiser, self.trained),)

    def losses(self, module: nn.Module, batch: TransmissionBatch, step: int) -> dict[str, Tensor]:
        """See `Stage.losses`."""
        images, snr_db = batch.images.to(self.device), batch.snr_db.to(self.device)
        draw = torch.rand((), generator=torch.Generator().manual_seed(self.config.run.seed + step))
        everywhere = bool(draw < self.config.everything)
        losses: dict[str, Tensor]
        index = int(batch.rates[0])  # one rate for all: fewer and larger operations
        losses, mse = module(images, snr_db, index, batch.seeds, everywhere)
        self.psnr.add(torch.full_like(batch.rates, index), mse)
        return losses

    def validation(self) -> Validation | None:
        """PSNR of held-out images at every rate."""
        if self.held_out is None:
            return None
        data, channel, codec = self.config.data, self.config.channel, self.codec
        return CodecValidation(self.held_out, data, channel, codec.rates, codec, self.device)

    def save(self, folder: Path) -> None:
        """Write the codec, its first round included."""
        save_codec(self.codec, folder)


def _start_from(codec: FeedbackJSCC, source: str) -> None:
    """Load the rounds after the first of an earlier codec of the same architecture."""
    earlier = read_codec(open_weights(source).folder)
    if not isinstance(earlier, FeedbackJSCC) or earlier.config != codec.config:
        raise WeightsError(
            f'weights "{source}" are not of a codec with feedback of the architecture that the '
            "config has; set codec to that, or leave out --init"
        )
    codec.layer.load_state_dict(earlier.layer.state_dict())


def train(
    config: FeedbackTrainingConfig,
    output: Path,
    init: str | None = None,
    dataset: Dataset | None = None,
) -> Path:
    """Train a codec's further rounds, or resume their training, in the folder `output`.

    Args:
        config: settings.
        output: the run's folder, see `fit`.
        init: weights of an earlier codec with feedback to start from, in place of random ones.
        dataset: training images, see `jscc.train`.

    Returns:
        The folder of the exported, averaged weights.
    """
    accelerator = start(config)
    return fit(FeedbackStage(config, accelerator, init, dataset), accelerator, output)

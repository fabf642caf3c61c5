"""Train a joint source-channel codec: `diffjscc train jscc`.

One iteration sends a batch of crops through the path that users take (encode, channel, decode)
and minimises the distortion. Images, crops, SNRs and noise are functions of (seed, iteration).
"""

from __future__ import annotations

from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from diffjscc.data.datasets import Dataset
from diffjscc.training.codec_config import JSCCConfig
from diffjscc.training.codecs import (
    as_codec,
    build_training_codec,
    custom_factory,
    save_training_codec,
    start_from,
)
from diffjscc.training.fit import fit, start
from diffjscc.training.images import identity, open_images
from diffjscc.training.losses import ExtraLosses, calm_errors, distortion
from diffjscc.training.optimiser import ParameterGroup
from diffjscc.training.stage import Validation
from diffjscc.training.transmission import (
    PSNRByRate,
    TransmissionBatch,
    TransmissionBatches,
    transmit,
)
from diffjscc.training.transmission_stage import TransmissionStage
from diffjscc.training.validation import CodecValidation


class CodecLosses(nn.Module):
    """One differentiable pass over the link, and its losses.

    Args:
        codec: the codec in training, a module that follows the `Codec` protocol.
        config: channel and losses.
    """

    def __init__(self, codec: nn.Module, config: JSCCConfig) -> None:
        super().__init__()
        self.codec, self.config = as_codec(codec), config
        self.extra = ExtraLosses(config.loss.extra)

    def forward(
        self, images: Tensor, snr_db: Tensor, rates: Tensor, seeds: Tensor
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Losses by name, and each image's MSE [B]; see `TransmissionBatch` for arguments."""
        config = self.config
        reconstruction, texture = transmit(self.codec, config.channel, images, snr_db, rates, seeds)
        mse = (reconstruction - images).square().mean(dim=(1, 2, 3))
        extra, own = self.extra(reconstruction, images)
        calm, errors = calm_errors(reconstruction, texture, images, config.loss)
        loss = distortion(mse, config.loss) + extra + calm
        return {"loss": loss, "mse": mse.mean(), **own, **errors}, mse


class JSCCStage(TransmissionStage):
    """Training of a codec.

    Args:
        config: settings.
        accelerator: of this process.
        init: weights to start from (name, folder or hub id) instead of random ones.
        dataset: training images in place of those that `config` names.

    Raises:
        ValueError: a setting or weights that do not fit.
    """

    def __init__(
        self,
        config: JSCCConfig,
        accelerator: Accelerator,
        init: str | None = None,
        dataset: Dataset | None = None,
    ) -> None:
        self.config, self.device = config, accelerator.device
        set_seed(config.run.seed)
        network = build_training_codec(config.codec).to(self.device).train()
        if init is not None:
            start_from(network, init)
        self.codec = as_codec(network)
        training, self.held_out = open_images(config.data, dataset)
        self.identity = identity(training)
        self.batches = TransmissionBatches(training, config, self.codec.rates)
        self.psnr = PSNRByRate(self.codec.rates)
        self.trained, self.module = network, CodecLosses(network, config).to(self.device)
        self.groups = (ParameterGroup(network, config.optimiser, network),)

    def losses(self, module: nn.Module, batch: TransmissionBatch, step: int) -> dict[str, Tensor]:
        """See `Stage.losses`."""
        del step
        images, snr_db = batch.images.to(self.device), batch.snr_db.to(self.device)
        losses: dict[str, Tensor]
        losses, mse = module(images, snr_db, batch.rates, batch.seeds)
        self.psnr.add(batch.rates, mse)
        return losses

    def validation(self) -> Validation | None:
        """PSNR of held-out images at every rate."""
        if self.held_out is None:
            return None
        data, channel, codec = self.config.data, self.config.channel, self.codec
        return CodecValidation(self.held_out, data, channel, codec.rates, codec, self.device)

    def save(self, folder: Path) -> None:
        """Write the codec."""
        save_training_codec(self.trained, self.config.codec, folder)


def train(
    config: JSCCConfig, output: Path, init: str | None = None, dataset: Dataset | None = None
) -> Path:
    """Train a codec, or resume its training, in the folder `output`.

    Args:
        config: settings.
        output: the run's folder, see `fit`.
        init: weights to start from (name, folder or hub id) instead of random ones.
        dataset: training images, any object with a length and items by number, see `image_of`;
            takes the place of `config.data.train`.

    Returns:
        The folder of the exported, averaged weights.
    """
    accelerator = start(config, partial=custom_factory(config.codec) is not None)
    return fit(JSCCStage(config, accelerator, init, dataset), accelerator, output)

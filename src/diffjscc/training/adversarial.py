"""Train a joint source-channel codec against a discriminator: `diffjscc train adversarial`.

The scheme that the paper calls DeepJSCC-adv: the codec minimises MSE + α·(adversarial loss of a
patch discriminator), the discriminator learns to tell its images from photographs. By default
both ends are trained, so that the symbols may change too. SNRs, noise and crops are functions of
(seed, iteration).
"""

from __future__ import annotations

from pathlib import Path

from accelerate import Accelerator
from accelerate.utils import set_seed
from torch import Tensor, nn

from diffjscc.codecs.joint import JointCodec
from diffjscc.pretrained.build import build_codec
from diffjscc.pretrained.pretrained import save_codec
from diffjscc.training.codec_config import AdversarialConfig
from diffjscc.training.codecs import start_from
from diffjscc.training.discriminator import PatchDiscriminator, generator_loss, hinge_loss
from diffjscc.training.fit import fit, start
from diffjscc.training.images import identity, open_images
from diffjscc.training.losses import ExtraLosses, calm_errors, distortion
from diffjscc.training.optimiser import ParameterGroup
from diffjscc.training.stage import Validation
from diffjscc.training.transmission import (
    PSNRByRate,
    TransmissionBatch,
    TransmissionBatches,
    trained_rates,
    transmit,
)
from diffjscc.training.transmission_stage import TransmissionStage
from diffjscc.training.validation import CodecValidation, load_lpips


class AdversarialLosses(nn.Module):
    """Codec and discriminator, and the losses of both.

    Args:
        codec: the codec in training.
        discriminator: classifies images as photographs or reconstructions.
        config: the channel, and weights of the losses.
    """

    def __init__(
        self, codec: JointCodec, discriminator: nn.Module, config: AdversarialConfig
    ) -> None:
        super().__init__()
        self.trained = nn.ModuleDict({"codec": codec, "discriminator": discriminator})
        self.codec, self.discriminator = codec, discriminator
        self.config = config
        self.extra = ExtraLosses(config.loss.extra)

    def forward(
        self, images: Tensor, snr_db: Tensor, rates: Tensor, seeds: Tensor, step: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Losses by name, and each image's MSE [B]; "loss" is minimised.

        Its gradient improves the codec against the discriminator and the discriminator against
        the codec: neither part of it reaches the other's weights.

        Args:
            images: float32 [B, 3, H, W] in [0, 1].
            snr_db: float32 [B], see `transmit`, as for `rates` and `seeds`.
            rates: int64 [B].
            seeds: int64 [B].
            step: number of the iteration, from 0.
        """
        config = self.config
        reconstruction, texture = transmit(self.codec, config.channel, images, snr_db, rates, seeds)
        mse = (reconstruction - images).square().mean(dim=(1, 2, 3))
        real, fake = 2 * images - 1, 2 * reconstruction - 1
        extra, own = self.extra(reconstruction, images)
        calm, errors = calm_errors(reconstruction, texture, images, config.loss)
        losses = {
            "mse": mse.mean(),
            "distortion": distortion(mse, config.loss),
            "adversarial": generator_loss(self.discriminator, fake),
            "discriminator": hinge_loss(
                self.discriminator(real), self.discriminator(fake.detach())
            ),
        }
        adversary = config.adversary
        weight = adversary.weight if step >= adversary.start else 0.0
        loss = losses["distortion"] + weight * losses["adversarial"] + losses["discriminator"]
        return {"loss": loss + extra + calm, **losses, **own, **errors}, mse


def build(config: AdversarialConfig, init: str | None) -> AdversarialLosses:
    """Networks at the start of a run, in training mode.

    A frozen encoder is in evaluation mode, so that its batch norms do not move.

    Args:
        config: settings.
        init: weights whose codec to start from; None for random ones.

    Raises:
        WeightsError: the weights are missing, damaged or of another architecture.
    """
    codec = build_codec(config.codec)
    if init is not None:
        start_from(codec, init)
    discriminator = PatchDiscriminator(config.adversary.width)
    if config.freeze_encoder:
        assert codec.encoder is not None
        codec.encoder.requires_grad_(False).eval()
    return AdversarialLosses(codec, discriminator, config)


class AdversarialStage(TransmissionStage):
    """Training of a codec and a discriminator.

    Args:
        config: settings.
        accelerator: of this process.
        init: see `train`.

    Raises:
        ValueError: a setting or weights that do not fit.
    """

    def __init__(
        self, config: AdversarialConfig, accelerator: Accelerator, init: str | None
    ) -> None:
        self.config, self.device = config, accelerator.device
        set_seed(config.run.seed)
        networks = build(config, init).to(self.device)
        self.module, self.codec, self.trained = networks, networks.codec, networks.trained
        training, self.held_out = open_images(config.data)
        self.identity = identity(training)
        self.batches = TransmissionBatches(training, config, self.codec.rates)
        self.psnr = PSNRByRate(self.codec.rates)
        self.groups = (ParameterGroup(self.trained, config.optimiser, self.codec),)

    def losses(self, module: nn.Module, batch: TransmissionBatch, step: int) -> dict[str, Tensor]:
        """See `Stage.losses`."""
        images, snr_db = batch.images.to(self.device), batch.snr_db.to(self.device)
        losses: dict[str, Tensor]
        losses, mse = module(images, snr_db, batch.rates, batch.seeds, step)
        self.psnr.add(batch.rates, mse)
        return losses

    def validation(self) -> Validation | None:
        """PSNR and, where its weights are installed, LPIPS of held-out images."""
        if self.held_out is None:
            return None
        return CodecValidation(
            self.held_out,
            self.config.data,
            self.config.channel,
            trained_rates(self.config.rate_shares, self.codec.rates),
            self.codec,
            self.device,
            load_lpips(self.device),
        )

    def save(self, folder: Path) -> None:
        """Write the codec."""
        save_codec(self.codec, folder)


def train(config: AdversarialConfig, output: Path, init: str | None = None) -> Path:
    """Train a codec against a discriminator, or resume its training, in the folder `output`.

    Args:
        config: settings.
        output: the run's folder, see `fit`.
        init: weights whose codec to start from (name, folder or hub id). Without it both networks
            start from random numbers.

    Returns:
        The folder of the exported, averaged codec.

    Raises:
        ValueError: a setting or weights that do not fit.
    """
    accelerator = start(config)
    return fit(AdversarialStage(config, accelerator, init), accelerator, output)

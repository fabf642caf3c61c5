"""Losses of decoder training: perceptual, of feature statistics, of lattices, and adversarial."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffjscc.layers.texture import fine_scales
from diffjscc.metrics.lpips import LPIPS
from diffjscc.refiners.library import AutoencoderKL
from diffjscc.refiners.vae import VAE
from diffjscc.training.decoder_config import DecoderConfig
from diffjscc.training.discriminator import PatchDiscriminator, generator_loss, hinge_loss
from diffjscc.training.losses import ExtraLosses
from diffjscc.training.projected import EfficientNetFeatures, ProjectedDiscriminator, augmented

DEEP_TAPS = 3  # last taps of LPIPS's network, whose mean features are compared
PERIODS = (4, 16)  # pixels: squares of the decoder's last layer, and those of a latent position


def decoding_half(vae: VAE) -> nn.ModuleDict:
    """Layers of a frozen VAE that decode latents, made trainable."""
    half = nn.ModuleDict({"decoder": vae.decoder})
    if isinstance(vae, AutoencoderKL) and vae.post_quant_conv is not None:
        half["post_quant_conv"] = vae.post_quant_conv
    return half.requires_grad_(True)


def features_error(features: Sequence[Tensor], references: Sequence[Tensor]) -> Tensor:
    """Relative squared error of mean features, over images and taps.

    Of features f and g [B, C, h, w] of one tap it is |mean f - mean g|² / |mean g|² with means
    over positions: the textures of an image, wherever they are.
    """
    errors = []
    for own, wanted in zip(features, references, strict=True):
        mean, target = (x.float().mean(dim=(2, 3)) for x in (own, wanted))
        errors.append(((mean - target).square().sum(1) / target.square().sum(1)).mean())
    return torch.stack(errors).mean()


def frechet(decoded: Tensor, wanted: Tensor) -> Tensor:
    """Fréchet distance of two sets of features [n, d], over the variance of the wanted ones.

    |μ - μ'|² + tr(C + C' - 2 (C C')^½). With features X and X' less their means in rows, the last
    trace is the nuclear norm of X X'ᵀ over n - 1, which needs no d x d root.
    """
    own, other = decoded - decoded.mean(0), wanted - wanted.mean(0)
    power = other.square().sum()
    spread = own.square().sum() + power - 2 * torch.linalg.svdvals(own @ other.T).sum()
    apart = (len(decoded) - 1) * (decoded.mean(0) - wanted.mean(0)).square().sum()
    relative: Tensor = (apart + spread) / power
    return relative


class FeatureQueue(nn.Module):
    """Features of the latest images, so that a batch suffices for a distance of sets.

    Args:
        count: number of images.
        width: features per image.
    """

    decoded: Tensor
    wanted: Tensor
    filled: Tensor

    def __init__(self, count: int, width: int = 512) -> None:
        super().__init__()
        self.register_buffer("decoded", torch.zeros(count, width))
        self.register_buffer("wanted", torch.zeros(count, width))
        self.register_buffer("filled", torch.tensor(0))

    def forward(self, decoded: Tensor, wanted: Tensor) -> Tensor:
        """`frechet` with a batch's features [b, width] first, times n/b; 0 until there are n.

        Only b of the n rows have a gradient; the factor makes it as large as that of a mean over
        the batch.
        """
        count = len(self.decoded)
        rows = torch.cat((decoded, self.decoded))[:count]
        with torch.no_grad():
            self.decoded.copy_(rows)
            self.wanted.copy_(torch.cat((wanted, self.wanted))[:count])
            self.filled.add_(len(decoded)).clamp_(max=count)
        if int(self.filled) < count:
            return decoded.new_zeros(())
        return count / len(decoded) * frechet(rows, self.wanted)


def lattice(pixels: Tensor, period: int) -> Tensor:
    """Pattern that repeats every `period` pixels, averaged over windows of about 24 px or more.

    A decoder that produces squares of pixels at once leaves a lattice in flat areas that patch
    discriminators hardly see.

    Args:
        pixels: [B, 3, H, W], sides multiples of the period.
        period: in pixels.

    Returns:
        Deviation of each position in a square from their mean, [B, 3, period², windows…].
    """
    squares = F.pixel_unshuffle(pixels, period)
    side = min(max(5, 24 // period), *squares.shape[-2:])
    means = F.avg_pool2d(squares, side, stride=max(1, side // 2))
    phases = means.reshape(len(means), 3, period**2, *means.shape[-2:])
    return phases - phases.mean(dim=2, keepdim=True)


def fine_deviation(pixels: Tensor) -> Tensor:
    """Deviation of fine scales in windows of 16x16 pixels that overlap by half, [B, 1, h, w].

    Args:
        pixels: [B, 3, H, W].

    Returns:
        Root mean square, over a window and the channels, of the pixels minus their 9x9 means.
    """
    power = F.avg_pool2d(fine_scales(pixels).square(), 16, 8).mean(dim=1, keepdim=True)
    return (power + 1e-8).sqrt()


def excess(decoded: Tensor, wanted: Tensor) -> Tensor:
    """Mean deviation of fine scales beyond that of the originals, both [B, 3, H, W] in [-1, 1].

    A window whose original deviates by s levels of 255 counts as 1/(1 + (s/2.5)²): calm areas
    stay calm, and textures may have any form.
    """
    own, other = fine_deviation(decoded), fine_deviation(wanted)
    weight = 1 / (1 + (127.5 / 2.5 * other).square())
    beyond: Tensor = (weight * F.relu(own - 1.15 * other - 0.25 / 127.5)).mean()
    return beyond


class DecoderLosses(nn.Module):
    """Decoder and discriminators, and the losses of both.

    Args:
        vae: the VAE whose decoder is in training; the rest of it is frozen.
        lpips: the perceptual distance with SqueezeNet; its network is frozen.
        config: weights of the losses.
    """

    def __init__(self, vae: VAE, lpips: LPIPS, config: DecoderConfig) -> None:
        super().__init__()
        self.vae, self.lpips, self.config = vae, lpips, config
        width = config.discriminators.width
        self.features: EfficientNetFeatures | None = None
        if config.discriminators.kind == "projected":
            self.features = EfficientNetFeatures()
            projected = ProjectedDiscriminator(self.features.channels, width)
            self.discriminators = nn.ModuleList([projected])
        else:
            self.discriminators = nn.ModuleList(PatchDiscriminator(width) for _ in range(2))
        self.decoder = decoding_half(vae)
        self.extra = ExtraLosses(config.loss.extra)
        self.queue = FeatureQueue(config.queue)
        self.trained = nn.ModuleDict(
            {
                "decoder": self.decoder,
                "discriminators": self.discriminators,
                "queue": self.queue,
            }
        )

    def forward(self, images: Tensor, latents: Tensor, step: int) -> dict[str, Tensor]:
        """Losses by name; "loss" is minimised.

        Its gradient improves the decoder against the discriminators and these against the
        decoder: neither part of it reaches the other's weights.

        Args:
            images: float32 [B, 3, H, W] in [0, 1].
            latents: scaled latents that such images are decoded from, [B, C, h, w].
            step: number of the iteration, from 0.
        """
        (decoded,) = self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)
        pixels = 2 * images - 1
        with torch.no_grad():
            wanted = [*self.lpips.taps(images)]
        features = [*self.lpips.taps((decoded + 1) / 2)]
        losses = {
            "mse": (decoded.detach() - pixels).square().mean() / 4,  # of images in [0, 1]
            "l1": (decoded - pixels).abs().mean(),
            "lpips": self.lpips.compare(features, wanted).mean(),
            "features": features_error(features[-DEEP_TAPS:], wanted[-DEEP_TAPS:]),
            "lattice": torch.stack(
                [(lattice(decoded, n) - lattice(pixels, n)).abs().mean() for n in PERIODS]
            ).sum(),
        }
        if self.config.loss.frechet > 0:  # a decomposition of n x n numbers
            sets = (x[-1].float().mean(dim=(2, 3)) for x in (features, wanted))
            losses["frechet"] = self.queue(*sets)
        else:
            losses["frechet"] = decoded.new_zeros(())
        losses["calm"] = excess(decoded, pixels)
        losses |= self.adversarial(decoded, pixels, step)
        weights = self.config.loss
        extra, own = self.extra((decoded + 1) / 2, images)
        loss = (
            weights.l1 * losses["l1"]
            + weights.lpips * losses["lpips"]
            + weights.features * losses["features"]
            + weights.frechet * losses["frechet"]
            + weights.lattice * losses["lattice"]
            + weights.calm * losses["calm"]
            + self.adversarial_weight(step) * losses["adversarial"]
            + losses["discriminators"]
        )
        return {"loss": loss + extra, **losses, **own}

    def adversarial(self, decoded: Tensor, pixels: Tensor, step: int) -> dict[str, Tensor]:
        """Losses of decoder and discriminators against each other.

        Args:
            decoded: decoded images, [B, 3, H, W] in about [-1, 1].
            pixels: photographs of the same shape.
            step: number of the iteration; seeds the augmentation of what features are taken of.
        """
        if self.features is None:
            fakes, reals = ((x, F.avg_pool2d(x, 2)) for x in (decoded, pixels))
            generator, hinge = [], []
            for discriminator, fake, real in zip(self.discriminators, fakes, reals, strict=True):
                generator.append(generator_loss(discriminator, fake))
                hinge.append(hinge_loss(discriminator(real), discriminator(fake.detach())))
        else:
            (discriminator,) = self.discriminators
            found = self.features((augmented(decoded, 2 * step) + 1) / 2)
            with torch.no_grad():
                wanted = self.features((augmented(pixels, 2 * step + 1) + 1) / 2)
            apart = [x.detach() for x in found]
            generator = [generator_loss(discriminator, found)]
            hinge = [hinge_loss(discriminator(wanted), discriminator(apart))]
        return {
            "adversarial": torch.stack(generator).mean(),
            "discriminators": torch.stack(hinge).mean(),
        }

    def adversarial_weight(self, step: int) -> float:
        """Weight of the adversarial loss in iteration `step`."""
        config = self.config.discriminators
        grown = (step - config.start) / max(config.ramp, 1)
        if step >= config.start and config.ramp == 0:
            grown = 1.0
        return self.config.loss.adversarial * min(1.0, max(0.0, grown))

"""Distortion of transmitted images, errors of calm areas and of the map, losses of one's own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffjscc.layers.texture import texture_map
from diffjscc.plugins import import_object
from diffjscc.training.codec_config import LossConfig
from diffjscc.training.config import ExtraLossConfig


def distortion(mse: Tensor, config: LossConfig) -> Tensor:
    """Distortion of a batch, a scalar, from its images' MSE [B]."""
    return mse.mean() if config.name == "mse" else torch.log(mse + config.floor).mean()


def calm_errors(
    reconstruction: Tensor, texture: Tensor | None, images: Tensor, config: LossConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Compute the errors of flat areas and of the received texture map.

    Args:
        reconstruction: [B, 3, H, W].
        texture: received maps [B, 1, H/16, W/16], or None.
        images: the originals, as `reconstruction`.
        config: weights; without one an error is not computed.

    Returns:
        The weighted sum, a scalar, and each error by its name.
    """
    total, errors = reconstruction.new_zeros(()), dict[str, Tensor]()
    if texture is not None and config.texture:
        errors["texture"] = F.smooth_l1_loss(texture, texture_map(images))
        total = total + config.texture * errors["texture"]
    if config.flat_colour:
        errors["flat colour"] = flat_colour(reconstruction, images)
        total = total + config.flat_colour * errors["flat colour"]
    return total, errors


def window_means(images: Tensor) -> Tensor:
    """Means over windows of 16x16 pixels that overlap by half, [B, C, h, w]."""
    return F.avg_pool2d(images, 16, 8)


def flat_colour(reconstruction: Tensor, original: Tensor) -> Tensor:
    """Mean colour error where the original is flat, in units of the pixels.

    Over windows of 16x16 pixels, the root mean square error of the colours less their brightness
    is taken. A window whose original deviates by s levels of 255 counts as 1/(1 + (s/4)²).

    Args:
        reconstruction: float32 [B, 3, H, W], in about [0, 1].
        original: float32 [B, 3, H, W] in [0, 1].
    """
    error = reconstruction - original
    colour = error - error.mean(dim=1, keepdim=True)
    size = (window_means(colour.square()).mean(dim=1) + 1e-6).sqrt()
    variance = window_means(original.square()) - window_means(original).square()
    weight = 1 / (1 + (255 / 4) ** 2 * variance.clamp(min=0).mean(dim=1))
    return (weight * size).mean()


class ExtraLosses(nn.Module):
    """Losses of the user's own, imported by name; their own weights are frozen.

    Args:
        configs: the losses.

    Raises:
        ValueError: an import string that leads to nothing, or to no loss.
    """

    def __init__(self, configs: Sequence[ExtraLossConfig]) -> None:
        super().__init__()
        self.configs = tuple(configs)
        self.functions = [_load(config) for config in configs]
        networks = [loss for loss in self.functions if isinstance(loss, nn.Module)]
        self.networks = nn.ModuleList(networks).requires_grad_(False)

    def forward(self, reconstruction: Tensor, original: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted sum of the losses, a scalar, and each loss by its import string.

        Args:
            reconstruction: float32 [B, 3, H, W], in about [0, 1].
            original: float32 [B, 3, H, W] in [0, 1].

        Raises:
            ValueError: a loss that is no scalar.
        """
        total, losses = reconstruction.new_zeros(()), {}
        for config, function in zip(self.configs, self.functions, strict=True):
            loss = function(reconstruction, original)
            losses[config.factory] = _checked(loss, config.factory)
            total = total + config.weight * loss
        return total, losses


def _load(config: ExtraLossConfig) -> Callable[[Tensor, Tensor], Tensor]:
    loss = import_object(config.factory)
    if isinstance(loss, type):
        loss = config.make()
        if not callable(loss):
            raise ValueError(  # noqa: TRY004 - a broken config, not a wrong call
                f"objects of {config.factory} cannot be called; give the class a "
                "__call__(reconstruction, original), or a forward to an nn.Module"
            )
    elif config.args:
        raise ValueError(
            f"{config.factory} is a function, called with two images; remove args, or give a class"
        )
    return loss


def _checked(loss: object, name: str) -> Tensor:
    """The loss, if it is a scalar."""
    if not isinstance(loss, Tensor) or loss.ndim != 0:
        what = f"shape {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise ValueError(f"loss {name} returned {what}; return a scalar tensor, such as a mean")
    return loss

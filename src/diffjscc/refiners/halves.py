"""The prior's UNet in two halves, of which the first is the same with control and without it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from diffjscc.refiners.library import UNet2DConditionModel


@dataclass(frozen=True)
class Encoded:
    """Output of the UNet's encoder and middle block.

    Attributes:
        skips: features of the skip connections [B, C, h, w], first to last.
        middle: features of the middle block, likewise.
        embedding: of the time step, [B, D].
        context: text features [B, L, d] as the blocks take them, or None.
    """

    skips: tuple[Tensor, ...]
    middle: Tensor
    embedding: Tensor
    context: Tensor | None

    def with_and_without(self, skips: Sequence[Tensor], middle: Tensor) -> Encoded:
        """Return 2·B rows: with residuals of a control module, then the same without them."""
        context = self.context
        return Encoded(
            tuple(
                torch.cat((own + skip, own)) for own, skip in zip(self.skips, skips, strict=True)
            ),
            torch.cat((self.middle + middle, self.middle)),
            torch.cat((self.embedding, self.embedding)),
            None if context is None else torch.cat((context, context)),
        )


def encode_noisy(
    unet: UNet2DConditionModel, z_t: Tensor, t: Tensor, context: Tensor | None
) -> Encoded:
    """Compute the first half of `UNet2DConditionModel.forward`.

    Args:
        unet: the prior, conditioned on time step and text alone.
        z_t: noisy latent [B, C, h, w].
        t: time step, int64 [B].
        context: text features [B, L, d] or None.
    """
    x = 2 * z_t - 1 if unet.config.center_input_sample else z_t
    embedding = unet.time_embedding(unet.get_time_embed(sample=x, timestep=t), None)
    if unet.time_embed_act is not None:
        embedding = unet.time_embed_act(embedding)
    context = unet.process_encoder_hidden_states(
        encoder_hidden_states=context, added_cond_kwargs=None
    )
    x = unet.conv_in(x)
    skips = [x]
    for block in unet.down_blocks:
        x, features = block(x, embedding, **_attended(block, context))
        skips += features
    middle = unet.mid_block
    if middle is not None:
        x = middle(x, embedding, **_attended(middle, context))
    return Encoded(tuple(skips), x, embedding, context)


def predict_from(unet: UNet2DConditionModel, encoded: Encoded) -> Tensor:
    """Compute the second half of `UNet2DConditionModel.forward`: the noise [B, C, h, w]."""
    x, skips = encoded.middle, encoded.skips
    for block in unet.up_blocks:
        taken, skips = skips[-len(block.resnets) :], skips[: -len(block.resnets)]
        # Odd sides were rounded up on the way down; the last block keeps the size.
        size = skips[-1].shape[2:] if skips else None
        context = _attended(block, encoded.context)
        x = block(x, taken, encoded.embedding, upsample_size=size, **context)
    if unet.conv_norm_out is not None:
        x = unet.conv_act(unet.conv_norm_out(x))
    noise: Tensor = unet.conv_out(x)
    return noise


def _attended(block: torch.nn.Module, context: Tensor | None) -> dict[str, Tensor | None]:
    """The argument that blocks with cross attention take beside the others."""
    crossed = getattr(block, "has_cross_attention", False)
    return {"encoder_hidden_states": context} if crossed else {}

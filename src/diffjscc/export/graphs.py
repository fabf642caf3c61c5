"""Networks of a scheme as functions of tensors, any batch and image size, to be exported.

A module here computes one network for all rates and SNRs; what is arithmetic on symbols (pairing,
power, channel) stays outside.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from diffjscc.codecs.compact import CompactJSCC
from diffjscc.codecs.deepjscc import DeepJSCC
from diffjscc.codecs.joint import JointCodec
from diffjscc.layers.banding import whole
from diffjscc.layers.block_dct import STRIDE
from diffjscc.layers.texture import texture_map
from diffjscc.refiners.control import ControlModule
from diffjscc.refiners.latents import ConditionEncoder
from diffjscc.refiners.library import UNet2DConditionModel
from diffjscc.refiners.vae import VAE


class UnknownCodecError(ValueError):
    """A codec that cannot be exported."""


class Graph(Protocol):
    """A network with names for what goes in and comes out."""

    names: tuple[str, ...]
    outputs: tuple[str, ...]

    def __call__(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Compute."""
        ...


class CompactEncoder(nn.Module):
    """Encoder of `CompactJSCC`; a rate with C channels sends the first C of the latent."""

    names = ("images", "snr_db", "rate_index")
    outputs = ("latent",)

    def __init__(self, codec: CompactJSCC) -> None:
        super().__init__()
        assert codec.encoder is not None
        self.encoder = codec.encoder

    def forward(self, images: Tensor, snr_db: Tensor, rate_index: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] in [0, 1] as [B, C_max, H/16, W/16]."""
        encoder = self.encoder
        coefficients = encoder.transform(images)
        condition = encoder.condition(coefficients, snr_db, rate_index)
        texture = None
        if encoder.texture is not None:
            texture = texture_map(images, STRIDE)
        deep = whole(encoder.stages(condition, texture), images)
        return encoder.shape(
            encoder.combine(coefficients, deep, condition, texture), condition, texture
        )


class CompactDecoder(nn.Module):
    """Decoder of `CompactJSCC`; channels that the rate does not send are zero."""

    names = ("latent", "snr_db", "rate_index")

    def __init__(self, codec: CompactJSCC) -> None:
        super().__init__()
        assert codec.decoder is not None
        self.decoder = codec.decoder
        self.outputs = ("images", "texture") if codec.config.texture else ("images",)

    def forward(
        self, latent: Tensor, snr_db: Tensor, rate_index: Tensor
    ) -> Tensor | tuple[Tensor, ...]:
        """Decode [B, C_max, h, w] to images [B, 3, 16h, 16w], not clamped, and the texture map."""
        latent, condition, sent = self.decoder.receive(latent, snr_db, rate_index)
        textures = list[Tensor]()
        images = whole(self.decoder.stages(latent, condition, textures), latent)
        return images if sent is None else (images, *map(sent.correct, textures))


class DeepEnd(nn.Module):
    """Encoder or decoder of `DeepJSCC`, which has one rate."""

    def __init__(self, end: nn.Module, source: str, target: str) -> None:
        super().__init__()
        self.end = end
        self.names = (source, "snr_db")
        self.outputs = (target,)

    def forward(self, inputs: Tensor, snr_db: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] in [0, 1] as a latent [B, C, h, w], or decode it."""
        outputs: Tensor = self.end(inputs, snr_db[:, None])
        return outputs


class LatentEncoder(nn.Module):
    """Encoder of the prior's latents, or of the condition latent."""

    names = ("images",)
    outputs = ("latent",)

    def __init__(self, encoder: VAE | ConditionEncoder) -> None:
        super().__init__()
        self.encoder = encoder.encoder
        self.quant_conv = encoder.quant_conv
        self.scale: float = encoder.config.scaling_factor

    def forward(self, images: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] in [0, 1] as the posterior's mean [B, C, h, w], scaled."""
        features = self.encoder(2 * images - 1)
        moments = features if self.quant_conv is None else self.quant_conv(features)
        mean: Tensor = moments.chunk(2, dim=1)[0]
        return self.scale * mean


class LatentDecoder(nn.Module):
    """Decoder of the prior's latents."""

    names = ("latent",)
    outputs = ("images",)

    def __init__(self, vae: VAE) -> None:
        super().__init__()
        self.vae = vae
        self.scale: float = vae.config.scaling_factor

    def forward(self, latent: Tensor) -> Tensor:
        """Decode scaled latents [B, C, h, w] to images [B, 3, H, W] in about [0, 1]."""
        (pixels,) = self.vae.decode(latent / self.scale, return_dict=False)
        return (pixels + 1) / 2


class NoisePredictor(nn.Module):
    """Prior with a control module; at `control_scale` 0 it is the prior alone."""

    outputs = ("noise",)

    def __init__(self, unet: UNet2DConditionModel, control: ControlModule, text: bool) -> None:
        super().__init__()
        self.unet, self.control = unet, control
        names = ("latent", "step", "condition", "snr_db", "control_scale")
        self.names = (*names, "context") if text else names

    def forward(
        self,
        latent: Tensor,
        step: Tensor,
        condition: Tensor,
        snr_db: Tensor,
        control_scale: Tensor,
        context: Tensor | None = None,
    ) -> Tensor:
        """Predict the noise in a latent [B, C, h, w], given text features [B, L, d] if any."""
        skips, middle = self.control(latent, step, condition, snr_db, context)
        (noise,) = self.unet(
            latent,
            step,
            context,
            down_block_additional_residuals=[control_scale * skip for skip in skips],
            mid_block_additional_residual=control_scale * middle,
            return_dict=False,
        )
        predicted: Tensor = noise
        return predicted


def codec_graphs(codec: JointCodec) -> tuple[nn.Module, nn.Module]:
    """Make the graphs of a codec's encoder and decoder.

    Raises:
        UnknownCodecError: a codec whose networks cannot be exported.
    """
    if isinstance(codec, CompactJSCC):
        return CompactEncoder(codec), CompactDecoder(codec)
    if isinstance(codec, DeepJSCC) and codec.config.csi == "snr":
        assert codec.encoder is not None
        assert codec.decoder is not None
        return DeepEnd(codec.encoder, "images", "latent"), DeepEnd(
            codec.decoder, "latent", "images"
        )
    kind = type(codec).__name__
    if isinstance(codec, DeepJSCC):
        kind += f' with csi "{codec.config.csi}"'
    raise UnknownCodecError(
        f'{kind} cannot be exported; CompactJSCC, and DeepJSCC with csi "snr", can'
    )


def full_precision(module: nn.Module) -> nn.Module:
    """Prepare a network for export: float32, on the CPU, for inference."""
    return module.to("cpu", torch.float32).eval()

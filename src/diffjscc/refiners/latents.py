"""Encoding of images as latents of the prior, and decoding."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from diffjscc.data.geometry import PaddedImages
from diffjscc.layers.banding import Bands, band_rows, collect, flow, split
from diffjscc.layers.block_dct import STRIDE
from diffjscc.layers.tiling import blend_tiles, scaled
from diffjscc.progress import reported
from diffjscc.refiners.devices import check_overflow
from diffjscc.refiners.library import ConfigMixin, Encoder, ModelMixin, register_to_config
from diffjscc.refiners.vae import VAE, CompactVAE


class ConditionEncoder(ModelMixin, ConfigMixin):
    """Encoder half of a VAE, for weights with a separate encoder of the condition latent.

    Tensors and arguments are named as in diffusers' `AutoencoderKL`.

    Args:
        in_channels: channels of the images.
        latent_channels: channels of the latent.
        block_out_channels: channels per resolution, from that of the image to that of the latent.
        down_block_types: block types of the encoder.
        layers_per_block: residual blocks per resolution.
        norm_num_groups: groups of each group norm.
        mid_block_add_attention: whether the middle block has attention.
        scaling_factor: factor on latents.
    """

    @register_to_config
    def __init__(
        self,
        *,
        in_channels: int = 3,
        latent_channels: int = 4,
        block_out_channels: tuple[int, ...] = (128, 256, 512, 512),
        down_block_types: tuple[str, ...] = ("DownEncoderBlock2D",) * 4,
        layers_per_block: int = 2,
        norm_num_groups: int = 32,
        mid_block_add_attention: bool = True,
        scaling_factor: float = 0.18215,
    ) -> None:
        super().__init__()
        del scaling_factor  # read from self.config
        self.encoder = Encoder(
            in_channels=in_channels,
            out_channels=latent_channels,
            down_block_types=down_block_types,
            block_out_channels=block_out_channels,
            layers_per_block=layers_per_block,
            norm_num_groups=norm_num_groups,
            mid_block_add_attention=mid_block_add_attention,
        )
        self.quant_conv = nn.Conv2d(2 * latent_channels, 2 * latent_channels, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Encode images [B, 3, H, W] in [-1, 1] as mean and log variance [B, 2C, h, w]."""
        moments: Tensor = self.quant_conv(self.encoder(images))
        return moments


def stride(vae: VAE | ConditionEncoder) -> int:
    """Return the number of pixels per latent position and side."""
    if isinstance(vae, CompactVAE):
        return STRIDE
    return int(2 ** (len(vae.config.block_out_channels) - 1))


@dataclass(frozen=True)
class Posterior:
    """Gaussian posterior of the latents of images, independent per value.

    Attributes:
        mean: scaled latent, float32 [B, C, h, w]; also the Gaussian's mode.
        deviation: standard deviation, of the same shape.
    """

    mean: Tensor
    deviation: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """Compute the sample mean + deviation·noise for unit normal `noise` [B, C, h, w]."""
        return self.mean + self.deviation * noise

    def select(self, rows: list[int]) -> Posterior:
        """Take the posterior of some images."""
        return Posterior(self.mean[rows], self.deviation[rows])


def encode(encoder: VAE | ConditionEncoder, images: Tensor | PaddedImages, tile: int) -> Posterior:
    """Encode images [B, 3, H, W] in [0, 1] whose sides are multiples of the stride.

    Args:
        encoder: a VAE, or the encoder half of one.
        images: on the encoder's device.
        tile: side of a tile in latent positions; see `blend_tiles`. A `CompactVAE` has a limited
            receptive field and needs none: large images are encoded in bands of rows.
    """
    side = stride(encoder)
    padded = PaddedImages(images, 1) if isinstance(images, Tensor) else images
    size = (padded.size[0] // side, padded.size[1] // side)
    if isinstance(encoder, CompactVAE):
        vae = encoder
        features = vae.encoder.encode(
            lambda rows: (2 * padded.rows(rows) - 1).to(vae.dtype),
            side * size[0],
            side * band_rows(size),
        )
        moments: Tensor = vae.quant_conv(features)
    else:
        moments = _encode_tiled(encoder, padded.whole(), size, tile)
    check_overflow(moments, encoder.dtype, "the VAE's encoder")
    mean, log_variance = moments.float().chunk(2, dim=1)
    deviation = torch.exp(log_variance.clamp(-30, 20) / 2)
    scale = encoder.config.scaling_factor
    return Posterior(scale * mean, scale * deviation)


def _encode_tiled(
    encoder: VAE | ConditionEncoder, images: Tensor, size: tuple[int, int], tile: int
) -> Tensor:
    """Compute the posterior's moments by tiles; `size` is that of the latent."""
    side = stride(encoder)

    def network(rows: slice, columns: slice) -> Tensor:
        pixels = images[..., scaled(rows, side), scaled(columns, side)]
        features = encoder.encoder((2 * pixels - 1).to(encoder.dtype))
        moments: Tensor = features if encoder.quant_conv is None else encoder.quant_conv(features)
        return moments

    return blend_tiles(network, size, tile)


def decode(vae: VAE, latent: Tensor, tile: int) -> Tensor:
    """Decode latents [B, C, h, w] to images, float32 [B, 3, H, W] in about [0, 1], not clamped.

    Arguments as for `decode_bands`.
    """
    return collect(decode_bands(vae, latent, tile), stride(vae) * latent.shape[-2])


def decode_bands(vae: VAE, latent: Tensor, tile: int) -> Bands:
    """Decode latents [B, C, h, w] to bands of rows of images, float32 in about [0, 1].

    Args:
        vae: the VAE.
        latent: scaled latents, on the VAE's device.
        tile: side of a tile in latent positions; see `blend_tiles`. A `CompactVAE` has a limited
            receptive field and needs none: large images are decoded in bands of rows.

    Yields:
        Bands [B, 3, r, W], not clamped; of another VAE all rows at once.
    """
    check_overflow(latent, vae.dtype, "the prior")
    unscaled = (latent / vae.config.scaling_factor).to(vae.dtype)
    height, width = latent.shape[-2:]
    band = band_rows((height, width))
    if isinstance(vae, CompactVAE) and band < height:
        parts = (
            unscaled[..., rows, :].contiguous(memory_format=torch.channels_last)
            for rows in reported(split(height, band), "decoding the sampled image")
        )
        bands = flow(vae.decoder.stages(unscaled), parts, height)
    else:
        bands = iter([_decode_tiled(vae, unscaled, tile)])
    for pixels in bands:
        check_overflow(pixels, vae.dtype, "the VAE's decoder")
        yield (pixels.float() + 1).div_(2)


def _decode_tiled(vae: VAE, unscaled: Tensor, tile: int) -> Tensor:
    """Decode by tiles, see `blend_tiles`."""

    def network(rows: slice, columns: slice) -> Tensor:
        (pixels,) = vae.decode(unscaled[..., rows, columns], return_dict=False)
        tile_pixels: Tensor = pixels
        return tile_pixels

    return blend_tiles(network, (unscaled.shape[-2], unscaled.shape[-1]), tile, stride(vae))

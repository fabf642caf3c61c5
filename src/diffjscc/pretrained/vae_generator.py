"""Decoder of a saved VAE as the generator of a generator-prior receiver."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from diffjscc.data.geometry import pad_to_multiple
from diffjscc.pretrained.networks import load_network
from diffjscc.pretrained.pretrained import open_weights
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.latents import decode, encode, stride
from diffjscc.refiners.vae import VAES

TILE = DiffusionConfig().tile


class VAEGenerator(nn.Module):
    """A VAE as an `InvertibleGenerator`: its encoder inverts its decoder.

    In configs: `factory: "diffjscc.pretrained.vae_generator:VAEGenerator"`. Its range is that of
    photographs that the VAE can decode, wider than that of a StyleGAN2.

    Args:
        weights: bundled name, folder or hub id of weights with a VAE.
    """

    def __init__(self, weights: str | Path = "compact") -> None:
        super().__init__()
        network = load_network(open_weights(weights).folder, "vae", lambda x: x.float())
        assert isinstance(network, VAES)
        self.vae = network.eval().requires_grad_(False)

    def latents(self, size: tuple[int, int], batch: int) -> Tensor:
        """Return latents of grey images."""
        return self.invert(torch.full((batch, 3, *size), 0.5))

    def invert(self, images: Tensor) -> Tensor:
        """Encode images [B, 3, H, W]."""
        device = next(self.vae.parameters()).device
        padded = pad_to_multiple(images.to(device), stride(self.vae))
        return encode(self.vae, padded, TILE).mean

    def forward(self, latents: Tensor) -> Tensor:
        """Decode latents to images whose sides are multiples of the VAE's stride."""
        return decode(self.vae, latents, TILE)

"""DDNM from saved weights: their codec on the pooled image, their prior alone."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import torch

from diffjscc.codecs.pooled import PooledCodec
from diffjscc.pretrained.codec import read_codec
from diffjscc.pretrained.diffjscc import choose_device, parse_rate
from diffjscc.pretrained.pretrained import find_weights
from diffjscc.pretrained.receiver import load_ddnm
from diffjscc.pretrained.storage import WeightsError, has_refiner, weights_hash
from diffjscc.refiners.ddnm import DDNMConfig
from diffjscc.scheme import Scheme


@dataclass(frozen=True)
class DDNMScheme(Scheme):
    """DDNM with saved weights; see `PooledCodec` and `refiners.ddnm.DDNM`.

    Attributes:
        weights: where the weights came from, and the start of the hash of those that were loaded.
    """

    weights: str = ""


def ddnm_from_pretrained(
    source: str | Path = "compact",
    rate: str | float | Fraction | None = None,
    *,
    config: DDNMConfig | None = None,
    device: str = "auto",
    dtype: torch.dtype | None = None,
    offload: bool = False,
) -> DDNMScheme:
    """Load weights as DDNM uses them: without their control module.

    Args:
        source: see `DiffJSCC.from_pretrained`; the weights must have a diffusion receiver.
        rate: nominal rate in cpp, such as "1/128": a quarter of one that the codec offers, with
            blocks of 2x2. The lowest where it is None.
        config: how to paint; by default as published.
        device: "auto", "cpu", "cuda", "cuda:1", …
        dtype: of the prior's weights; by default bfloat16 on CUDA and float32 elsewhere.
        offload: keep the prior on the CPU while it is not needed.

    Raises:
        ValueError: unknown or damaged weights, or without a prior; a rate that they do not offer;
            no such device.
    """
    painting = config or DDNMConfig()
    computing, folder = choose_device(device), find_weights(source)
    if not has_refiner(folder):
        raise WeightsError(f'weights "{source}" have no prior, which DDNM samples; take others')
    codec = PooledCodec(read_codec(folder, device=computing), painting.factor)
    chosen = codec.rates[0] if rate is None else parse_rate(rate)
    if chosen not in codec.rates:
        offered = ", ".join(map(str, codec.rates))
        raise ValueError(
            f'rate {chosen} is not one of {offered} (weights "{source}", images pooled by '
            f"{painting.factor})"
        )
    loaded = ["codec", "unet", "text_encoder", "vae"]
    return DDNMScheme(
        codec=codec,
        rate=chosen,
        refiner=load_ddnm(folder, painting, computing, dtype, offload),
        weights=f"{Path(source).name}@{weights_hash(folder, loaded)}",
    )

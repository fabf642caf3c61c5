"""DDNM from saved weights: their codec on the pooled image, and their prior."""

from __future__ import annotations

from pathlib import Path

from diffjscc.codecs.pooled import PooledCodec
from diffjscc.pretrained.codec import read_codec
from diffjscc.pretrained.diffjscc import choose_device
from diffjscc.pretrained.pretrained import Weights, open_weights
from diffjscc.pretrained.receiver import load_ddnm
from diffjscc.pretrained.storage import WeightsError
from diffjscc.rate import Rate
from diffjscc.refiners.ddnm import DDNMConfig
from diffjscc.refiners.devices import Precision
from diffjscc.scheme import Scheme


def ddnm_from_pretrained(
    source: str | Path | Weights = "compact",
    rate: Rate | None = None,
    *,
    config: DDNMConfig | None = None,
    device: str = "auto",
    dtype: Precision = None,
    offload: bool = False,
) -> Scheme:
    """Load weights for DDNM: without their control module.

    Args:
        source: see `DiffJSCC.from_pretrained`; the weights must have a diffusion receiver.
        rate: nominal rate in cpp, such as "1/128": a quarter of one that the codec offers, with
            blocks of 2x2. The lowest where it is None.
        config: settings of the sampling; the published ones by default.
        device: "auto", "cpu", "cuda", "cuda:1", …
        dtype: of the prior's weights; by default bfloat16 on CUDA and float32 elsewhere.
        offload: keep the prior on the CPU while it is not needed.

    Raises:
        ValueError: unknown or damaged weights, or without a prior; a rate that they do not offer;
            no such device.
    """
    settings, computing = config or DDNMConfig(), choose_device(device)
    weights = source if isinstance(source, Weights) else open_weights(source)
    if not weights.has_refiner:
        raise WeightsError(
            f'weights "{weights.source}" have no prior, which DDNM samples; take others'
        )
    codec = PooledCodec(read_codec(weights.folder, device=computing), settings.factor)
    return Scheme(
        codec,
        codec.rates[0] if rate is None else rate,
        load_ddnm(weights.folder, settings, computing, dtype, offload),
        weights.provenance(["codec", "unet", "text_encoder", "vae"]),
    )

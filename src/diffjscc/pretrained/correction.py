"""Source priors of iterative source error correction, from saved weights."""

from __future__ import annotations

from pathlib import Path

import torch

from diffjscc.pretrained.networks import DENOISER, load_network
from diffjscc.pretrained.pretrained import open_weights
from diffjscc.pretrained.receiver import load_ddnm
from diffjscc.pretrained.storage import WeightsError
from diffjscc.refiners.bias_free import BiasFreeDenoiser
from diffjscc.refiners.prior_denoiser import PriorDenoiser
from diffjscc.refiners.source_correction import SourcePrior


def load_source_prior(
    weights: str | Path, denoiser: str | Path | None, level: float, device: torch.device
) -> tuple[SourcePrior, str]:
    """Load a denoiser, or the diffusion prior of a scheme's weights where there is none.

    Args:
        weights: of the scheme, see `open_weights`.
        denoiser: weights that `train denoiser` made, or None.
        level: noise level of a diffusion prior, see `PriorDenoiser`.
        device: where to compute.

    Returns:
        The prior, and its provenance.

    Raises:
        WeightsError: unknown or damaged weights, or without a prior.
    """
    if denoiser is not None:
        found = open_weights(denoiser)
        if not (found.folder / DENOISER).is_dir():
            raise WeightsError(
                f"{denoiser} holds no {DENOISER}/; make one with `diffjscc train denoiser`"
            )
        network = load_network(found.folder, DENOISER, lambda tensor: tensor.to(device).float())
        assert isinstance(network, BiasFreeDenoiser)
        return network.eval().requires_grad_(False), found.provenance([DENOISER])
    scheme = open_weights(weights)
    if not scheme.has_refiner:
        raise WeightsError(
            f'weights "{weights}" have no prior, which source error correction needs; give a '
            "denoiser of `diffjscc train denoiser` (--denoiser FOLDER)"
        )
    prior = PriorDenoiser(load_ddnm(scheme.folder, device=device, dtype=torch.float32), level)
    return prior, f"{scheme.provenance(['unet', 'text_encoder', 'vae'])}, level {level:g}"

"""CPU seconds of one step of the bundled receiver's denoiser, beside diffusers' own networks.

    python benchmarks/unet.py [--quick] [-o unet.json]

A step of a 768x512 image, with control guidance: the noise with control and the prior's alone.
The peer computes them as a pipeline does: ControlNet, UNet with its residuals, UNet without.
"""

from __future__ import annotations

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor

from diffjscc import DiffJSCC
from figures import Figure, Figures, cpu_seconds, main

GUIDANCE = 2.5
SHARED = (
    *("in_channels", "block_out_channels", "down_block_types", "mid_block_type"),
    *("layers_per_block", "attention_head_dim", "norm_num_groups"),
)


@torch.no_grad()
def measure(quick: bool) -> Figures:
    """Time both in one process."""
    torch.manual_seed(0)
    denoiser = DiffJSCC.from_pretrained("compact", device="cpu").refiner.denoiser
    unet = denoiser.unet
    plain = UNet2DConditionModel.from_config(unet.config).eval()
    control = ControlNetModel(
        **{name: unet.config[name] for name in SHARED},
        conditioning_embedding_out_channels=(16,),
        conditioning_channels=16,
    ).eval()
    width = unet.config.block_out_channels[0]
    control.controlnet_cond_embedding = torch.nn.Conv2d(16, width, 3, padding=1)
    z, condition, t = torch.randn(1, 16, 32, 48), torch.randn(1, 16, 32, 48), torch.tensor([200])
    snr_db = torch.tensor([1.0])

    def ours() -> Tensor:
        return denoiser(z, t, condition, snr_db, None, control_scale=1.0, guidance_scale=GUIDANCE)

    def theirs() -> Tensor:
        skips, middle = control(z, t, None, condition, return_dict=False)
        (controlled,) = plain(
            z,
            t,
            None,
            down_block_additional_residuals=skips,
            mid_block_additional_residual=middle,
            return_dict=False,
        )
        (prior,) = plain(z, t, None, return_dict=False)
        return prior + GUIDANCE * (controlled - prior)

    repeats = 5 if quick else 20
    return {
        "guided step": Figure(cpu_seconds(ours, repeats), "CPU s"),
        "peer: guided step": Figure(cpu_seconds(theirs, repeats), "CPU s"),
    }


if __name__ == "__main__":
    main(__doc__, measure)

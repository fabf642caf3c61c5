"""One step and the memory of the paper's networks on the CPU, beside diffusers' own.

    python benchmarks/full_size.py [--quick] [-o full_size.json]

Networks of Stable Diffusion 2.1's size with its control module, 1.2 billion parameters, all of one
value, which does not change the speed; a latent of 64x96, of 768x512 pixels. The peer is
diffusers' ControlNet and UNet on the same tensors. Stored as float16, the same step has a process
of its own, for its peak. The machine must have 8 GiB to spare.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from torch import Tensor, nn

from diffjscc.refiners.control import ControlModule, Denoiser
from diffjscc.refiners.devices import Placement
from diffjscc.refiners.widening import WeightStorage
from figures import Figure, Figures, main

NEEDED_KB = 8 << 20
SIZE = {"block_out_channels": (320, 640, 1280, 1280), "attention_head_dim": (5, 10, 20, 20)}
TEXT = {"cross_attention_dim": 1024, "use_linear_projection": True}
CPU = Placement(torch.device("cpu"))


def filled(network: Callable[[], nn.Module], dtype: torch.dtype) -> nn.Module:
    """Make a network whose weights all have one value."""
    torch.set_default_dtype(dtype)
    with torch.device("meta"):
        made = network()
    torch.set_default_dtype(torch.float32)
    made.to_empty(device="cpu").eval().requires_grad_(False)
    for parameter in made.parameters():
        parameter.fill_(0.01)
    return made


def make_denoiser(dtype: torch.dtype) -> Denoiser:
    unet = filled(lambda: UNet2DConditionModel(**SIZE, **TEXT), dtype)
    control = filled(ControlModule, dtype)
    assert isinstance(unet, UNet2DConditionModel)
    assert isinstance(control, ControlModule)
    return Denoiser(unet, control)


def inputs() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Make latent, condition latent, time step and text features."""
    torch.manual_seed(0)
    z, condition = torch.randn(2, 1, 4, 64, 96)
    return z, condition, torch.tensor([500]), torch.randn(1, 77, 1024)


def seconds(step: Callable[[], object]) -> float:
    start = time.process_time()
    step()
    return time.process_time() - start


def peak_mib() -> float:
    status = Path("/proc/self/status").read_text().split()
    return int(status[status.index("VmHWM:") + 1]) / 1024


@torch.no_grad()
def stored() -> dict[str, float]:
    """Time the step with weights stored as float16."""
    denoiser = make_denoiser(torch.float16)
    CPU.settle([denoiser.unet, denoiser.control], WeightStorage.FLOAT16)
    z, condition, t, text = inputs()
    step = seconds(lambda: denoiser(z, t, condition, torch.tensor([4.0]), text))
    return {"seconds": step, "peak": peak_mib()}


@torch.no_grad()
def measure(quick: bool) -> Figures:
    """Time both in turns, in one process; nothing if quick, or where memory is short."""
    available = [
        int(line.split()[1])
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable")
    ]
    if quick or available[0] < NEEDED_KB:
        return {}
    denoiser = make_denoiser(torch.float32)
    CPU.settle([denoiser.unet, denoiser.control], None)
    unet, control = denoiser.unet, denoiser.control
    with torch.device("meta"):
        plain = ControlNetModel(**SIZE, **TEXT)
        plain.controlnet_cond_embedding = nn.Conv2d(4, 320, 3, padding=1)
    # One of its tensors is another: the bias of the hint, which ours lacks.
    own = control.state_dict() | {"controlnet_cond_embedding.bias": torch.zeros(320)}
    plain.load_state_dict(own, strict=False, assign=True)
    plain.eval()
    z, condition, t, text = inputs()

    def theirs() -> None:
        skips, middle = plain(z, t, text, condition, return_dict=False)
        unet(
            z,
            t,
            text,
            down_block_additional_residuals=skips,
            mid_block_additional_residual=middle,
            return_dict=False,
        )

    def ours() -> None:
        denoiser(z, t, condition, torch.tensor([4.0]), text)

    rounds = [(seconds(theirs), seconds(ours)) for _ in range(2)]
    peer, step = map(min, zip(*rounds, strict=True))
    child = subprocess.run(
        [sys.executable, __file__, "--stored"], stdout=subprocess.PIPE, text=True, check=True
    )
    narrow = json.loads(child.stdout.splitlines()[-1])
    return {
        "step": Figure(step, "CPU s"),
        "peer: step": Figure(peer, "CPU s"),
        "peak": Figure(peak_mib(), "MiB"),
        "step, stored as float16": Figure(narrow["seconds"], "CPU s"),
        "peak, stored as float16": Figure(narrow["peak"], "MiB"),
    }


if __name__ == "__main__":
    if sys.argv[1:] == ["--stored"]:
        print(json.dumps(stored()))
    else:
        main(__doc__, measure)

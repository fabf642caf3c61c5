"""One step and the memory of the paper's networks on the CPU, beside diffusers' own.

    python benchmarks/full_size.py [--quick] [-o full_size.json]

Networks of Stable Diffusion 2.1's size with its control module, 1.2 billion parameters, all of one
value, which does not change the speed; a latent of 64x96, of 768x512 pixels. The peer is
diffusers' ControlNet and UNet as they are. Each step has a process of its own, for its peak. The
machine must have 8 GiB to spare.
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
from diffjscc.refiners.devices import Placement, Precision
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


def ours(dtype: torch.dtype, precision: Precision) -> Callable[[], object]:
    """Prepare the step of this package, with weights stored as `dtype`."""
    unet = filled(lambda: UNet2DConditionModel(**SIZE, **TEXT), dtype)
    control = filled(ControlModule, dtype)
    assert isinstance(unet, UNet2DConditionModel)
    assert isinstance(control, ControlModule)
    CPU.settle([unet, control], precision)
    denoiser, (z, condition, t, text) = Denoiser(unet, control), inputs()
    return lambda: denoiser(z, t, condition, torch.tensor([4.0]), text)


def theirs() -> Callable[[], object]:
    """Prepare diffusers' step, in its own layout of weights; the hint is a latent here."""
    unet = filled(lambda: UNet2DConditionModel(**SIZE, **TEXT), torch.float32)
    control = filled(lambda: with_latent_hint(ControlNetModel(**SIZE, **TEXT)), torch.float32)
    z, condition, t, text = inputs()

    def step() -> None:
        skips, middle = control(z, t, text, condition, return_dict=False)
        unet(
            z,
            t,
            text,
            down_block_additional_residuals=skips,
            mid_block_additional_residual=middle,
            return_dict=False,
        )

    return step


def with_latent_hint(control: ControlNetModel) -> ControlNetModel:
    """Replace the network that reduces a hint of full size by one convolution."""
    control.controlnet_cond_embedding = nn.Conv2d(4, SIZE["block_out_channels"][0], 3, padding=1)
    return control


STEPS: dict[str, Callable[[], Callable[[], object]]] = {
    "step": lambda: ours(torch.float32, None),
    "peer: step": theirs,
    "step, stored as float16": lambda: ours(torch.float16, WeightStorage.FLOAT16),
}


@torch.no_grad()
def run(name: str) -> dict[str, float]:
    """Take the better time of two steps, and the peak of the process."""
    step = STEPS[name]()
    return {"seconds": min(seconds(step) for _ in range(2)), "peak": peak_mib()}


def measure(quick: bool) -> Figures:
    """Run each step in a process of its own; none if quick, or where memory is short."""
    available = [
        int(line.split()[1])
        for line in Path("/proc/meminfo").read_text().splitlines()
        if line.startswith("MemAvailable")
    ]
    if quick or available[0] < NEEDED_KB:
        return {}
    figures = {}
    for name in STEPS:
        child = subprocess.run(
            [sys.executable, __file__, "--only", name],
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        one = json.loads(child.stdout.splitlines()[-1])
        figures[name] = Figure(one["seconds"], "CPU s")
        figures[name.replace("step", "peak")] = Figure(one["peak"], "MiB")
    return figures


if __name__ == "__main__":
    if sys.argv[1:2] == ["--only"]:
        print(json.dumps(run(sys.argv[2])))
    else:
        main(__doc__, measure)

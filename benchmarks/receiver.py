"""Seconds and memory in which the receiver gives a 768x512 image, from the received symbols on.

    python benchmarks/receiver.py [--cases bundled full-size …] [-o receiver.json]

Cases, each in a process of its own, for its own peak:

    bundled     the bundled weights as they are used by default
    full-size   the paper's networks, 1.7 billion parameters: one step. On a CPU it needs 12 GiB
    released    them on a GPU as the released code runs them: 100 steps, float32, plain attention
    ours        the same 100 steps in this package's default precision and layout, compiled

The paper's networks have random weights: they do not change the speed. What a machine cannot do
is left out.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextConfig, CLIPTextModel

from diffjscc import AWGN, Scheme
from diffjscc.pretrained.build import build_codec
from diffjscc.pretrained.pretrained import has_refiner, open_weights
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.control import ControlModule
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.sampling import SamplerConfig
from diffjscc.refiners.text import TextFeatures
from diffjscc.schemes.loader import load_scheme
from diffjscc.schemes.options import RefinerOptions
from figures import Figure, Figures

CASES = ("bundled", "full-size", "released", "ours")
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
REPEATS = 3


def full_size(steps: int) -> ControlledDiffusion:
    """The paper's receiver with random weights."""
    with DEVICE:
        unet = UNet2DConditionModel(
            block_out_channels=(320, 640, 1280, 1280),
            attention_head_dim=(5, 10, 20, 20),
            cross_attention_dim=1024,
            use_linear_projection=True,
        )
        vae = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            layers_per_block=2,
        )
        text_encoder = CLIPTextModel(
            CLIPTextConfig(
                hidden_size=1024,
                intermediate_size=4096,
                num_hidden_layers=23,
                num_attention_heads=16,
                hidden_act="gelu",
            )
        )
        control = ControlModule().requires_grad_(False)
    config = DiffusionConfig(SamplerConfig("ddpm", steps))
    text = TextFeatures(text_encoder, None)
    return ControlledDiffusion(vae, unet, control, text=text, config=config)


def refiner_of(case: str) -> ControlledDiffusion:
    """The paper's receiver, as the case has it."""
    if case == "full-size":
        return full_size(1).to(DEVICE)
    if case == "released":
        refiner = full_size(100)
        for network in (refiner.denoiser.unet, refiner.denoiser.control, refiner.vae):
            network.set_attn_processor(AttnProcessor())
        return refiner
    refiner = full_size(100).to(DEVICE)
    refiner.denoiser.compile(mode="reduce-overhead")  # kernels fused, launched as CUDA graphs
    return refiner


def scheme_of(case: str) -> Scheme:
    """What to time, at R = 1/128."""
    if case == "bundled":
        return load_scheme("compact", "1/128", "diffusion", RefinerOptions(), str(DEVICE))
    with DEVICE:
        codec = build_codec({"class": "DeepJSCC"}).eval().requires_grad_(False)
    return Scheme(codec, codec.rates[0], refiner_of(case))


def obstacle(case: str) -> str | None:
    """Why a case cannot be timed here, if it cannot."""
    if case == "bundled" and not has_refiner(open_weights("compact").folder):
        return "the bundled weights have no diffusion receiver"
    if case in ("released", "ours") and DEVICE.type != "cuda":
        return "there is no GPU"
    return None


@torch.no_grad()
def time_case(case: str) -> dict[str, str | int | float]:
    """Median seconds per image, the codec's decoder included, and peak memory in MiB."""
    torch.manual_seed(0)
    scheme = scheme_of(case)
    received = scheme.send(torch.rand(1, 3, 512, 768, device=DEVICE), AWGN(1.0))
    # The full size on a CPU takes minutes, which no warming up changes.
    repeats, warm_ups = (1, 0) if case == "full-size" and DEVICE.type == "cpu" else (REPEATS, 1)
    seconds, busy = [], []
    for _ in range(warm_ups + repeats):
        start, cpu = time.perf_counter(), time.process_time()
        scheme.decode(received).image.cpu()  # which waits for a GPU to finish
        seconds.append(time.perf_counter() - start)
        busy.append(time.process_time() - cpu)
    refiner, codec = scheme.refiner, scheme.codec
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result: dict[str, str | int | float] = {
        "seconds": round(sorted(seconds[warm_ups:])[repeats // 2], 3),
        "cpu_seconds": round(min(busy[warm_ups:]), 3),
        "peak_mib": round(peak / (2**20 if sys.platform == "darwin" else 2**10)),
    }
    if DEVICE.type == "cuda":
        result["gpu_peak_mib"] = round(torch.cuda.max_memory_allocated() / 2**20)
    if isinstance(refiner, ControlledDiffusion):
        networks = [codec, refiner.vae, refiner.denoiser, refiner.text and refiner.text.encoder]
        modules = [network for network in networks if isinstance(network, torch.nn.Module)]
        result |= {
            "parameters": sum(p.numel() for module in modules for p in module.parameters()),
            "dtype": str(refiner.denoiser.unet.dtype).removeprefix("torch."),
            "sampler": refiner.config.sampler.name,
            "steps": refiner.config.sampler.num_inference_steps,
            "start": refiner.config.sampler.start,
        }
    return result


def run_case(case: str) -> dict[str, str | int | float]:
    """Time a case in a process of its own."""
    child = [sys.executable, __file__, "--child", case]
    environment = os.environ | {"OMP_WAIT_POLICY": "PASSIVE"}
    output = subprocess.run(child, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    result: dict[str, str | int | float] = json.loads(output.stdout.splitlines()[-1])
    return result


def measure(quick: bool) -> Figures:
    """Time the bundled receiver, and on a GPU the paper's unless quick."""
    cases = [case for case in ("bundled", "released", "ours") if obstacle(case) is None]
    figures: Figures = {}
    for case in cases[: 1 if quick else None]:
        result = run_case(case)
        if DEVICE.type == "cuda":
            figures[f"{case}, time"] = Figure(float(result["seconds"]), "s")
            figures[f"{case}, peak on the GPU"] = Figure(float(result["gpu_peak_mib"]), "MiB")
        else:
            figures[f"{case}, time"] = Figure(float(result["cpu_seconds"]), "CPU s")
        figures[f"{case}, peak"] = Figure(float(result["peak_mib"]), "MiB")
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--child", choices=CASES, help=argparse.SUPPRESS)
    parser.add_argument("-o", "--output", type=Path)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(time_case(arguments.child)))
        return
    results = {}
    for case in arguments.cases:
        reason = obstacle(case)
        if reason is not None:
            results[case] = {"left_out": reason}
            continue
        results[case] = run_case(case)
    report = {
        "image": "768x512",
        "device": torch.cuda.get_device_name() if DEVICE.type == "cuda" else "cpu",
        "threads": torch.get_num_threads(),
        "machine": platform.machine(),
        "torch": str(torch.__version__),
        "results": results,
    }
    seconds = {case: figures.get("seconds") for case, figures in results.items()}
    if seconds.get("released") and seconds.get("ours"):
        report["ratio"] = round(seconds["released"] / seconds["ours"], 2)
    print(json.dumps(report, indent=1))
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()

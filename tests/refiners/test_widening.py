"""Weights stored as float16 that compute in float32, layer by layer."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

from diffjscc import AWGN, DiffJSCC
from diffjscc.cli import app
from diffjscc.data.images import save_image
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.widening import LEAST, WeightStorage
from toy_refiner import networks


def load(dtype: torch.dtype | WeightStorage) -> tuple[DiffJSCC, ControlledDiffusion]:
    scheme = DiffJSCC.from_pretrained("compact", device="cpu", dtype=dtype)
    assert isinstance(scheme.refiner, ControlledDiffusion)
    return scheme, scheme.refiner


def parameters(refiner: ControlledDiffusion) -> Iterator[nn.Parameter]:
    for network in networks(refiner).values():
        yield from network.parameters()


def transmit(scheme: DiffJSCC) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(1, 3, 64, 64, generator=generator)
    return scheme(image, AWGN(4.0), generator=generator).image


def test_stored_weights_compute_in_float32_what_the_rounded_ones_do() -> None:
    rounded, refiner = load(torch.float32)
    whole = sum(p.nbytes for p in parameters(refiner))
    for parameter in parameters(refiner):
        if parameter.ndim > 1 and parameter.numel() >= LEAST:
            parameter.data = parameter.data.half().float()
    stored, narrow = load(WeightStorage.FLOAT16)
    assert sum(p.nbytes for p in parameters(narrow)) < 0.6 * whole
    assert narrow.denoiser.unet.dtype == narrow.denoiser.control.dtype == torch.float32
    assert narrow.vae.dtype == torch.float32
    torch.testing.assert_close(transmit(stored), transmit(rounded), rtol=0, atol=0)
    # All is as narrow after it as before.
    assert sum(p.nbytes for p in parameters(narrow)) < 0.6 * whole


def test_a_layer_that_fails_is_narrow_again_and_precision_can_be_chosen_anew() -> None:
    _, refiner = load(WeightStorage.FLOAT16)
    unet = refiner.denoiser.unet
    layer = next(
        one for one in unet.modules() if isinstance(one, nn.Conv2d) and one.weight.numel() >= LEAST
    )
    with pytest.raises(RuntimeError):
        layer(torch.zeros(1, 1, 4, 4))
    assert layer.weight.dtype == torch.float16
    refiner.to("cpu", torch.float32)
    assert {p.dtype for p in parameters(refiner)} == {torch.float32}
    assert layer(torch.zeros(1, layer.in_channels, 4, 4)).dtype == torch.float32
    assert layer.weight.dtype == torch.float32


def test_weights_that_float16_cannot_hold_are_refused() -> None:
    _, refiner = load(torch.float32)
    largest = max(refiner.denoiser.unet.parameters(), key=torch.numel)
    largest.data[0] = 1e5
    with pytest.raises(ValueError, match=r"beyond 65504.*use --dtype float32"):
        refiner.to("cpu", WeightStorage.FLOAT16)


def test_transmit_offers_the_storage(tmp_path: Path) -> None:
    save_image(torch.rand(3, 64, 64), tmp_path / "image.png")
    words = ["transmit", str(tmp_path / "image.png"), "--dtype", "float16-storage"]
    done = CliRunner().invoke(app, [*words, "--steps", "2", "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output

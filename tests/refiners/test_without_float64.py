"""Everything that computes on a device does so without float64, which Apple's GPUs lack."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from diffjscc import AWGN, DiffJSCC, Rayleigh
from diffjscc.evaluation.images import SourceImage
from diffjscc.evaluation.transmission import Link
from diffjscc.metrics.evaluator import MetricEvaluator
from diffjscc.pretrained.ddnm import ddnm_from_pretrained
from diffjscc.protocols import Channel
from diffjscc.refiners.ddnm import DDNMConfig
from diffjscc.refiners.sampling import SamplerConfig, paper_scheduler, signal_powers
from diffjscc.scheme import Scheme
from diffjscc.training.noise import NoiseError
from pretended_device import DEVICE, Pretending


def test_the_pretended_device_has_no_float64_and_is_not_the_cpu() -> None:
    with Pretending():
        there = torch.ones(2, device=DEVICE)
        assert there.device == DEVICE
        assert float((there + 1).sum()) == 4
        with pytest.raises(TypeError, match="float64"):
            there.double()
        with pytest.raises(RuntimeError, match="on the CPU"):
            there + torch.ones(2)


def diffjscc() -> Scheme:
    return DiffJSCC.from_pretrained(device="cpu")


def ddnm() -> Scheme:
    config = DDNMConfig(sampler=SamplerConfig("ddpm", 2))
    return ddnm_from_pretrained(config=config, device="cpu")


@pytest.mark.parametrize(
    ("make", "channel"), [(diffjscc, AWGN(1.0)), (diffjscc, Rayleigh(-9.0)), (ddnm, AWGN(3.0))]
)
def test_a_scheme_gives_the_same_images(make: Callable[[], Scheme], channel: Channel) -> None:
    torch.manual_seed(0)
    image, scheme = torch.rand(1, 3, 48, 64), make()
    with torch.no_grad():
        expected = scheme(image, channel, torch.Generator().manual_seed(1)).image
        with Pretending():
            scheme.to(DEVICE)
            found = scheme(image.double(), channel, torch.Generator().manual_seed(1)).image
            assert found.device == DEVICE
            assert torch.equal(found.cpu(), expected)


def test_a_link_measures_there() -> None:
    torch.manual_seed(0)
    source = SourceImage("noise", (torch.rand(3, 192, 192) * 255).round() / 255)
    scheme = DiffJSCC.from_pretrained(refiner=None, device="cpu")

    def sent(device: torch.device) -> dict[str, float | None]:
        evaluator, _ = MetricEvaluator.load(["psnr", "ms_ssim", "lpips", "niqe"], device)
        link = Link("codec", scheme, AWGN(5.0), "awgn", 5.0, 0, evaluator, device)
        return link.transmit([source], [0])[0].record.metrics

    expected = sent(torch.device("cpu"))
    with Pretending():
        scheme.to(DEVICE)
        # Networks take the memory layout that is fast on a device: other last digits.
        assert sent(DEVICE) == pytest.approx(expected, rel=1e-5)


def test_the_denoising_objective_is_taken_there() -> None:
    class Zero(torch.nn.Module):
        def forward(self, z_t: Tensor, t: Tensor) -> Tensor:
            return z_t * 0

    powers = signal_powers(paper_scheduler())
    assert powers.dtype == torch.float64
    noise = torch.randn(2, 4, 8, 8)
    with Pretending():
        objective = NoiseError(Zero(), powers).to(DEVICE)
        t = torch.tensor([3, 700], device=DEVICE)
        errors = objective(torch.rand_like(noise).to(DEVICE), noise.to(DEVICE), t).cpu()
    torch.testing.assert_close(errors, noise.square().mean(dim=(1, 2, 3)))

"""Devices by name, GPUs older than the build or without bfloat16, and the limits of float16."""

import pytest
import torch

from diffjscc.memory import memory_error
from diffjscc.pretrained.diffjscc import choose_device
from diffjscc.refiners import devices
from diffjscc.refiners.devices import Placement, check_build
from diffjscc.refiners.sampling import SamplerConfig
from toy_refiner import make_refiner, receive

BUILT = ["sm_75", "sm_80", "sm_86", "sm_90a", "compute_90"]
CUDA = torch.device("cuda", 0)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: BUILT)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla")


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(
    ("capability", "supported"),
    [
        ((3, 7), False),  # no code for it
        ((7, 0), False),  # the code of a later revision
        ((7, 5), True),
        ((8, 9), True),  # the code of an earlier revision of its generation
        ((12, 0), True),  # intermediate code of an earlier generation
    ],
)
def test_a_gpu_must_be_of_the_builds_generations(
    capability: tuple[int, int], supported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    if supported:
        check_build(CUDA)
    else:
        major, minor = capability
        with pytest.raises(ValueError, match=f"capability {major}.{minor}. is not supported") as e:
            check_build(CUDA)
        assert "sm_75" in str(e.value)
        assert "--device cpu" in str(e.value)


@pytest.mark.usefixtures("gpu")
def test_bfloat16_is_for_gpus_that_have_it(monkeypatch: pytest.MonkeyPatch) -> None:
    placement = Placement(CUDA)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    assert placement.precision(None) == torch.bfloat16
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    assert placement.precision(None) == torch.float32
    assert placement.precision(torch.float16) == torch.float16
    with pytest.raises(ValueError, match="does not compute with bfloat16; use --dtype float16"):
        placement.precision(torch.bfloat16)
    assert Placement(torch.device("cpu")).precision(torch.bfloat16) == torch.bfloat16


@pytest.mark.parametrize(
    "name", ["meta", "cuda:-1", "cpu:x", "vulkan", "hpu", "fpga", "", "GPU", "privateuseone"]
)
def test_other_names_are_no_devices(name: str) -> None:
    with pytest.raises(ValueError, match="is unknown; give one of cpu, cuda, mps, xpu or auto"):
        choose_device(name)


def test_a_number_beyond_the_devices_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ValueError, match="has 2, cuda:0 to cuda:1"):
        choose_device("cuda:99")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match="no cuda device; use --device cpu or auto"):
        choose_device("cuda:99")
    assert choose_device("auto") == choose_device("cpu:0") == torch.device("cpu")


def test_an_overflow_of_float16_is_named() -> None:
    refiner = make_refiner(sampler=SamplerConfig("ddim", 2)).to("cpu", torch.float16)
    with torch.no_grad():
        refiner.vae.decoder.conv_out.bias.fill_(torch.inf)
    with pytest.raises(ValueError, match=r"decoder overflowed in float16.* --dtype float32"):
        refiner.refine(torch.rand(1, 3, 32, 32), receive([6.0]))


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"), "--offload"),
        (RuntimeError("MPS backend out of memory (MPS allocated: 2 GB)"), "--device cpu"),
        (MemoryError(), "smaller images"),
    ],
)
def test_too_little_memory_is_said_with_the_way_out(error: Exception, word: str) -> None:
    assert word in str(memory_error(error))


def test_the_allocators_own_error_is_known() -> None:
    with pytest.raises(RuntimeError) as error:
        torch.empty(10**15)
    assert "memory of this machine is too small" in str(memory_error(error.value))
    assert memory_error(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None


def test_the_layout_is_the_one_that_convolutions_are_fast_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    network = torch.nn.Conv2d(8, 8, 3)
    for largest, layout in ((1_000, torch.channels_last), (100, torch.contiguous_format)):
        monkeypatch.setattr(devices, "LARGE_NETWORK", largest)
        Placement(torch.device("cpu")).settle([network], None)
        assert network.weight.is_contiguous(memory_format=layout)

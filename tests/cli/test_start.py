"""Commands import no library that their run does not need."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

# Each takes as long to import as a good part of torch.
HEAVY = (
    "accelerate",
    "gradio",
    "matplotlib",
    "onnx",
    "onnxruntime",
    "pandas",
    "requests",
    "scipy.integrate",
    "scipy.signal",
    "scipy.stats",
    "sympy",
    "tensorboard",
    "torch._dynamo",
    "torch._inductor",
    "torch.fx.experimental.symbolic_shapes",
    "transformers",
)
ONLY_WITH_A_RECEIVER = ("diffusers", "huggingface_hub", "scipy")


def output_of(script: str, *arguments: object) -> str:
    """What a new process prints that runs a script."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip().splitlines()[-1]


@pytest.mark.parametrize(
    ("refiner", "refused"), [("none", HEAVY + ONLY_WITH_A_RECEIVER), ("diffusion", HEAVY)]
)
def test_transmitting_an_image_imports_nothing_beside(
    refiner: str, refused: tuple[str, ...], tmp_path: Path
) -> None:
    levels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    Image.fromarray(levels).save(tmp_path / "a.png")
    script = (
        "import sys; from diffjscc.cli import app;"
        "code = app(sys.argv[1:], standalone_mode=False);"
        f"print(code or 0, [name for name in {refused} if name in sys.modules])"
    )
    arguments = ["transmit", tmp_path / "a.png", "--refiner", refiner, "-o", tmp_path / "out"]
    assert output_of(script, *arguments) == "0 []"


def test_loading_the_bundled_weights_imports_nothing_beside() -> None:
    script = (
        "import sys; from diffjscc import DiffJSCC; DiffJSCC.from_pretrained('compact');"
        f"print([name for name in {HEAVY} if name in sys.modules])"
    )
    assert output_of(script) == "[]"


def test_what_diffusers_put_off_is_there_once_it_is_used() -> None:
    """Its classes are the same, its packages whole, and names of other libraries the real ones."""
    script = """
import diffjscc.refiners.library as library
import sys
assert "transformers" not in sys.modules
import diffusers
import diffusers.loaders.lora_base as lora
import diffusers.models.unets as unets
assert unets.UNet2DModel.__module__ == "diffusers.models.unets.unet_2d"
assert diffusers.UNet2DConditionModel is library.UNet2DConditionModel
assert not isinstance(3, lora.PreTrainedModel) and "transformers" in sys.modules
from transformers import CLIPTextModel
assert issubclass(CLIPTextModel, lora.PreTrainedModel)
class Own(lora.PreTrainedModel): ...
assert Own.__mro__[1].__name__ == "PreTrainedModel"
scheduler = diffusers.LMSDiscreteScheduler()
scheduler.set_timesteps(4)
assert scheduler.get_lms_coefficient(2, 3, 1) > 0  # by scipy.integrate
import diffusers.utils.import_utils as imports
assert "diffusers" in imports._package_map["diffusers"]
import torch._dynamo
assert torch._dynamo.disable.__module__.startswith("torch._dynamo")
print("all")
"""
    assert output_of(script) == "all"


def test_the_garbage_collector_passes_over_what_a_command_imported() -> None:
    script = """
import gc
from diffjscc.cli.importing import quick_imports

def collections():
    return sum(generation["collections"] for generation in gc.get_stats())

before = collections()
with quick_imports():
    import email.message, http.client, xml.dom.minidom
    during = collections()
aside = gc.get_freeze_count()
with quick_imports():
    import sqlite3
print(during - before, aside > 1_000, gc.isenabled(), gc.get_freeze_count() <= aside)
"""
    assert output_of(script) == "0 True True True"

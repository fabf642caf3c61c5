"""Parts of an installation, each with its state and the way to mend it."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import torch

from diffjscc.cli.information import mebibytes
from diffjscc.codecs.digital.source_codecs.source import SourceUnavailable
from diffjscc.metrics.catalogue import METRICS, frechet_info, kernel_info
from diffjscc.metrics.feature_networks import FEATURE_NETWORKS
from diffjscc.metrics.weights import FOLDER_VARIABLE, MetricUnavailable
from diffjscc.pretrained.pretrained import find_weights, weights_hash
from diffjscc.pretrained.sources import bundled_weights
from diffjscc.pretrained.storage import open_tensors
from diffjscc.refiners.captions import BLIP2
from diffjscc.refiners.devices import describe_gpu, usable_device
from diffjscc.schemes.digital import SOURCES
from diffjscc.version import __version__

# Modules that come with an extra, and what they are for.
EXTRAS = {
    "demo": (("gradio",), "the page of `diffjscc demo`"),
    "digital": (("av",), "HEVC intra, videos"),
    "heic": (("pillow_heif",), "HEIC photographs"),
    "jxl": (("pillow_jxl",), "JPEG XL photographs"),
    "onnx": (("onnx", "onnxruntime", "onnxscript"), "`diffjscc export onnx`"),
    "radio": (("sigmf", "zmq", "sionna"), "IQ files, streams, TDL channels"),
    "training": (("efficientnet_lite_pytorch",), "projected discriminators"),
}


@dataclass(frozen=True)
class Finding:
    """State of one part.

    Attributes:
        part: its name.
        works: whether it does; None where it is optional and absent.
        words: what is there, or what is wrong.
        remedy: command or step that mends it; empty where nothing is to be mended.
    """

    part: str
    works: bool | None
    words: str
    remedy: str = ""


def examine() -> Iterator[Finding]:
    """Look at every part of this installation, without the network."""
    with _offline():
        yield from _parts()


@contextmanager
def _offline() -> Iterator[None]:
    """Keep everybody from the network; see `data.download`."""
    before = os.environ.get("HF_HUB_OFFLINE")
    os.environ["HF_HUB_OFFLINE"] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ["HF_HUB_OFFLINE"]
        else:
            os.environ["HF_HUB_OFFLINE"] = before


def _parts() -> Iterator[Finding]:
    yield Finding("diffjscc", True, f"{__version__}, Python {platform.python_version()}")
    yield Finding("torch", True, f"{torch.__version__}, {torch.get_num_threads()} threads")
    yield from _devices()
    yield _memory()
    yield from _weights()
    yield from _metrics()
    yield from _sources()
    yield _captioner()
    yield from _extras()


def _devices() -> Iterator[Finding]:
    if not torch.cuda.is_available() and not torch.backends.mps.is_available():
        yield Finding("device", True, "CPU; no GPU that this torch can use")
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            name = f"cuda:{number}"
            yield _tried(name, partial(_gpu, name))
    if torch.backends.mps.is_available():
        yield _tried("mps", lambda: str(usable_device("mps")))


def _gpu(name: str) -> str:
    return describe_gpu(usable_device(name))


def _memory() -> Finding:
    try:
        total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    except (ValueError, OSError, AttributeError):  # not every system tells
        return Finding("memory", True, "unknown")
    words = f"{total:.1f} GiB"
    if total < 2:
        return Finding("memory", False, words, "2 GiB are needed for a photograph of 12 megapixels")
    return Finding("memory", True, words)


def _weights() -> Iterator[Finding]:
    for name in bundled_weights():
        folder = find_weights(name).folder
        yield _tried(f"weights {name}", partial(_described, folder))


def _described(folder: Path) -> str:
    """Size and hash of weights, each file of which is compared with the hash in its name."""
    for path in folder.rglob("*.safetensors"):
        open_tensors(path)
    return f"{mebibytes(folder):.1f} MiB, {weights_hash(folder)}"


def _metrics() -> Iterator[Finding]:
    cpu = torch.device("cpu")
    for name, entry in METRICS.items():
        yield _measuring(f"metric {name}", entry.info.label, partial(entry.load, cpu))
    for features, network in FEATURE_NETWORKS.items():
        distances = f"{frechet_info(features).label}, {kernel_info(features).label}"
        yield _measuring(f"features {features}", distances, network.load)


def _measuring(part: str, label: str, load: Callable[[], object]) -> Finding:
    """Metrics whose weights `load` reads."""
    try:
        load()
    except MetricUnavailable:
        words = f"{label}: weights are not on this machine"
        remedy = f"fetched at first use; without a network set {FOLDER_VARIABLE}"
        return Finding(part, None, words, remedy)
    return Finding(part, True, label)


def _sources() -> Iterator[Finding]:
    for name, make in SOURCES.items():
        try:
            make()
        except SourceUnavailable as error:
            yield Finding(f"source codec {name}", None, str(error))
        else:
            yield Finding(f"source codec {name}", True, f"for {name}-ldpc and {name}-capacity")


def _captioner() -> Finding:
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - takes a moment

    if isinstance(try_to_load_from_cache(BLIP2, "config.json"), str):
        return Finding("captioner", True, f"{BLIP2} is in the cache")
    return Finding(
        "captioner", None, f"{BLIP2} is not in the cache", "fetched by --captioner blip2 (15 GB)"
    )


def _extras() -> Iterator[Finding]:
    for extra, (modules, purpose) in EXTRAS.items():
        missing = [module for module in modules if find_spec(module) is None]
        if missing:
            words = f"{', '.join(missing)} not installed; for {purpose}"
            yield Finding(f"extra {extra}", None, words, f"pip install 'diffjscc[{extra}]'")
        else:
            yield Finding(f"extra {extra}", True, purpose)
    browser = next((b for b in ("google-chrome", "chromium") if shutil.which(b)), None)
    yield Finding("browser for tests", True if browser else None, browser or "none on the PATH")


def _tried(part: str, look: Callable[[], str]) -> Finding:
    """A part that works if looking at it succeeds."""
    try:
        return Finding(part, True, look())
    except (ValueError, OSError, RuntimeError) as error:
        words, _, remedy = str(error).partition("; ")
        return Finding(part, False, words, remedy)

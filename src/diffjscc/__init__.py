"""DiffJSCC: images over noisy channels, refined at the receiver by diffusion (arXiv 2404.17736)."""

from importlib import import_module
from typing import TYPE_CHECKING

from diffjscc.version import __version__

if TYPE_CHECKING:
    from diffjscc.arrays import as_images, to_pil
    from diffjscc.channels import AWGN, Rayleigh, Rician, normalise_power
    from diffjscc.codecs.basic import BasicJSCC, BasicJSCCConfig
    from diffjscc.codecs.compact import CompactConfig, CompactJSCC
    from diffjscc.codecs.deepjscc import DeepJSCC, DeepJSCCConfig
    from diffjscc.codecs.digital.capacity import CapacityCodec
    from diffjscc.codecs.digital.separate import SeparateCodec
    from diffjscc.codecs.swin import SwinJSCC, SwinJSCCConfig
    from diffjscc.data.images import load_image, save_image
    from diffjscc.evaluation.evaluate import evaluate
    from diffjscc.evaluation.uncertainty import disagreement
    from diffjscc.metrics.fidelity import ms_ssim, psnr
    from diffjscc.metrics.lpips import LPIPS
    from diffjscc.metrics.niqe import niqe
    from diffjscc.plugins import Factory
    from diffjscc.pretrained.diffjscc import DiffJSCC
    from diffjscc.protocols import (
        Channel,
        Codec,
        InfeasibleError,
        Reconstruction,
        Refiner,
        SamplingRefiner,
    )
    from diffjscc.report.uncertainty import uncertainty_image
    from diffjscc.scheme import Scheme
    from diffjscc.schemes.digital import digital_scheme
    from diffjscc.symbols import ChannelState, Received, Symbols

# Module of each public name; imported on first use, so that the command line starts quickly.
_MODULES = {
    "AWGN": "diffjscc.channels",
    "BasicJSCC": "diffjscc.codecs.basic",
    "BasicJSCCConfig": "diffjscc.codecs.basic",
    "CapacityCodec": "diffjscc.codecs.digital.capacity",
    "Channel": "diffjscc.protocols",
    "ChannelState": "diffjscc.symbols",
    "Codec": "diffjscc.protocols",
    "CompactConfig": "diffjscc.codecs.compact",
    "CompactJSCC": "diffjscc.codecs.compact",
    "DeepJSCC": "diffjscc.codecs.deepjscc",
    "DeepJSCCConfig": "diffjscc.codecs.deepjscc",
    "DiffJSCC": "diffjscc.pretrained.diffjscc",
    "Factory": "diffjscc.plugins",
    "InfeasibleError": "diffjscc.protocols",
    "LPIPS": "diffjscc.metrics.lpips",
    "Rayleigh": "diffjscc.channels",
    "Received": "diffjscc.symbols",
    "Reconstruction": "diffjscc.protocols",
    "Refiner": "diffjscc.protocols",
    "Rician": "diffjscc.channels",
    "SamplingRefiner": "diffjscc.protocols",
    "Scheme": "diffjscc.scheme",
    "SeparateCodec": "diffjscc.codecs.digital.separate",
    "SwinJSCC": "diffjscc.codecs.swin",
    "SwinJSCCConfig": "diffjscc.codecs.swin",
    "Symbols": "diffjscc.symbols",
    "digital_scheme": "diffjscc.schemes.digital",
    "as_images": "diffjscc.arrays",
    "disagreement": "diffjscc.evaluation.uncertainty",
    "evaluate": "diffjscc.evaluation.evaluate",
    "load_image": "diffjscc.data.images",
    "ms_ssim": "diffjscc.metrics.fidelity",
    "niqe": "diffjscc.metrics.niqe",
    "normalise_power": "diffjscc.channels",
    "psnr": "diffjscc.metrics.fidelity",
    "save_image": "diffjscc.data.images",
    "to_pil": "diffjscc.arrays",
    "uncertainty_image": "diffjscc.report.uncertainty",
}

__all__ = [
    "AWGN",
    "LPIPS",
    "BasicJSCC",
    "BasicJSCCConfig",
    "CapacityCodec",
    "Channel",
    "ChannelState",
    "Codec",
    "CompactConfig",
    "CompactJSCC",
    "DeepJSCC",
    "DeepJSCCConfig",
    "DiffJSCC",
    "Factory",
    "InfeasibleError",
    "Rayleigh",
    "Received",
    "Reconstruction",
    "Refiner",
    "Rician",
    "SamplingRefiner",
    "Scheme",
    "SeparateCodec",
    "SwinJSCC",
    "SwinJSCCConfig",
    "Symbols",
    "__version__",
    "as_images",
    "digital_scheme",
    "disagreement",
    "evaluate",
    "load_image",
    "ms_ssim",
    "niqe",
    "normalise_power",
    "psnr",
    "save_image",
    "to_pil",
    "uncertainty_image",
]


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        raise AttributeError(f"module 'diffjscc' has no attribute {name!r}")
    value: object = getattr(import_module(_MODULES[name]), name)
    globals()[name] = value  # a submodule of the same name, once imported, would hide it
    return value


def __dir__() -> list[str]:
    return __all__

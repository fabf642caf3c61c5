"""DiffJSCC: images over noisy channels, painted at the receiver by diffusion (arXiv 2404.17736)."""

from importlib import import_module
from typing import TYPE_CHECKING

from diffjscc.version import __version__

if TYPE_CHECKING:
    from diffjscc.channels import AWGN, Rayleigh, Rician
    from diffjscc.pretrained.diffjscc import DiffJSCC
    from diffjscc.scheme import Received, Reconstruction, Scheme, Symbols

# Where each public name lives; imported on first use, so that the command line starts quickly.
_HOMES = {
    "AWGN": "diffjscc.channels",
    "Rayleigh": "diffjscc.channels",
    "Rician": "diffjscc.channels",
    "DiffJSCC": "diffjscc.pretrained.diffjscc",
    "Received": "diffjscc.scheme",
    "Reconstruction": "diffjscc.scheme",
    "Scheme": "diffjscc.scheme",
    "Symbols": "diffjscc.scheme",
}

__all__ = [
    "AWGN",
    "DiffJSCC",
    "Rayleigh",
    "Received",
    "Reconstruction",
    "Rician",
    "Scheme",
    "Symbols",
    "__version__",
]


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'diffjscc' has no attribute {name!r}")
    value: object = getattr(import_module(_HOMES[name]), name)
    return value

"""Channel physics: symbols to received symbols, differentiable, with per-image SNR."""

from diffjscc.channels.awgn import AWGN
from diffjscc.channels.erasures import Erasures
from diffjscc.channels.fading import Rayleigh, Rician
from diffjscc.channels.multipath import Multipath
from diffjscc.channels.power import normalise_power

__all__ = ["AWGN", "Erasures", "Multipath", "Rayleigh", "Rician", "normalise_power"]

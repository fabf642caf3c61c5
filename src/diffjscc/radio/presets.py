"""Waveforms by name."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from diffjscc.radio.ofdm import OFDM
from diffjscc.radio.single_carrier import SingleCarrier
from diffjscc.radio.waveform import Waveform

Complex = NDArray[np.complex64]

WAVEFORMS: dict[str, Waveform] = {
    form.name: form
    for form in (
        OFDM("ofdm-64", 64, 16, training_period=16, pilots_per_row=4, half=26),
        OFDM("ofdm-1024", 1024, 72, training_period=8, pilots_per_row=16, half=416),
        SingleCarrier("single-carrier", 64, 16, 16, 4, roll_off=0.25),
    )
}
"""Waveforms by name; 64 points with 52 used and a prefix of 16 are those of IEEE 802.11."""


def papr_db(samples: Complex) -> float:
    """Compute the peak-to-average power ratio of samples in dB."""
    power = np.abs(samples) ** 2
    return float(10 * np.log10(power.max() / power.mean()))

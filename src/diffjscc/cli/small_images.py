"""Codecs of `diffjscc reproduce deepjscc`, trained one after the other, and its sweeps."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from diffjscc.cli.training import one_of_several, say
from diffjscc.data.sources import open_source, pack
from diffjscc.evaluation.small_images import (
    CHANNELS,
    SHORT_SIDE,
    TRAINED_SNRS_DB,
    SmallExperiment,
    small_experiment,
)
from diffjscc.training.codec_config import JSCCConfig
from diffjscc.training.config import load_config
from diffjscc.training.jscc import train

CONFIG = "deepjscc-32-jscc"
TRAINING, TEST = "data/cifar10/train.npz", "data/cifar10/test"


def small_experiments(
    output: Path,
    training: str | None,
    images: Sequence[str] | None,
    channel: str,
    repeats: int,
    quick: bool,
) -> list[SmallExperiment]:
    """Train a codec for each k/n and SNR of the figure, or resume; return the sweeps to run.

    Args:
        output: gets the decoded training images, and a run for each codec.
        training: training images, see `open_source`; None takes CIFAR-10.
        images: test images; None takes CIFAR-10's.
        channel: "awgn", or "rayleigh", over which the receiver does not equalise, as published.
        repeats: transmissions per image and point.
        quick: two iterations of two codecs.

    Raises:
        ValueError: no such channel, images that cannot be had, or a folder of other settings.
    """
    if channel not in ("awgn", "rayleigh"):
        raise ValueError(f"--channel is {channel}; the figure is over awgn or rayleigh")
    defaults = ((training, TRAINING, "--train"), (images, TEST, "--images"))
    for given, place, option in defaults:
        if not given and not Path(place).exists():
            raise ValueError(
                f"there is no {place}; `diffjscc fetch cifar10` makes it, or give photographs by "
                f"{option}"
            )
    packed = pack(open_source(training or TRAINING), output / "train.pack", SHORT_SIDE)
    say(f"training on {len(packed)} images")
    experiments = []
    for ratio, channels in CHANNELS.items():
        codecs = {}
        for snr_db in TRAINED_SNRS_DB[:1] if quick else TRAINED_SNRS_DB:
            run = output / "training" / f"{str(ratio).replace('/', '-')}-{snr_db:g}dB"
            receiver = "equalised" if channel == "awgn" else "unequalised"
            overrides = [
                f"codec.channels={channels}",
                f"codec.snr_range_db=[{snr_db}, {snr_db}]",
                f"codec.receiver={receiver}",
                f"channel.name={channel}",
                f"channel.snr_db=[{snr_db}, {snr_db}]",
                f"data.train={output / 'train.pack'}",
                *(["run.iterations=2"] if quick else []),
            ]
            with one_of_several():
                codecs[snr_db] = train(load_config(JSCCConfig, CONFIG, overrides), run)
            say(f"k/n = {ratio}, {snr_db:g} dB: trained")
        tested = tuple(images or (TEST,))
        experiments.append(small_experiment(ratio, codecs, tested, channel, repeats, quick))
    return experiments

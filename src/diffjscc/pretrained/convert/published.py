"""Files of WITT's and SwinJSCC's authors to our weights of the codec `WITT`.

The architecture is read off the tensors. They cannot say the channel and the SNRs of the training,
nor whether modulation by the SNR is used, which every file holds layers for: those are in the
files' names, or the user says them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from diffjscc.choices import TrainedChannel
from diffjscc.codecs.reception import Receiver
from diffjscc.codecs.swin import released_keys, window_constants
from diffjscc.codecs.witt import WITT, Adaptation, WITTConfig
from diffjscc.data.files import new_folder, sha256_of
from diffjscc.pretrained.codec import save_codec
from diffjscc.pretrained.convert.checkpoint import state_tensors
from diffjscc.pretrained.convert.checkpoint_file import open_checkpoint
from diffjscc.pretrained.storage import WeightsError, compare, write_json
from diffjscc.version import __version__

PUBLISHED_SNRS_DB = (1.0, 13.0)
PUBLISHED_CHANNELS = (32, 64, 96, 128, 192)
_METRIC = ("distortion_loss.dist.window", "distortion_loss.dist.weights")  # of MS-SSIM training


@dataclass(frozen=True)
class Training:
    """Facts of a file's training that its tensors do not say; None: those of the file's name.

    Attributes:
        channel: over "awgn" or over "rayleigh", fast fading that the receiver does not equalise.
        snr_db: SNRs in dB, (low, high), which may be one SNR.
        snr_adaptive: whether the networks are modulated by the SNR.
    """

    channel: TrainedChannel | None = None
    snr_db: tuple[float, float] | None = None
    snr_adaptive: bool | None = None

    def completed(self, name: str) -> Training:
        """Fill what is None in from the name of a file, or the published defaults."""
        text = re.sub(r"[^a-z0-9]+", "_", name.lower())
        channel: TrainedChannel = "rayleigh" if "rayleigh" in text else "awgn"
        single = re.search(r"snr_?(\d+)(?:_|$)", text)
        snr_db = (float(single[1]),) * 2 if single else PUBLISHED_SNRS_DB
        adaptive = self.snr_adaptive
        if adaptive is None and re.search(r"(?:^|_)w_?o(?:_|$)", text):
            adaptive = False
        elif adaptive is None and re.search(r"(?:^|_)(?:sa|saandra|witt)(?:_|$)", text):
            adaptive = True
        return Training(self.channel or channel, self.snr_db or snr_db, adaptive)


def convert_published(
    source: str | Path, destination: str | Path, training: Training | None = None
) -> Path:
    """Convert a file of WITT's or SwinJSCC's authors, tensor for tensor.

    Args:
        source: the file, a state_dict; it is read as data, and nothing in it is run.
        destination: the folder to write. It appears once it is complete.
        training: facts that differ from those in the file's name.

    Returns:
        `destination`.

    Raises:
        WeightsError: a file that is missing, damaged or of another architecture, or whose name
            does not say whether it adapts to the SNR.
        OSError: `destination` cannot be written.
    """
    path, target = Path(source), Path(destination)
    state = state_tensors(open_checkpoint(path))
    config = infer_config(state, (training or Training()).completed(path.name), str(path))
    with torch.device("meta"):
        codec = WITT(config)
    keys, ours = released_keys(config), codec.state_dict()
    passed_over = window_constants(config) | set(_METRIC) | unused_modulations(config, state)
    given = {key: value for key, value in state.items() if key not in passed_over}
    compare({theirs: ours[own] for theirs, own in keys.items()}, given, str(path))
    codec.load_state_dict({own: given[theirs].float() for theirs, own in keys.items()}, assign=True)
    with new_folder(target) as folder:
        save_codec(codec, folder)
        card = {
            "converted_from": path.name,
            "converted_with": f"diffjscc {__version__}",
            "source_sha256": {path.name: sha256_of(path)},
            "snr_range_db": list(config.snr_range_db),
            "adaptation": config.adaptation,
            "receiver": config.receiver,
        }
        write_json(folder / "card.json", card)
    return target


def infer_config(state: Mapping[str, Tensor], training: Training, where: str) -> WITTConfig:
    """Read the architecture off the tensors of a file.

    Args:
        state: tensors by their published names.
        training: complete but for `snr_adaptive`.
        where: the file, for errors.

    Raises:
        WeightsError: these are no such tensors, or `snr_adaptive` is needed and None.
    """
    try:
        return _infer(state, training, where)
    except WeightsError:
        raise
    except (ArithmeticError, LookupError, ValueError, TypeError) as error:
        reason = str(error) or type(error).__name__
        raise WeightsError(
            f"{where} holds no WITT or SwinJSCC codec as its authors publish them ({reason})"
        ) from error


def _infer(state: Mapping[str, Tensor], training: Training, where: str) -> WITTConfig:
    stages = _count(state, "encoder.layers.{}.blocks.0.norm1.weight")
    if not 1 <= stages == _count(state, "decoder.layers.{}.blocks.0.norm1.weight"):
        raise ValueError("encoder.layers and decoder.layers are missing, or differ in number")
    shapes = {end: [_stage(state, f"{end}.layers.{i}") for i in range(stages)] for end in _ENDS}
    headed, both = "encoder.head_list.weight" in state, "encoder.sm_list1.0.weight" in state
    adaptation: Adaptation
    if headed and training.snr_adaptive is None:
        raise WeightsError(
            f"{where} can be used with and without its layers for the SNR, and its name does not "
            "say which is right: give --snr-adaptive or --no-snr-adaptive"
        )
    if headed:
        adaptation = "snr" if training.snr_adaptive else "none"
    else:
        adaptation = "snr+rate" if both else "rate"
    widths = [shape.width for shape in shapes["encoder"]]
    windows = {end: [shape.window for shape in shapes[end]] for end in _ENDS}
    largest = max(windows["encoder"])
    channels = state["encoder.head_list.weight"].shape[0] if headed else widths[-1]
    first = state["encoder.layers.0.blocks.0.mlp.fc1.weight"]
    receiver: Receiver = "derotated" if training.channel == "rayleigh" else "equalised"
    assert training.snr_db is not None
    return WITTConfig(
        channels=channels,
        encoder_widths=tuple(widths),
        encoder_depths=tuple(shape.depth for shape in shapes["encoder"]),
        encoder_heads=tuple(shape.heads for shape in shapes["encoder"]),
        decoder_widths=tuple(shape.width for shape in shapes["decoder"]),
        decoder_depths=tuple(shape.depth for shape in shapes["decoder"]),
        decoder_heads=tuple(shape.heads for shape in shapes["decoder"]),
        window=largest,
        mlp_ratio=first.shape[0] / first.shape[1],
        qkv_bias="encoder.layers.0.blocks.0.attn.qkv.bias" in state,
        modulation_layers=max(1, _count(state, "encoder.bm_list.{}.fc.0.weight")),
        trained_size=_trained_size(shapes["encoder"], largest),
        snr_range_db=training.snr_db,
        receiver=receiver,
        adaptation=adaptation,
        rate_channels=(
            ()
            if headed
            else tuple(c for c in PUBLISHED_CHANNELS if c <= widths[-1]) or (widths[-1],)
        ),
    )


_ENDS = ("encoder", "decoder")


@dataclass(frozen=True)
class _Stage:
    """Numbers of a stage.

    Attributes:
        width, depth, heads, window: see `SwinJSCCConfig`.
        shifted: whether a block's windows are shifted; None where there is one block.
    """

    width: int
    depth: int
    heads: int
    window: int
    shifted: bool | None


def _stage(state: Mapping[str, Tensor], name: str) -> _Stage:
    (width,) = state[f"{name}.blocks.0.norm1.weight"].shape
    depth = _count(state, name + ".blocks.{}.norm1.weight")
    places, heads = state[f"{name}.blocks.0.attn.relative_position_bias_table"].shape
    window = (math.isqrt(places) + 1) // 2
    if (2 * window - 1) ** 2 != places:
        raise ValueError(f"{name} has {places} relative positions, which no square window has")
    shifted = f"{name}.blocks.1.attn_mask" in state if depth > 1 else None
    return _Stage(width, depth, heads, window, shifted)


def _trained_size(stages: list[_Stage], largest: int) -> tuple[int, int]:
    """Choose a size of training images at which stages have their windows.

    The size itself is in no tensor. Grids not larger than the window have one window, unshifted.
    """
    strides = [2 ** (i + 1) for i in range(len(stages))]
    whole = [
        stage.window * stride
        for stage, stride in zip(stages, strides, strict=True)
        if stage.window < largest or stage.shifted is False
    ]
    side = min(whole) if whole else 2 * largest * strides[-1]
    return side, side


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """Count the names of a pattern, numbered from 0."""
    number = 0
    while pattern.format(number) in state:
        number += 1
    return number


def unused_modulations(config: WITTConfig, state: Mapping[str, Tensor]) -> set[str]:
    """Names of layers that every file holds and a codec of this adaptation does not use."""
    unused = []
    if config.adaptation == "none":
        unused += ["encoder.sm_list.", "encoder.bm_list."]
    if not config.snr_modulated:
        unused += ["decoder.sm_list.", "decoder.bm_list."]
    return {key for key in state if key.startswith(tuple(unused))} if unused else set()

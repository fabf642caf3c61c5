"""The codec of a set of weights on disk.

    WEIGHTS/codec/config.json          {"class": …, architecture, "files": {part: name}}
    WEIGHTS/codec/encoder-<hash>.safetensors
    WEIGHTS/codec/decoder-<hash>.safetensors

Encoder and decoder are files of their own: a transmitter carries no receiver. A codec of several
rounds (`FeedbackJSCC`) also has layer-<hash>.safetensors, and both ends need all three.
"""

from __future__ import annotations

from pathlib import Path

import torch

from diffjscc.codecs.feedback import FeedbackJSCC
from diffjscc.codecs.joint import JointCodec, Parts, check_parts
from diffjscc.pretrained.build import build_any, describe_codec
from diffjscc.pretrained.storage import (
    WeightsError,
    compare,
    read_json,
    read_tensors,
    remove_stale,
    write_json,
    write_tensors,
)
from diffjscc.pretrained.uninitialised import Uninitialised

PARTS: dict[Parts, tuple[str, ...]] = {
    "both": ("encoder", "decoder"),
    "transmitter": ("encoder",),
    "receiver": ("decoder",),
}


def read_codec(
    folder: Path, parts: Parts = "both", device: torch.device | str = "cpu"
) -> JointCodec | FeedbackJSCC:
    """Load the codec of a folder of weights, ready for inference, as float32.

    Args:
        folder: the weights.
        parts: "transmitter" or "receiver" reads and keeps that end only.
        device: device of the codec.

    Raises:
        ValueError: `parts` is none of these.
        WeightsError: missing or damaged files, or tensors that do not fit the architecture.
    """
    check_parts(parts)
    target = folder / "codec"
    config = read_json(target / "config.json")
    files = config.pop("files", {})
    try:
        with Uninitialised():  # a codec of any size takes no memory yet
            codec = build_any(config, parts)
    except ValueError as error:
        raise WeightsError(f"{target / 'config.json'}: {error}") from error
    except (TypeError, RuntimeError, LookupError, ArithmeticError) as error:
        reason = f"{type(error).__name__}: {error}"
        raise WeightsError(
            f"{target / 'config.json'} has settings that make no codec ({reason})"
        ) from error
    states = {}
    for part in codec.parts if isinstance(codec, FeedbackJSCC) else PARTS[parts]:
        if not isinstance(files, dict) or part not in files:
            raise WeightsError(f"{target / 'config.json'} names no file for the {part}")
        path = target / Path(str(files[part])).name
        states[part] = read_tensors(path)
        compare(getattr(codec, part).state_dict(), states[part], str(path))
    for part, state in states.items():
        getattr(codec, part).load_state_dict(state)
    return codec.to(device).eval().requires_grad_(False)


def save_codec(
    codec: JointCodec | FeedbackJSCC, folder: Path, dtype: torch.dtype = torch.float32
) -> dict[str, str]:
    """Write `folder`/codec; floating-point tensors are stored as `dtype`, see `storage`.

    Returns:
        File name of each part.
    """
    target = folder / "codec"
    target.mkdir(parents=True, exist_ok=True)
    files = {}
    for part in codec.parts if isinstance(codec, FeedbackJSCC) else PARTS["both"]:
        module = getattr(codec, part)
        if module is None:
            raise ValueError(f"the codec was loaded without its {part}; load both to save")
        files[part] = write_tensors(module.state_dict(), target, part, dtype)
    write_json(target / "config.json", {**describe_codec(codec), "files": files})
    remove_stale(target, files.values())
    return files

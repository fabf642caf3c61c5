"""`DiffJSCC.from_pretrained`: the front door to every set of weights."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import torch

from diffjscc.codecs.joint import JointCodec, Parts
from diffjscc.pretrained.codec import read_codec, save_codec
from diffjscc.pretrained.pretrained import find_weights
from diffjscc.pretrained.storage import has_refiner, read_json, weights_hash, write_json
from diffjscc.scheme import Refiner, Scheme


def parse_rate(rate: str | float | Fraction) -> Fraction:
    """A rate in channel uses per pixel from "1/128", 0.0078125 or a Fraction.

    Raises:
        ValueError: not a positive number.
    """
    try:
        value = Fraction(rate).limit_denominator(1 << 20)
    except (ValueError, OverflowError, ZeroDivisionError):
        raise ValueError(f"rate {rate!r} is not a number; write it as 1/128 or 0.0078125") from None
    if value <= 0:
        raise ValueError(f"rate {rate} must be above 0 channel uses per pixel")
    return value


def choose_device(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is a CUDA GPU where there is one, else the CPU.

    Raises:
        ValueError: no such device on this machine.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"device {name!r} cannot be used: {reason}; try cpu or auto") from error
    return device


@dataclass(frozen=True)
class DiffJSCC(Scheme):
    """A scheme that comes from saved weights.

    Attributes:
        codec: the neural codec.
        rate, refiner: see `Scheme`.
        weights: where the weights came from, and the start of the hash of those that were loaded
            from there, of the codec always both ends: "compact@1a2b3c".
        card: what made the weights, on what data, and the figures measured with them.
    """

    codec: JointCodec
    weights: str = ""
    card: dict[str, Any] | None = None

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = "compact",
        rate: str | float | Fraction | None = None,
        *,
        refiner: Literal["default"] | Refiner | None = "default",
        parts: Parts = "both",
        device: str = "auto",
        dtype: torch.dtype | None = None,
        offload: bool = False,
    ) -> DiffJSCC:
        """Load weights.

        Args:
            source: name of bundled weights, a folder written by `save_pretrained`, or a hub id.
                A folder or hub id may also be a checkpoint that the paper's authors released; it
                is converted once.
            rate: nominal rate in cpp, such as "1/128"; the weights' lowest where it is None.
            refiner: what paints the final image: "default" is the weights' own where they have
                one, None gives the codec alone, and any other refiner is taken as it is.
            parts: "transmitter" or "receiver" loads that end only; a transmitter loads no refiner.
            device: "auto", "cpu", "cuda", "cuda:1", …
            dtype: of the refiner's weights; by default bfloat16 on CUDA and float32 elsewhere. The
                codec computes in float32.
            offload: keep the refiner on the CPU and bring each of its networks to `device` only
                while it is needed, for GPUs that cannot hold them all.

        Raises:
            ValueError: unknown or damaged weights, a rate that they do not offer, no such device.
        """
        if isinstance(refiner, str) and refiner != "default":
            raise ValueError(f"refiner {refiner!r} is neither 'default', None nor a refiner")
        computing, folder = choose_device(device), find_weights(source)
        codec = read_codec(folder, parts, computing)
        chosen = codec.rates[0] if rate is None else parse_rate(rate)
        if chosen not in codec.rates:
            offered = ", ".join(map(str, codec.rates))
            raise ValueError(f'rate {chosen} is not one of {offered} (weights "{source}")')
        painter, loaded = None if isinstance(refiner, str) else refiner, ["codec"]
        if refiner == "default" and parts != "transmitter" and has_refiner(folder):
            # Imported here: a codec alone does not wait for diffusers and transformers.
            from diffjscc.pretrained.networks import CLASSES  # noqa: PLC0415
            from diffjscc.pretrained.receiver import load_refiner  # noqa: PLC0415

            painter = load_refiner(folder, computing, dtype, offload)
            loaded += CLASSES
        card = folder / "card.json"
        return cls(
            codec=codec,
            rate=chosen,
            refiner=painter,
            weights=f"{Path(source).name}@{weights_hash(folder, loaded)}",
            card=read_json(card) if card.exists() else None,
        )

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype = torch.float32) -> None:
        """Write codec and refiner to `folder`, tensors stored as `dtype`, so that they load again.

        Args:
            folder: gets the weights.
            dtype: torch.float32 loses nothing; float16 and bfloat16 take half the space, and int8
                a quarter, with one scale per row of every large tensor (see `models.storage`).
                Whatever they are stored as, weights load as `from_pretrained` is told.

        Raises:
            ValueError: `dtype` is none of these or cannot hold the numbers, the refiner is no
                `ControlledDiffusion`, the codec was loaded for one end only, or `folder` holds a
                refiner and this scheme has none.
            OSError: `folder` cannot be written.
        """
        target = Path(folder)
        if self.refiner is None:
            if has_refiner(target):
                raise ValueError(
                    f"{target} holds a refiner, which would be taken for this scheme's, but it "
                    "has none; save to another folder"
                )
            save_codec(self.codec, target, dtype)
        else:
            from diffjscc.pretrained.receiver import save_refiner  # noqa: PLC0415
            from diffjscc.refiners.diffusion import ControlledDiffusion  # noqa: PLC0415

            if not isinstance(self.refiner, ControlledDiffusion):
                kind = type(self.refiner).__name__
                raise ValueError(f"a {kind} cannot be saved; save the scheme with refiner=None")
            save_codec(self.codec, target, dtype)
            save_refiner(self.refiner, target, dtype)
        if self.card is not None:
            # A converted checkpoint's checksums are those of the files that it was converted to.
            card = {key: value for key, value in self.card.items() if key != "sha256"}
            write_json(target / "card.json", card)

"""Checks of what a codec, channel or refiner gives, at the place where it enters.

A part of the user's own that breaks one of these rules would spoil every SNR, rate or metric
without a word.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from fractions import Fraction

import torch
from torch import Tensor

from diffjscc.arrays import check_range

# Largest deviation of the mean power of an image's symbols from 1.
POWER_TOLERANCE = 1e-3

# Kinds of channel uses that a nominal rate leaves out: padding, and what is said beside the image.
BESIDE = ("padding", "signalling", "caption")

# Largest amplitude of a gain, far above any fade with E|h|² = 1; its square is a float32.
LARGEST_GAIN = 1e6


def check_flag(value: object, name: str) -> None:
    """Raise ValueError unless `value` is True or False: a number in a flag's place is a mistake."""
    if not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; it must be True or False")  # noqa: TRY004


def check_count(value: object, name: str) -> None:
    """Raise ValueError unless `value` is a whole number of at least 1, and no flag."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise ValueError(f"{name} is {value!r}; it must be a whole number of at least 1")


def check_number(value: object, name: str) -> None:
    """Raise ValueError unless `value` is a finite number, and no flag."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value):  # type: ignore[arg-type]
        raise ValueError(f"{name} is {value!r}; it must be a finite number")


def check_symbols(
    values: Tensor, uses_by_kind: Mapping[str, int], images: Tensor, rate: Fraction, name: str
) -> None:
    """Check symbols that a codec gave.

    Args:
        values: complex64 [B, K], of mean power 1 ± `POWER_TOLERANCE` per image.
        uses_by_kind: adds up to K, unless empty; K without what is `BESIDE` is at most ⌈R·H·W⌉.
        images: [B, 3, H, W], that were encoded.
        rate: R, the highest that an image may have, in channel uses per pixel.
        name: of the codec, for errors.

    Raises:
        ValueError: one of these rules is broken.
    """
    if values.dtype != torch.complex64 or values.ndim != 2 or len(values) != len(images):
        raise ValueError(
            f"{name} gave symbols of {values.dtype} {tuple(values.shape)}; they must be complex64 "
            f"[{len(images)}, K]"
        )
    power = values.detach().abs().square().mean(dim=1)
    if not bool(((power - 1).abs() <= POWER_TOLERANCE).all()):  # false for NaN too
        worst = float(power[(power - 1).abs().nan_to_num(torch.inf).argmax()])
        raise ValueError(
            f"{name} gave symbols of mean power {worst:g}; it must be 1 ± {POWER_TOLERANCE:g} for "
            "each image: see diffjscc.normalise_power"
        )
    check_uses(values.shape[1], uses_by_kind, images, rate, name)


def check_uses(
    uses: int, uses_by_kind: Mapping[str, int], images: Tensor, rate: Fraction, name: str
) -> None:
    """Check the channel uses of a codec's symbols; arguments as of `check_symbols`."""
    if uses_by_kind and sum(uses_by_kind.values()) != uses:
        raise ValueError(f"{name}: uses_by_kind {dict(uses_by_kind)} do not add up to K = {uses}")
    height, width = images.shape[-2:]
    most = -(-rate * height * width // 1)  # ⌈R·H·W⌉
    if uses - sum(uses_by_kind.get(kind, 0) for kind in BESIDE) > most:
        raise ValueError(
            f"{name} takes {uses} channel uses for {width}x{height} pixels at rate {rate}, "
            f"which allows {most}; count what goes beyond as uses_by_kind['padding']"
        )


def check_received(
    values: Tensor, gain: Tensor, mean_snr_db: Tensor, sent: Tensor, name: str
) -> None:
    """Check received symbols and channel state that a channel gave.

    Args:
        values: complex64 [B, K], finite.
        gain: [B, 1] or [B, K], finite, of amplitude `LARGEST_GAIN` at most.
        mean_snr_db: [B], finite.
        sent: complex64 [B, K].
        name: of the channel, for errors.

    Raises:
        ValueError: one of these rules is broken.
    """
    shape = tuple(sent.shape)
    if values.dtype != torch.complex64 or tuple(values.shape) != shape:
        raise ValueError(
            f"{name} gave {values.dtype} {tuple(values.shape)}; it must be complex64 {shape}, as "
            "what was sent"
        )
    if gain.shape not in ((shape[0], 1), shape) or mean_snr_db.shape != shape[:1]:
        raise ValueError(
            f"{name} gave a state with gain {tuple(gain.shape)} and mean_snr_db "
            f"{tuple(mean_snr_db.shape)}; they must be [B, 1] or [B, K], and [B]"
        )
    if not bool(torch.isfinite(torch.view_as_real(values)).all()):
        raise ValueError(f"{name} gave NaN or infinite symbols")
    known = torch.isfinite(mean_snr_db).all() & (gain.abs() <= LARGEST_GAIN).all()  # not for NaN
    if not bool(known):
        raise ValueError(
            f"{name} gave a gain or mean_snr_db that is not finite, or a gain above "
            f"{LARGEST_GAIN:g}; gains have a mean power of 1"
        )


def check_decoded(images: Tensor, shape: tuple[int, ...], name: str) -> None:
    """Check images that a codec or refiner gave.

    Args:
        images: floating point, of `shape`, finite and in [0, 1].
        shape: [B, 3, H, W] of what was sent.
        name: of the codec or refiner, for errors.

    Raises:
        ValueError: one of these rules is broken.
    """
    if tuple(images.shape) != shape or not images.is_floating_point():
        raise ValueError(
            f"{name} gave images of {images.dtype} {tuple(images.shape)}; they must be floating "
            f"point {shape}"
        )
    check_range(images, f"images that {name} gave")


def check_levels(images: Tensor, shape: tuple[int, ...], name: str) -> None:
    """Raise ValueError unless a refiner, called `name`, gave 8-bit levels (uint8) of `shape`."""
    if tuple(images.shape) != shape or images.dtype != torch.uint8:
        raise ValueError(
            f"{name} gave levels of {images.dtype} {tuple(images.shape)}; they must be uint8 "
            f"{shape}"
        )


def check_texture(texture: Tensor, shape: tuple[int, int, int], name: str) -> None:
    """Check a texture map that a codec gave.

    Args:
        texture: floating point, [B, 1, ⌈H/16⌉, ⌈W/16⌉], finite.
        shape: number, height and width of the images, (B, H, W).
        name: of the codec, for errors.

    Raises:
        ValueError: one of these rules is broken.
    """
    batch, height, width = shape
    expected = (batch, 1, -(-height // 16), -(-width // 16))
    if tuple(texture.shape) != expected or not texture.is_floating_point():
        raise ValueError(
            f"{name} gave a texture map of {texture.dtype} {tuple(texture.shape)}; it must be "
            f"floating point {expected}"
        )
    if not bool(torch.isfinite(texture).all()):
        raise ValueError(f"{name} gave a texture map with NaN or infinite values")

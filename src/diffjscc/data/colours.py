"""Colours of image files in sRGB, in which all else here is."""

from __future__ import annotations

import functools
import io
import warnings

import numpy as np
from PIL import Image, ImageCms

from diffjscc.paths import printable

# Colour space of a profile, and the mode of the images that it describes.
_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}
TOLERANCE = 2  # of 255 levels, within which a profile counts as sRGB
_STEPS = 17  # colours per side of the cube by which profiles are compared


def in_srgb(image: Image.Image, profile: bytes | None) -> Image.Image:
    """Convert an image to sRGB by its colour profile; one that is sRGB already stays as it is.

    A profile that is damaged, or of another kind of image, is left out.

    Args:
        image: grey, RGB, CMYK or palette, with or without alpha, of 8 bits.
        profile: ICC profile, if there is one.

    Returns:
        Grey, RGB or RGBA where it is converted.
    """
    if not profile:
        return image
    alpha = image.getchannel("A") if image.mode in ("RGBA", "LA") else None
    mode = {"P": "RGB", "RGBA": "RGB", "LA": "L", "1": "L"}.get(image.mode, image.mode)
    found = _transform(profile, mode)
    if found is None:
        return image
    transform, name = found
    warnings.warn(f'colours with the profile "{name}" are converted to sRGB', stacklevel=6)
    converted = transform.apply(image.convert(mode))
    if mode == "L":  # neutral, whatever the rounding
        converted = converted.getchannel("G")
    if alpha is not None:
        converted = converted.convert("RGB")
        converted.putalpha(alpha)
    return converted


@functools.lru_cache(maxsize=32)
def _transform(profile: bytes, mode: str) -> tuple[ImageCms.ImageCmsTransform, str] | None:
    """Make a transform from a profile to sRGB, and name it; None if there is nothing to do."""
    try:
        opened = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if _MODES.get(opened.profile.xcolor_space.strip()) != mode:
            return None
        transform = ImageCms.buildTransform(
            opened,
            ImageCms.createProfile("sRGB"),
            mode,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        name = printable(ImageCms.getProfileDescription(opened).strip())[:60] or "unnamed"
        same = mode != "CMYK" and _is_identity(transform, mode)
    except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
        warnings.warn("a colour profile is damaged and left out", stacklevel=7)
        return None
    return None if same else (transform, name)


def _is_identity(transform: ImageCms.ImageCmsTransform, mode: str) -> bool:
    """Return whether a transform leaves colours as they are, to rounding."""
    levels = np.linspace(0, 255, _STEPS).round().astype(np.uint8)
    axes = np.meshgrid(*[levels] * len(mode), indexing="ij")
    colours = np.stack(axes, axis=-1).reshape(_STEPS, -1, len(mode))
    cube = Image.fromarray(colours if mode == "RGB" else colours[:, :, 0])
    converted = np.asarray(transform.apply(cube), dtype=np.int16)
    return bool(np.abs(converted - colours.astype(np.int16)).max() <= TOLERANCE)

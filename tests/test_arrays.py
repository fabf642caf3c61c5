"""Images of every kind become one batch, or are refused with words."""

import numpy as np
import pytest
import torch
from PIL import Image

from diffjscc.arrays import as_images, to_pil

LEVELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
BATCH = torch.from_numpy(LEVELS).permute(2, 0, 1)[None].float() / 255


@pytest.mark.parametrize(
    "image",
    [
        LEVELS,
        LEVELS[None],
        LEVELS / 255,  # float64
        (LEVELS / 255).astype(np.float32),
        Image.fromarray(LEVELS),
        [Image.fromarray(LEVELS)],
        torch.from_numpy(LEVELS).permute(2, 0, 1),
        BATCH,
        BATCH[0],
        BATCH.double(),
    ],
)
def test_every_kind_is_the_same_batch(image: object) -> None:
    batch = as_images(image)  # type: ignore[arg-type]
    assert batch.dtype == torch.float32
    torch.testing.assert_close(batch, BATCH, rtol=0, atol=1e-6)


def test_batches_of_lists_and_back() -> None:
    assert as_images([LEVELS, Image.fromarray(LEVELS), BATCH]).shape == (3, 3, 5, 7)
    (image,) = to_pil(BATCH)
    assert np.array_equal(np.asarray(image), LEVELS)


def test_grey_transparent_and_turned_images() -> None:
    grey = as_images(LEVELS[..., 0])
    assert torch.equal(grey[0, 0], grey[0, 2])
    clear = Image.new("RGBA", (2, 3), (10, 20, 30, 0))
    assert bool((as_images(clear) == 1).all())
    turned = Image.fromarray(LEVELS)
    turned.getexif()[274] = 6  # Orientation: a quarter turn
    assert as_images(turned).shape == (1, 3, 7, 5)


@pytest.mark.parametrize(
    ("image", "error", "told"),
    [
        (255 * BATCH, ValueError, r"range from .* to 2.*divide 8-bit values by 255"),
        (BATCH - 0.5, ValueError, r"range from -0\.\d+ to .*clamp them"),
        (BATCH * torch.nan, ValueError, "hold NaN or infinite values"),
        (BATCH.long(), ValueError, "torch.int64; give floating point"),
        (BATCH[:, :2], ValueError, r"shape \(1, 2, 5, 7\)"),
        (BATCH[..., :0], ValueError, "no side may be 0"),
        (LEVELS[..., :2], ValueError, "channels last"),
        ([LEVELS, LEVELS[:3]], ValueError, "one size, but these are 7x3, 7x5"),
        ([], ValueError, "list of images is empty"),
        ("photo.png", TypeError, "given as str"),
        (Image.new("I;16", (2, 2)), ValueError, "mode I;16"),
    ],
)
def test_what_is_refused(image: object, error: type[Exception], told: str) -> None:
    with pytest.raises(error, match=told):
        as_images(image)  # type: ignore[arg-type]

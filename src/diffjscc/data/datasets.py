"""Images of any dataset with a length and items by number, such as torch's or Hugging Face's."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Protocol, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from diffjscc.arrays import ImageInput, as_images
from diffjscc.data.images import ImageError

IMAGE_KEYS = ("image", "jpg", "jpeg", "png", "webp")
CAPTION_KEYS = ("txt", "caption", "text")
SAMPLES = 8  # items that the fingerprint is taken of


@runtime_checkable
class Dataset(Protocol):
    """Anything with a length and items by number."""

    def __len__(self) -> int:
        """Number of items."""
        ...

    def __getitem__(self, index: int, /) -> object:
        """Return an item that is or holds an image, see `image_of`."""
        ...


def image_of(item: object) -> NDArray[np.uint8]:
    """Convert a dataset's item to an image.

    Args:
        item: a PIL image, a uint8 array [H, W, 3], or a tensor [3, H, W], uint8 or floating point
            in [0, 1], see `as_images`; a mapping with one of these as "image", "jpg", "jpeg",
            "png" or "webp"; or a tuple or list with one of these first.

    Returns:
        uint8 [H, W, 3].

    Raises:
        TypeError: an item of another type.
        ValueError: another shape or number type, or values outside [0, 1].
    """
    if isinstance(item, Mapping):
        keys = [key for key in IMAGE_KEYS if key in item]
        if not keys:
            there, known = ", ".join(map(str, item)), ", ".join(IMAGE_KEYS)
            raise ValueError(f"the item has the keys {there}; one of {known} is needed")
        return image_of(item[keys[0]])
    if isinstance(item, tuple | list) and item:
        return image_of(item[0])
    images = as_images(cast("ImageInput", item))
    if len(images) > 1:
        raise ValueError(f"the item is a batch of {len(images)} images; give one image per item")
    levels = (images[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0)
    image: NDArray[np.uint8] = levels.contiguous().numpy(force=True)
    return image


class DatasetSource:
    """An `ImageSource` of a dataset.

    Its fingerprint is taken of its length and of a few images, spread evenly. An item whose reading
    fails counts as an image that cannot be read, whatever the dataset raises.

    Args:
        dataset: each item is or holds an image, see `image_of`, the same one at every call.
        name: of the dataset, for errors and the names of images.

    Raises:
        ImageError: no dataset, no items, an item that is no image, or another image at every call.
    """

    def __init__(self, dataset: object, name: str = "dataset") -> None:
        if not isinstance(dataset, Dataset) or isinstance(dataset, str | bytes | Mapping):
            raise ImageError(
                name,
                f"is of {type(dataset).__name__}, which is no dataset",
                "give an object with __len__ and __getitem__",
            )
        self.dataset, self.name = dataset, name
        count = len(dataset)
        if count == 0:
            raise ImageError(name, "is empty", "check how it is made")
        width = len(str(count - 1))
        self.names: Sequence[str] = tuple(f"{n:0{width}}" for n in range(count))
        self.fingerprint = self._fingerprint()

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"{len(self)}".encode())
        samples = np.unique(np.linspace(0, len(self) - 1, SAMPLES).round().astype(int)).tolist()
        checked, broken = False, []
        for number in samples:
            try:
                image = self[number]
            except ImageError as error:  # training leaves it out
                broken.append(error)
                digest.update(b"unreadable")
                continue
            if not checked and not np.array_equal(image, self[number]):
                raise ImageError(
                    f"{self.name}[{number}]",
                    "is another image at every call",
                    "remove random transforms; crops and flips are made by training itself",
                )
            checked = True
            digest.update(f"{image.shape}".encode())
            digest.update(image.data)
        if not checked:
            raise broken[0]
        return digest.hexdigest()

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        index = range(len(self))[index]
        name = f"{self.name}[{index}]"
        try:
            return image_of(self.dataset[index])
        except (TypeError, ValueError) as error:
            problem = str(error) or type(error).__name__
            raise ImageError(name, problem, "convert it in the dataset") from error
        except Exception as error:  # of whatever the dataset reads its items with
            raise ImageError(name, f"cannot be read ({error!r})", "repair the dataset") from error

    def caption(self, index: int) -> str | None:
        """Text of the item as "txt", "caption" or "text", if it is a mapping with one of these."""
        item = self.dataset[range(len(self))[index]]
        if not isinstance(item, Mapping):
            return None
        texts = (cast("object", item[key]) for key in CAPTION_KEYS if key in item)
        text = next((text for text in texts if isinstance(text, str)), None)
        return (text or "").strip() or None

    def sha256(self, index: int) -> str:
        """SHA-256 of the decoded image's bytes."""
        return hashlib.sha256(self[index].data).hexdigest()

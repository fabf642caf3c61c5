"""Protocol of source codecs, and the base class of those that write image files.

Of a file, a checksum is sent and the part that the receiver cannot rebuild from the image size and
the settings of the codec, which it knows. Exactly these bytes count.
"""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from typing import Protocol

import torch
from torch import Tensor

CHECKSUM_BYTES = 4


class SourceError(ValueError):
    """Bytes are not an image: damaged, truncated, or of another codec, setting or size."""


class SourceUnavailable(ValueError):  # noqa: N818 - it is a state of the installation
    """A source codec is not installed; says what to install."""


class SourceCodec(Protocol):
    """Lossy codec of images as bytes."""

    @property
    def name(self) -> str:
        """Name in tables; identifies all settings except the quality."""
        ...

    @property
    def qualities(self) -> range:
        """Quality indices, from the coarsest to the finest."""
        ...

    def encode(self, image: Tensor, quality: int) -> bytes:
        """Encode an image; the receiver needs only the image size in addition.

        The last byte is never zero, so that `decode` finds the end of the data in a longer frame.

        Args:
            image: float [3, H, W] in [0, 1], of any size.
            quality: one of `qualities`.

        Raises:
            ValueError: `image` or `quality` is not valid, or the image is larger than the format
                allows.
        """
        ...

    def decode(self, data: bytes, size: tuple[int, int]) -> Tensor:
        """Decode an image, float32 [3, H, W] in [0, 1].

        Args:
            data: result of `encode`, followed by any number of zero bytes.
            size: (H, W) of the image that was encoded.

        Raises:
            SourceError: `data` is damaged; the checksum misses one error in 2^31.
        """
        ...

    def finest(self, image: Tensor, bits: int) -> bytes | None:
        """Encode at the finest quality that takes at most `bits`; None if there is none."""
        ...


def check_image(image: Tensor) -> None:
    """Raise ValueError unless `image` is float [3, H, W] in [0, 1]."""
    if image.ndim != 3 or len(image) != 3 or not image.is_floating_point():
        raise ValueError(
            f"the image is {image.dtype} {tuple(image.shape)}; "
            "give floats of shape [3, H, W] in [0, 1]"
        )
    if 0 in image.shape:
        raise ValueError(f"the image has shape {tuple(image.shape)}; no side may be 0")
    low, high = (float(bound) for bound in image.aminmax())
    if not (low >= 0 and high <= 1):  # false for NaN too
        raise ValueError(f"the image ranges from {low:g} to {high:g}; give values in [0, 1]")


def check_quality(source: SourceCodec, quality: int) -> None:
    """Raise ValueError unless `quality` is one of `source.qualities`."""
    if quality not in source.qualities:
        first, last = source.qualities[0], source.qualities[-1]
        raise ValueError(f"{source.name} has qualities {first} to {last}, not {quality}")


def finest_by_bisection(
    source: SourceCodec, image: Tensor, bits: int, dip: float = 0
) -> bytes | None:
    """Find the finest quality within `bits` by bisection, in about log2(qualities) encodings.

    Args:
        source: source codec whose number of bytes grows with the quality.
        image: see `SourceCodec.encode`.
        bits: maximum number of bits.
        dip: fraction by which a finer quality may be smaller than a coarser one. Above 0, finer
            qualities are tried until one is too large by more than this.
    """
    best, fitting, too_large = None, -1, len(source.qualities)
    while too_large - fitting > 1:
        middle = (fitting + too_large) // 2
        data = source.encode(image, source.qualities[middle])
        if 8 * len(data) <= bits:
            best, fitting = data, middle
        else:
            too_large = middle
    for quality in source.qualities[too_large + 1 :] if dip else ():
        data = source.encode(image, quality)
        if 8 * len(data) <= bits:
            best = data
        elif 8 * len(data) > bits * (1 + dip):
            break
    return best


class FileCodec(ABC):
    """A source codec that sends an image file without the header that the receiver can rebuild.

    The rest of the file is sent, and 31 bits of a CRC-32 of the whole file and the image size. As
    it covers the rebuilt header, other settings and library versions are detected.
    """

    name: str
    qualities: range
    dip: float = 0  # see `finest_by_bisection`

    @abstractmethod
    def write(self, image: Tensor, quality: int) -> bytes:
        """Write an image [3, H, W] in [0, 1] as a complete file."""

    @abstractmethod
    def read(self, file: bytes) -> Tensor:
        """Read a file as [3, H', W']; SourceError if it is damaged."""

    @abstractmethod
    def strip(self, file: bytes, size: tuple[int, int], quality: int) -> bytes:
        """Return what `restore` needs to rebuild the file of an image of (H, W)."""

    @abstractmethod
    def restore(self, rest: bytes, size: tuple[int, int]) -> bytes:
        """Rebuild the complete file from the result of `strip`; SourceError if not possible."""

    def encode(self, image: Tensor, quality: int) -> bytes:
        """See `SourceCodec.encode`."""
        check_image(image)
        check_quality(self, quality)
        size = (image.shape[-2], image.shape[-1])
        file = self.write(image.detach().cpu().float(), quality)
        rest = self.strip(file, size, quality)
        if self.restore(rest, size) != file:
            raise SourceUnavailable(
                f"{self.name}: the installed library writes a header that the receiver cannot "
                "rebuild; install another version of it"
            )
        return rest + _checksum(file, size)

    def decode(self, data: bytes, size: tuple[int, int]) -> Tensor:
        """See `SourceCodec.decode`."""
        refusal = (
            f"{len(data)} bytes are not a {self.name} image of {size[1]}x{size[0]}: damaged, "
            "truncated, or written for another size or by another version"
        )
        data = data.rstrip(b"\0")
        rest, checksum = data[:-CHECKSUM_BYTES], data[-CHECKSUM_BYTES:]
        if not rest:
            raise SourceError(refusal)
        file = self.restore(rest, size)
        if _checksum(file, size) != checksum:
            raise SourceError(refusal)
        image = self.read(file)[:, : size[0], : size[1]]
        if image.shape != (3, *size):
            raise SourceError(refusal)
        return image.to(torch.float32).clamp(0, 1)

    def finest(self, image: Tensor, bits: int) -> bytes | None:
        """See `SourceCodec.finest` and `finest_by_bisection`."""
        return finest_by_bisection(self, image, bits, self.dip)


def _checksum(file: bytes, size: tuple[int, int]) -> bytes:
    """Compute the CRC-32 of file and size, with its last bit set: the last byte is never zero."""
    crc = zlib.crc32(f"{size[1]}x{size[0]}".encode(), zlib.crc32(file))
    return (crc | 1).to_bytes(CHECKSUM_BYTES, "big")

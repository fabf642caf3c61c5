"""JPEG, JPEG 2000, WebP and AVIF by Pillow."""

from __future__ import annotations

import io
from functools import lru_cache

import numpy as np
import PIL
import torch
from PIL import Image, features
from torch import Tensor

from diffjscc.codecs.digital.source_codecs.source import FileCodec, SourceError, SourceUnavailable
from diffjscc.data.images import to_pillow

Size = tuple[int, int]

# Markers of JPEG (T.81) and JPEG 2000 (T.800) at which the image-dependent part begins.
_HUFFMAN_TABLE, _TILE_PART = 0xFFC4, 0xFF90


class JPEG(FileCodec):
    """Baseline JPEG with optimised Huffman tables, chroma 4:2:0 (libjpeg-turbo).

    Quality q is that of libjpeg. The part before the Huffman tables is not sent: quantisation
    tables and image header follow from the size and the quality, which takes a byte.

    Raises:
        SourceUnavailable: this Pillow has no JPEG.
    """

    name = "jpeg"
    qualities = range(1, 101)

    def __init__(self) -> None:
        _require("jpg", "JPEG")

    def write(self, image: Tensor, quality: int) -> bytes:
        """Write a JPEG file."""
        return _jpeg(to_pillow(image), quality)

    def read(self, file: bytes) -> Tensor:
        """Read a JPEG file."""
        return _open(file, "JPEG")

    def strip(self, file: bytes, size: Size, quality: int) -> bytes:  # noqa: ARG002
        """Keep the quality, and the file from the first Huffman table on."""
        return bytes((quality,)) + file[_end_of_header(file, _HUFFMAN_TABLE) :]

    def restore(self, rest: bytes, size: Size) -> bytes:
        """Prepend the header of a grey image of this quality and size."""
        if rest[0] not in self.qualities:
            raise SourceError(f"there is no JPEG quality {rest[0]}: the data are damaged")
        return _jpeg_header(rest[0], size) + rest[1:]


class JPEG2000(FileCodec):
    """JPEG 2000 with the 9/7 wavelet, chroma 4:4:4 (OpenJPEG).

    Quality q is a compression ratio of about 2000·2^(-q/16) relative to 24 bits per pixel: from
    2000 to 4 in steps of 4 %. Beyond the size of the complete codestream, finer qualities are
    equal. The main header is not sent; it depends on the size alone.

    Raises:
        SourceUnavailable: this Pillow has no JPEG 2000.
    """

    name = "jpeg2000"
    qualities = range(145)

    def __init__(self) -> None:
        _require("jpg_2000", "JPEG 2000")

    def write(self, image: Tensor, quality: int) -> bytes:
        """Write a JPEG 2000 codestream."""
        return _jpeg2000(to_pillow(image), quality)

    def read(self, file: bytes) -> Tensor:
        """Read a JPEG 2000 codestream."""
        return _open(file, "JPEG2000")

    def strip(self, file: bytes, size: Size, quality: int) -> bytes:  # noqa: ARG002
        """Keep the codestream from its tile on."""
        return file[_end_of_header(file, _TILE_PART) :]

    def restore(self, rest: bytes, size: Size) -> bytes:
        """Prepend the main header of a grey image of this size."""
        return _jpeg2000_header(size) + rest


class WebP(FileCodec):
    """Lossy WebP, method 6, chroma 4:2:0 (libwebp).

    Quality q is that of libwebp. The 20 bytes of container around the VP8 image are not sent.

    Raises:
        SourceUnavailable: this Pillow has no WebP.
    """

    name = "webp"
    qualities = range(101)
    dip = 0.1

    def __init__(self) -> None:
        _require("webp", "WebP")

    def write(self, image: Tensor, quality: int) -> bytes:
        """Write a WebP file."""
        return _save(to_pillow(image), "WEBP", quality=quality, method=6)

    def read(self, file: bytes) -> Tensor:
        """Read a WebP file."""
        return _open(file, "WEBP")

    def strip(self, file: bytes, size: Size, quality: int) -> bytes:  # noqa: ARG002
        """Keep the VP8 image."""
        return file[20 : 20 + int.from_bytes(file[16:20], "little")]

    def restore(self, rest: bytes, size: Size) -> bytes:  # noqa: ARG002
        """Wrap the VP8 image in a RIFF file, padded to an even number of bytes."""
        chunk = b"WEBPVP8 " + len(rest).to_bytes(4, "little") + rest + bytes(len(rest) % 2)
        return b"RIFF" + len(chunk).to_bytes(4, "little") + chunk


class AVIF(FileCodec):
    """AVIF, chroma 4:4:4, speed 6 of 10, on one thread (libaom).

    Quality q is that of libavif. The container around the AV1 image is not sent, some 270 bytes
    that depend only on the size and the length of the image.

    Raises:
        SourceUnavailable: this Pillow has no AVIF.
    """

    name = "avif"
    qualities = range(101)
    dip = 0.1

    def __init__(self) -> None:
        _require("avif", "AVIF")

    def write(self, image: Tensor, quality: int) -> bytes:
        """Write an AVIF file."""
        return _avif(to_pillow(image), quality)

    def read(self, file: bytes) -> Tensor:
        """Read an AVIF file."""
        return _open(file, "AVIF")

    def strip(self, file: bytes, size: Size, quality: int) -> bytes:  # noqa: ARG002
        """Keep the AV1 image."""
        return file[len(_avif_header(size)) :]

    def restore(self, rest: bytes, size: Size) -> bytes:
        """Prepend the boxes of a grey image of this size, with the length of the rest.

        The length is at the end of the box "iloc", of one item; that of "mdat", the last box, is
        before its name.
        """
        header = bytearray(_avif_header(size))
        start = header.index(b"iloc") - 4
        end = start + int.from_bytes(header[start : start + 4], "big")
        header[end - 4 : end] = len(rest).to_bytes(4, "big")
        header[-8:-4] = (len(rest) + 8).to_bytes(4, "big")
        return bytes(header) + rest


def _require(feature: str, name: str) -> None:
    if not features.check(feature):
        raise SourceUnavailable(
            f"this build of Pillow ({PIL.__version__}) has no {name}; the wheels on PyPI have "
            "it: pip install --force-reinstall --only-binary :all: pillow"
        )


def _save(image: Image.Image, kind: str, **settings: object) -> bytes:
    file = io.BytesIO()
    try:
        image.save(file, kind, **settings)
    except (OSError, ValueError, RuntimeError) as error:
        raise ValueError(
            f"{kind} cannot store this image of {image.width}x{image.height} ({error}); "
            "resize it or cut it into parts"
        ) from error
    return file.getvalue()


def _open(file: bytes, kind: str) -> Tensor:
    try:
        with Image.open(io.BytesIO(file), formats=[kind]) as image:
            levels = np.array(image.convert("RGB"))
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …
        raise SourceError(f"not a {kind} image ({error})") from error
    return torch.from_numpy(levels).permute(2, 0, 1).float() / 255


def _grey(size: Size) -> Image.Image:
    return Image.new("RGB", size[::-1], (128, 128, 128))


def _jpeg(image: Image.Image, quality: int) -> bytes:
    return _save(image, "JPEG", quality=quality, optimize=True, subsampling="4:2:0")


def _jpeg2000(image: Image.Image, quality: int) -> bytes:
    ratio = 2000 * 2 ** (-quality / 16)
    return _save(
        image,
        "JPEG2000",
        no_jp2=True,
        irreversible=True,
        mct=1,
        quality_mode="rates",
        quality_layers=[ratio],
    )


def _avif(image: Image.Image, quality: int) -> bytes:
    return _save(
        image,
        "AVIF",
        quality=quality,
        subsampling="4:4:4",
        speed=6,
        codec="aom",
        max_threads=1,
        autotiling=False,
    )


@lru_cache(maxsize=256)
def _jpeg_header(quality: int, size: Size) -> bytes:
    file = _jpeg(_grey(size), quality)
    return file[: _end_of_header(file, _HUFFMAN_TABLE)]


@lru_cache(maxsize=256)
def _jpeg2000_header(size: Size) -> bytes:
    file = _jpeg2000(_grey(size), JPEG2000.qualities[0])
    return file[: _end_of_header(file, _TILE_PART)]


@lru_cache(maxsize=256)
def _avif_header(size: Size) -> bytes:
    file = _avif(_grey(size), AVIF.qualities[0])
    return file[: file.index(b"mdat") + 4]


def _end_of_header(file: bytes, marker: int) -> int:
    """Find the position of `marker`, behind a bare marker and segments with lengths."""
    position = 2
    while int.from_bytes(file[position : position + 2], "big") != marker:
        position += 2 + int.from_bytes(file[position + 2 : position + 4], "big")
    return position

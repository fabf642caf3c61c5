"""Cache of coded images, for sweeps over rates and SNRs."""

from __future__ import annotations

import hashlib
from collections import OrderedDict

from torch import Tensor

from diffjscc.codecs.digital.source_codecs.source import (
    FileCodec,
    check_image,
    finest_by_bisection,
)

MOST = 4096  # cached files, some 40 MB in sweeps


class CachedSource:
    """A source codec that caches the files of images by quality.

    Attributes:
        source: source codec.
        name, qualities: as in `source`.
    """

    def __init__(self, source: FileCodec) -> None:
        self.source, self.name, self.qualities = source, source.name, source.qualities
        self._files: OrderedDict[tuple[bytes, int], bytes] = OrderedDict()

    def encode(self, image: Tensor, quality: int) -> bytes:
        """See `SourceCodec.encode`."""
        check_image(image)
        pixels = image.detach().cpu().float().contiguous()
        shape = f"{tuple(image.shape)}".encode()
        digest = hashlib.blake2b(pixels.numpy().tobytes() + shape, digest_size=16).digest()
        key = (digest, quality)
        if key not in self._files:
            self._files[key] = self.source.encode(image, quality)
            if len(self._files) > MOST:
                self._files.popitem(last=False)
        self._files.move_to_end(key)
        return self._files[key]

    def decode(self, data: bytes, size: tuple[int, int]) -> Tensor:
        """See `SourceCodec.decode`."""
        return self.source.decode(data, size)

    def finest(self, image: Tensor, bits: int) -> bytes | None:
        """See `SourceCodec.finest`."""
        return finest_by_bisection(self, image, bits, self.source.dip)

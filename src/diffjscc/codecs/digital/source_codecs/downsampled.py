"""Downsampling before coding, better than coarse quantisation at very low rates."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor
from torch.nn import functional as F

from diffjscc.codecs.digital.source_codecs.source import (
    SourceCodec,
    SourceError,
    check_image,
    check_quality,
)
from diffjscc.data.geometry import padded_length


class Downsampled:
    """A source codec applied to images downsampled by `factor`.

    Downsampling by means of factor x factor pixels, with edge padding; upsampling by bicubic
    interpolation. The receiver knows the factor: it is not sent.

    Attributes:
        source: source codec of the small images.
        factor: downsampling factor, at least 2.
        name: name of the source, and "/factor".
    """

    def __init__(self, source: SourceCodec, factor: int) -> None:
        if factor < 2:
            raise ValueError(f"the factor is {factor}; it must be at least 2")
        self.source, self.factor = source, factor
        self.name = f"{source.name}/{factor}"

    @property
    def qualities(self) -> range:
        """Qualities of the source."""
        return self.source.qualities

    def encode(self, image: Tensor, quality: int) -> bytes:
        """See `SourceCodec.encode`."""
        return self.source.encode(self._shrink(image), quality)

    def decode(self, data: bytes, size: tuple[int, int]) -> Tensor:
        """See `SourceCodec.decode`."""
        height, width = (padded_length(side, self.factor) // self.factor for side in size)
        small = self.source.decode(data, (height, width))
        large = F.interpolate(small[None], scale_factor=self.factor, mode="bicubic")[0]
        return large[:, : size[0], : size[1]].clamp(0, 1)

    def finest(self, image: Tensor, bits: int) -> bytes | None:
        """See `SourceCodec.finest`."""
        return self.source.finest(self._shrink(image), bits)

    def _shrink(self, image: Tensor) -> Tensor:
        check_image(image)
        height, width = (padded_length(side, self.factor) for side in image.shape[-2:])
        pad = (0, width - image.shape[-1], 0, height - image.shape[-2])
        filled = F.pad(image[None].float(), pad, mode="replicate")
        return F.avg_pool2d(filled, self.factor)[0].clamp(0, 1)  # means may round beyond 1


class DownsamplingLadder:
    """Several source codecs as one: `finest` chooses the one with the least error.

    A byte before the data identifies it.

    Attributes:
        sources: such as HEVC at a quarter, a half and the full width, in this order.
        name: names of the sources, joined.
        qualities: those of the first source, then those of the second, …; the number of bytes
            grows within each.
    """

    def __init__(self, sources: Sequence[SourceCodec]) -> None:
        if not 1 <= len(sources) <= 256:
            raise ValueError(f"a ladder has 1 to 256 source codecs, not {len(sources)}")
        self.sources = tuple(sources)
        self.name = " or ".join(source.name for source in self.sources)
        self.qualities = range(sum(len(source.qualities) for source in self.sources))

    def encode(self, image: Tensor, quality: int) -> bytes:
        """See `SourceCodec.encode`."""
        check_quality(self, quality)
        rung = 0
        while quality >= len(self.sources[rung].qualities):
            quality -= len(self.sources[rung].qualities)
            rung += 1
        source = self.sources[rung]
        return bytes((rung,)) + source.encode(image, source.qualities[quality])

    def decode(self, data: bytes, size: tuple[int, int]) -> Tensor:
        """See `SourceCodec.decode`."""
        if not data or data[0] >= len(self.sources):
            raise SourceError(f"{len(data)} bytes do not begin with one of {self.name}: damaged")
        return self.sources[data[0]].decode(data[1:], size)

    def finest(self, image: Tensor, bits: int) -> bytes | None:
        """Choose, of each source's finest within `bits`, the one of least mean squared error."""
        check_image(image)
        size = (image.shape[-2], image.shape[-1])
        best, least = None, float("inf")
        for rung, source in enumerate(self.sources):
            data = source.finest(image, bits - 8)
            if data is None:
                continue
            error = F.mse_loss(source.decode(data, size), image.detach().cpu().float()).item()
            if error < least:
                best, least = bytes((rung,)) + data, error
        return best

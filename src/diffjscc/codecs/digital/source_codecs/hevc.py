"""HEVC intra coding as in BPG, by the x265 encoder in PyAV."""

from __future__ import annotations

from fractions import Fraction
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from diffjscc.codecs.digital.source_codecs.source import FileCodec, SourceError, SourceUnavailable
from diffjscc.codecs.digital.source_codecs.ycbcr import Chroma, double, halve, to_rgb, to_ycbcr
from diffjscc.data.geometry import padded_length

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

FINEST_QP, COARSEST_QP = 0, 51
_CODECS: dict[str, Literal["r", "w"]] = {"libx265": "w", "hevc": "r"}
_BLOCK, _SMALLEST_SIDE = 8, 16  # limits of x265
_PIXEL_FORMATS: dict[Chroma, str] = {"4:4:4": "yuv444p", "4:2:0": "yuv420p"}
_START = b"\0\0\1"
# A single image (IDR_N_LP) in layer 0: all slices begin with this.
_SLICE_HEADER = bytes((20 << 1, 1))

# Constant QP: without ipratio=1 the QP of intra images is offset. Least squared error:
# psycho-visual options cost 0.6 dB, and bpgenc has none. One slice and one thread: bytes do not
# depend on the machine.
_X265 = (
    "qp={qp}:keyint=1:ipratio=1.0:psy-rd=0:psy-rdoq=0:info=0:repeat-headers=1:"
    "pools=none:wpp=0:frame-threads=1:slices=1:log-level=none"
)


class HEVCIntra(FileCodec):
    """HEVC intra image of constant QP, as in BPG (Bellard, 2014).

    Quality q is QP 51 - q. Images are 8-bit full-range YCbCr (see `ycbcr`), with x265's preset
    "slow"; edges are padded to multiples of 8, and to at least 16. With 4:2:0, chroma is averaged
    over 2x2 pixels and interpolated bicubically.

    Only the slice is sent, which contains the QP. The parameter sets depend on size and chroma
    alone; the receiver gets them from its own encoder. A BPG file has a header of about 12 bytes in
    place of the 4 bytes of checksum here.

    Args:
        chroma: "4:4:4", as in the published comparisons, or "4:2:0", the default of bpgenc.

    Raises:
        SourceUnavailable: PyAV is missing, or has no x265.
    """

    qualities = range(COARSEST_QP - FINEST_QP + 1)

    def __init__(self, chroma: Chroma = "4:4:4") -> None:
        if chroma not in _PIXEL_FORMATS:
            raise ValueError(f"chroma is {chroma!r}; it must be one of {', '.join(_PIXEL_FORMATS)}")
        _load_av()
        self.chroma = chroma
        self.name = "bpg" if chroma == "4:4:4" else f"bpg {chroma}"

    def write(self, image: Tensor, quality: int) -> bytes:
        """Write a raw HEVC stream."""
        av = _load_av()
        size = _coded_size((image.shape[-2], image.shape[-1]))
        pad = (0, size[1] - image.shape[-1], 0, size[0] - image.shape[-2])
        levels = _to_levels(F.pad(image[None], pad, mode="replicate")[0], self.chroma)
        frame = av.VideoFrame.from_ndarray(levels, format=_PIXEL_FORMATS[self.chroma])
        frame.pts = 0
        context = _open_encoder(size, self.chroma, COARSEST_QP - quality)
        return b"".join(bytes(packet) for packet in context.encode(frame) + context.encode(None))

    def strip(self, file: bytes, size: tuple[int, int], quality: int) -> bytes:  # noqa: ARG002
        """Keep the slice without its constant first bytes."""
        return file[len(self._header(size)) :]

    def restore(self, rest: bytes, size: tuple[int, int]) -> bytes:
        """Rebuild parameter sets and slice."""
        return self._header(size) + rest

    def read(self, file: bytes) -> Tensor:
        """Read a raw HEVC stream, with padding."""
        av = _load_av()
        context = av.CodecContext.create("hevc", "r")
        context.thread_count = 1
        context.options = {"err_detect": "explode"}
        try:
            frames = context.decode(av.Packet(file)) + context.decode(None)
        except av.FFmpegError as error:
            raise SourceError(f"{self.name}: not an HEVC stream ({error})") from error
        if len(frames) != 1 or frames[0].format.name != _PIXEL_FORMATS[self.chroma]:
            raise SourceError(f"{self.name}: not an HEVC stream of one {self.chroma} image")
        return _from_levels(frames[0].to_ndarray(), self.chroma)

    def _header(self, size: tuple[int, int]) -> bytes:
        return _parameter_sets(_coded_size(size), self.chroma) + _START + _SLICE_HEADER


def _load_av() -> ModuleType:
    try:
        import av  # noqa: PLC0415
    except ImportError as error:
        raise SourceUnavailable(
            "HEVC (BPG) needs PyAV: pip install 'diffjscc[digital]', or pip install av"
        ) from error
    for codec, mode in _CODECS.items():
        try:
            av.Codec(codec, mode)
        except ValueError as error:
            raise SourceUnavailable(
                f"this build of PyAV ({av.__version__}) has no {codec}, which HEVC (BPG) needs; "
                "the wheels on PyPI have it: pip install --force-reinstall --only-binary :all: av"
            ) from error
    return av


def _coded_size(size: tuple[int, int]) -> tuple[int, int]:
    """Compute the padded (H, W) of an image of (H, W)."""
    height, width = (max(padded_length(side, _BLOCK), _SMALLEST_SIDE) for side in size)
    return height, width


def _open_encoder(size: tuple[int, int], chroma: Chroma, qp: int) -> VideoCodecContext:
    av = _load_av()
    context: VideoCodecContext = av.CodecContext.create("libx265", "w")
    context.height, context.width = size
    context.pix_fmt = _PIXEL_FORMATS[chroma]
    context.time_base = Fraction(1, 25)
    context.thread_count = 1
    context.options = {"preset": "slow", "x265-params": _X265.format(qp=qp)}
    context.flags |= av.codec.context.Flags.global_header
    try:
        context.open()
    except av.FFmpegError as error:
        raise ValueError(
            f"x265 cannot code an image of {size[1]}x{size[0]} ({error.strerror}); resize it or "
            "cut it into parts"
        ) from error
    return context


@lru_cache(maxsize=256)
def _parameter_sets(size: tuple[int, int], chroma: Chroma) -> bytes:
    """Generate VPS, SPS and PPS of a padded (H, W) by x265, as both ends do."""
    return bytes(_open_encoder(size, chroma, COARSEST_QP).extradata or b"")


def _to_levels(image: Tensor, chroma: Chroma) -> NDArray[np.uint8]:
    """Convert RGB [3, H, W] to 8-bit planes in PyAV's layout of the chroma format."""
    planes = to_ycbcr(image)
    planes[1:] += 128 / 255
    if chroma == "4:4:4":
        return _round(planes)
    # Both chroma planes at half width below the luma: 3/2 H rows.
    colours = _round(halve(planes[1:])).reshape(-1, planes.shape[2])
    return np.concatenate((_round(planes[0]), colours))


def _round(planes: Tensor) -> NDArray[np.uint8]:
    return planes.mul(255).round().clamp(0, 255).to(torch.uint8).numpy()


def _from_levels(levels: NDArray[np.uint8], chroma: Chroma) -> Tensor:
    """Invert `_to_levels`, except for the rounding."""
    planes = torch.from_numpy(levels).float() / 255
    if chroma == "4:2:0":
        height, width = len(planes) * 2 // 3, planes.shape[1]
        colours = double(planes[height:].reshape(2, height // 2, width // 2))
        planes = torch.cat((planes[None, :height], colours))
    planes[1:] -= 128 / 255
    return to_rgb(planes)

"""BPG by the programs bpgenc and bpgdec, if installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from diffjscc.codecs.digital.source_codecs.hevc import COARSEST_QP, FINEST_QP
from diffjscc.codecs.digital.source_codecs.source import FileCodec, SourceError, SourceUnavailable
from diffjscc.codecs.digital.source_codecs.ycbcr import Chroma
from diffjscc.data.images import ImageError, load_image, save_image

_MAGIC = b"BPG\xfb"


class BPGPrograms(FileCodec):
    """BPG files (Bellard, 2014) by bpgenc and bpgdec on the PATH, as in published curves.

    Quality q is QP 51 - q; 8 bits, otherwise the defaults of bpgenc. A checksum replaces the magic
    number in the first 4 bytes: as many bytes are sent as the file has.

    Args:
        chroma: "4:4:4", as in the published comparisons, or "4:2:0", the default of bpgenc.

    Raises:
        SourceUnavailable: a program is not on the PATH.
    """

    qualities = range(COARSEST_QP - FINEST_QP + 1)

    def __init__(self, chroma: Chroma = "4:4:4") -> None:
        self._encoder, self._decoder = _find("bpgenc"), _find("bpgdec")
        self.chroma = chroma
        self.name = "bpgenc" if chroma == "4:4:4" else f"bpgenc {chroma}"

    def write(self, image: Tensor, quality: int) -> bytes:
        """Write a BPG file."""
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "image.png"), Path(folder, "image.bpg")
            save_image(image, source)
            settings = ["-q", str(COARSEST_QP - quality), "-f", self.chroma.replace(":", "")]
            try:
                _run([self._encoder, *settings, "-b", "8", "-o", str(target), str(source)])
                return target.read_bytes()
            except (subprocess.CalledProcessError, OSError) as error:
                raise ValueError(f"bpgenc wrote no image: {_reason(error)}") from error

    def read(self, file: bytes) -> Tensor:
        """Read a BPG file."""
        with tempfile.TemporaryDirectory() as folder:
            source, target = Path(folder, "image.bpg"), Path(folder, "image.png")
            source.write_bytes(file)
            try:
                _run([self._decoder, "-o", str(target), str(source)])
                return load_image(target)
            except (subprocess.CalledProcessError, OSError, ImageError) as error:
                raise SourceError(f"bpgdec read no image: {_reason(error)}") from error

    def strip(self, file: bytes, size: tuple[int, int], quality: int) -> bytes:  # noqa: ARG002
        """Remove the magic number."""
        return file[len(_MAGIC) :]

    def restore(self, rest: bytes, size: tuple[int, int]) -> bytes:  # noqa: ARG002
        """Prepend the magic number."""
        return _MAGIC + rest


def _find(program: str) -> str:
    path = shutil.which(program)
    if path is None:
        raise SourceUnavailable(
            f"{program} is not on the PATH; build libbpg and add its folder, or use the bundled "
            "HEVC intra codec, HEVCIntra"
        )
    return path


def _run(command: Sequence[str]) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True)


def _reason(error: Exception) -> str:
    """Return the last line of a failed program's stderr, or the error itself."""
    if isinstance(error, subprocess.CalledProcessError) and error.stderr.strip():
        return str(error.stderr.strip().splitlines()[-1])
    return str(error)

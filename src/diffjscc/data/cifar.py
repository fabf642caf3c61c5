"""Download of CIFAR-10: 60,000 images of 32x32 pixels, in its binary form, in which no code is."""

from __future__ import annotations

import tarfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.console import Console
from rich.progress import Progress

from diffjscc.data.download import DownloadError, download, mirrored
from diffjscc.data.files import atomic_write, new_folder

URL = "https://www.cs.toronto.edu/~kriz"
NAME = "cifar-10-binary.tar.gz"
SHA256 = "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd"
MIRROR = "DIFFJSCC_CIFAR10_URL"
_ROOT = "cifar-10-batches-bin"
_TRAINING, _TEST = tuple(f"data_batch_{n}.bin" for n in range(1, 6)), ("test_batch.bin",)
_RECORD = 1 + 3 * 32 * 32  # label, then the three colours, row by row
_LARGEST = 10_000 * _RECORD  # bytes of a batch


def fetch_cifar10(
    folder: str | Path,
    *,
    base_url: str | None = None,
    sha256: str = SHA256,
    attempts: int = 4,
    progress: bool = True,
) -> Path:
    """Download CIFAR-10 (170 MB), unless it is there.

    Args:
        folder: gets `train.npz`, uint8 [50000, 32, 32, 3] as "images", and `test`, a folder of
            10,000 PNG files.
        base_url: address of the folder of the archive; None takes that in the environment variable
            DIFFJSCC_CIFAR10_URL, or the public one.
        sha256: of the archive.
        attempts: attempts of the download.
        progress: whether to show a progress bar on stderr.

    Returns:
        `folder`.

    Raises:
        DownloadError: the archive could not be downloaded, or is not the one expected.
        OSError: the files cannot be written.
    """
    folder = Path(folder)
    training, test, archive = folder / "train.npz", folder / "test", folder / NAME
    if training.is_file() and test.is_dir():
        return folder
    base_url = mirrored(MIRROR, URL) if base_url is None else base_url
    with Progress(console=Console(stderr=True), disable=not progress) as bar:
        download(f"{base_url}/{NAME}", archive, sha256, progress=bar, attempts=attempts)
    try:
        batches = _read(archive)
        images = [np.concatenate([batches[name] for name in names]) for names in (_TRAINING, _TEST)]
    except (tarfile.TarError, EOFError, KeyError, ValueError, zlib.error) as error:
        raise DownloadError(
            f"{base_url}/{NAME}", archive, f"the archive cannot be read ({error}); delete it"
        ) from error
    if not training.is_file():
        with atomic_write(training) as temporary, temporary.open("wb") as file:
            np.savez(file, images=images[0])
    if not test.is_dir():
        width = len(str(len(images[1]) - 1))
        with new_folder(test) as new:
            for number, image in enumerate(images[1]):
                Image.fromarray(image).save(new / f"{number:0{width}}.png")
    archive.unlink()
    return folder


def _read(archive: Path) -> dict[str, NDArray[np.uint8]]:
    """Read the batches of the archive by name, uint8 [N, 32, 32, 3]; nothing is unpacked."""
    found = {}
    with tarfile.open(archive, "r:gz") as tar:
        for member in tar:
            root, _, name = member.name.rpartition("/")
            if root == _ROOT and name in (*_TRAINING, *_TEST) and member.isfile():
                file = tar.extractfile(member)
                assert file is not None
                records = np.frombuffer(file.read(_LARGEST), np.uint8).reshape(-1, _RECORD)
                planes = records[:, 1:].reshape(-1, 3, 32, 32)
                found[name] = np.ascontiguousarray(planes.transpose(0, 2, 3, 1))
    return found

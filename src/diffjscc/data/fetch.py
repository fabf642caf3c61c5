"""Download of the paper's data: Kodak for tests, a subset of OpenImages for training."""

from __future__ import annotations

import csv
import hashlib
import heapq
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Literal
from urllib.error import HTTPError

from rich.console import Console
from rich.progress import Progress

from diffjscc.data.download import DownloadError, download, is_complete, mirrored
from diffjscc.data.folders import FolderSource
from diffjscc.data.images import ImageError, read_pixels, to_bytes
from diffjscc.data.manifest import write_manifest

KODAK_URL = "http://r0k.us/graphics/kodak/kodak"
OPENIMAGES_URL = "https://open-images-dataset.s3.amazonaws.com"
OpenImagesSplit = Literal["train", "validation", "test"]
_LISTS = "https://storage.googleapis.com/openimages/2018_04"
OPENIMAGES_LISTS: dict[OpenImagesSplit, str] = {
    "train": f"{_LISTS}/train/train-images-boxable-with-rotation.csv",
    "validation": f"{_LISTS}/validation/validation-images-with-rotation.csv",
    "test": f"{_LISTS}/test/test-images-with-rotation.csv",
}
# A few missing files are normal; after so many consecutive errors the rest is not tried.
_REFUSED_IN_A_ROW = 100

# Environment variables that name mirrors.
KODAK_MIRROR, OPENIMAGES_MIRROR = "DIFFJSCC_KODAK_URL", "DIFFJSCC_OPENIMAGES_URL"


def pixel_hash(path: Path) -> tuple[int, int, str]:
    """Compute width, height and the SHA-256 of the decoded 8-bit RGB values of an image file."""
    pixels = to_bytes(read_pixels(path))
    return pixels.shape[1], pixels.shape[0], hashlib.sha256(pixels.tobytes()).hexdigest()


def _check_kodak(path: Path, expected: dict[str, int | str]) -> None:
    """Raise ValueError unless a file is a certain Kodak image."""
    _check_image(path)
    if pixel_hash(path) != (expected["width"], expected["height"], expected["sha256"]):
        raise ValueError("the server sent another file than this Kodak image")


def _check_image(path: Path) -> None:
    """Raise ValueError unless a downloaded file is an image."""
    try:
        read_pixels(path)
    except ImageError as error:
        raise ValueError(f"the file sent by the server {error.problem}") from error


def fetch_kodak(
    folder: str | Path,
    *,
    base_url: str | None = None,
    attempts: int = 4,
    progress: bool = True,
) -> list[Path]:
    """Download the 24 Kodak images, except those that exist and are intact.

    Pixels are checked, not files, so that the compression of the PNG files does not matter.

    Args:
        folder: folder for kodim01.png … kodim24.png; it is created.
        base_url: address of the folder of images; None takes that in the environment variable
            DIFFJSCC_KODAK_URL, or the public one.
        attempts: attempts per file.
        progress: whether to show a progress bar on stderr.

    Returns:
        The 24 paths.

    Raises:
        DownloadError: a file could not be downloaded, or is not the Kodak image of its name.
    """
    folder = Path(folder)
    base_url = mirrored(KODAK_MIRROR, KODAK_URL) if base_url is None else base_url
    known = json.loads(resources.files("diffjscc.data").joinpath("kodak.json").read_text())
    with Progress(console=Console(stderr=True), disable=not progress) as bar:
        for name, expected in bar.track(known.items(), description="Kodak"):
            check = partial(_check_kodak, expected=expected)
            download(f"{base_url}/{name}", folder / name, check=check, attempts=attempts)
    return [folder / name for name in known]


@dataclass(frozen=True)
class FetchedImages:
    """Result of `fetch_openimages`.

    Attributes:
        folder: folder of the images, ImageID.jpg.
        manifest: manifest of all images in the folder; see `read_manifest`.
        failed: reason by ImageID, for images that could not be downloaded.
    """

    folder: Path
    manifest: Path
    failed: dict[str, str]


def choose_images(image_list: Path, count: int) -> list[str]:
    """Choose `count` ImageIDs from an OpenImages list: those with the lowest SHA-256 of the ID.

    The choice is deterministic, and that of a smaller count is a subset of that of a larger one.

    Raises:
        ValueError: the file is not an OpenImages list, or is shorter than `count`.
    """

    def identifiers() -> Iterator[str]:
        with image_list.open(encoding="utf-8", newline="") as file:
            rows = csv.DictReader(file)
            if "ImageID" not in (rows.fieldnames or ()):
                raise ValueError(
                    f"{image_list} has no column ImageID; remove it, so that it is downloaded again"
                )
            for row in rows:
                if not row["ImageID"].isalnum():  # it becomes a file name
                    raise ValueError(
                        f'{image_list} has the invalid ImageID "{row["ImageID"]}"; '
                        "remove the file, so that it is downloaded again"
                    )
                yield row["ImageID"]

    if count < 1:
        raise ValueError(f"count is {count}; it must be at least 1")
    chosen = heapq.nsmallest(
        count, set(identifiers()), key=lambda name: hashlib.sha256(name.encode()).digest()
    )
    if len(chosen) < count:
        raise ValueError(f"count is {count}, but {image_list} lists {len(chosen)} images")
    return chosen


def fetch_openimages(
    folder: str | Path,
    split: OpenImagesSplit = "train",
    count: int = 154_000,
    *,
    list_url: str | None = None,
    base_url: str | None = None,
    validation_fraction: float = 0.01,
    threads: int = 16,
    attempts: int = 4,
    progress: bool = True,
) -> FetchedImages:
    """Download a subset of OpenImages; a repeated call downloads what is missing.

    The paper trains on 154,000 images and does not publish which; see `choose_images` for ours.
    The checksums of the list are of the originals, not of the copies served, so an image is
    accepted if it can be decoded, and the manifest records its hash.

    Args:
        folder: images are saved in `folder`/`split`, their manifest as `folder`/`split`.jsonl.
        split: split of OpenImages.
        count: number of images; 154,000 of the train split are about 45 GB.
        list_url: CSV with a column ImageID; None takes the public list (train: hundreds of MB), or
            the file of its name on the mirror.
        base_url: images are at `base_url`/`split`/ImageID.jpg; None takes the mirror that the
            environment variable DIFFJSCC_OPENIMAGES_URL names, or the public address.
        validation_fraction: fraction of validation images in the manifest.
        threads: parallel downloads; the same number of consecutive failures without a response
            ends the run.
        attempts: attempts per file.
        progress: whether to show a progress bar on stderr.

    Raises:
        DownloadError: the list cannot be downloaded, or the network or server fails for all images.
        ValueError: `count` is not from 1 to the length of the list, or the list is not valid.
        OSError: the disk is full or cannot be written.
    """
    folder = Path(folder)
    images = folder / split
    with Progress(console=Console(stderr=True), disable=not progress) as bar:
        public = OPENIMAGES_LISTS[split].rsplit("/", 1)
        list_url = list_url or f"{mirrored(OPENIMAGES_MIRROR, public[0])}/{public[1]}"
        base_url = base_url or mirrored(OPENIMAGES_MIRROR, OPENIMAGES_URL)
        image_list = folder / list_url.rsplit("/", 1)[-1]
        download(list_url, image_list, attempts=attempts, progress=bar)
        places = {
            f"{base_url}/{split}/{name}.jpg": images / f"{name}.jpg"
            for name in choose_images(image_list, count)
        }
        missing = {url: path for url, path in places.items() if not is_complete(path)}
        task = bar.add_task("OpenImages", total=count, completed=count - len(missing))
        failed: dict[str, str] = {}
        for path, error in _fetch_images(missing, threads, attempts):
            bar.advance(task)
            if error is not None:
                failed[path.stem] = error.reason
    if len(failed) == count:
        reason = next(iter(failed.values()))
        raise DownloadError(
            base_url, images, f"all {count} images failed, the first because {reason}"
        )
    manifest = folder / f"{split}.jsonl"
    write_manifest(FolderSource(images), manifest, validation_fraction, progress=progress)
    return FetchedImages(images, manifest, failed)


def _fetch_images(
    places: dict[str, Path], threads: int, attempts: int
) -> Iterator[tuple[Path, DownloadError | None]]:
    """Download images in parallel; yield each path with its error, or None.

    Raises:
        DownloadError: too many consecutive failures.
    """
    in_a_row = 0
    pool = ThreadPoolExecutor(threads, thread_name_prefix="fetch")
    try:
        futures = {
            pool.submit(download, url, path, check=_check_image, attempts=attempts): path
            for url, path in places.items()
        }
        for future in as_completed(futures):
            error = future.exception()
            if error is not None and not isinstance(error, DownloadError):
                raise error
            in_a_row = 0 if error is None else in_a_row + 1
            answered = error is not None and isinstance(error.__cause__, HTTPError | ValueError)
            if error is not None and in_a_row >= (_REFUSED_IN_A_ROW if answered else threads):
                reason = f"{error.reason}. That makes {in_a_row} consecutive failures"
                again = "run again to download what is missing"
                raise DownloadError(error.url, error.path, f"{reason}; {again}")
            yield futures[future], error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)

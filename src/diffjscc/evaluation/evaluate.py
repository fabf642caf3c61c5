"""Evaluation of one scheme from Python: images in, records out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any, overload

import numpy as np
from torch import Tensor

from diffjscc.arrays import ImageInput, as_images
from diffjscc.checks import check_count
from diffjscc.choices import DEFAULT_METRICS
from diffjscc.data.datasets import Dataset, image_of
from diffjscc.data.images import quantise
from diffjscc.data.search import find_images, unique_stems
from diffjscc.evaluation.attempts import attempt
from diffjscc.evaluation.images import SourceImage
from diffjscc.evaluation.measures import load_evaluator
from diffjscc.evaluation.records import Absent, Record
from diffjscc.evaluation.transmission import Delivery, Link
from diffjscc.metrics.catalogue import Metric
from diffjscc.protocols import Channel
from diffjscc.scheme import Scheme

Images = str | Path | ImageInput | Dataset | Iterable[str | Path | ImageInput]


@dataclass(frozen=True)
class Records(Sequence[Record]):
    """Records of an evaluation, in order.

    `pandas.DataFrame(records.as_dicts())` is a table of them.

    Attributes:
        records: one per transmission.
        absent: transmissions that failed, and images that a digital link cannot send.
    """

    records: tuple[Record, ...]
    absent: tuple[Absent, ...] = ()

    def __len__(self) -> int:
        return len(self.records)

    @overload
    def __getitem__(self, index: int) -> Record: ...
    @overload
    def __getitem__(self, index: slice) -> Records: ...
    def __getitem__(self, index: int | slice) -> Record | Records:
        if isinstance(index, slice):
            return Records(self.records[index], self.absent)
        return self.records[index]

    def as_dicts(self) -> list[dict[str, Any]]:
        """Plain values, a dict per transmission, see `Record.as_flat_dict`."""
        return [record.as_flat_dict() for record in self.records]


def evaluate(
    scheme: Scheme,
    images: Images,
    channel: Channel | Callable[[float], Channel],
    *,
    snrs_db: float | Sequence[float] | None = None,
    repeats: int = 1,
    seed: int = 0,
    metrics: Sequence[str | Metric] = DEFAULT_METRICS,
    name: str = "",
) -> Records:
    """Transmit images and measure what arrives.

    The noise of a transmission depends on the seed, the image and the repeat alone: it is the same
    for every scheme, and the same as in `diffjscc evaluate`.

    Args:
        scheme: codec at one rate, with or without a refiner; computes on its own device.
        images: files, folders or glob patterns; tensors, arrays or PIL images, see `as_images`; or
            a list or dataset of these, of any sizes. Values are rounded to 8 bits.
        channel: one at an SNR of its own, or a function of the SNR in dB, such as the class `AWGN`.
        snrs_db: mean Es/N0 in dB, one or several; only, and always, with a function of it.
        repeats: transmissions of each image, with other noise each.
        seed: of the noise and fades.
        metrics: names, see `metrics.catalogue.METRICS`; import strings; or functions, see
            `metrics.catalogue.custom_metric`. Those without their weights are left out with a
            warning.
        name: of the scheme in records; the codec's class if empty.

    Returns:
        A record per transmission: by SNR, then image, then repeat. As in `diffjscc evaluate`, one
        that fails does not end the others: it is among `Records.absent`, and a warning names it.

    Raises:
        InfeasibleError: a digital link cannot send any of the images at any of the SNRs.
        TypeError: an image is of a type that cannot be read.
        ValueError: images or metrics that cannot be had, or SNRs that do not fit the channel.
        Exception: that of the first transmission, if all fail.
    """
    check_count(repeats, "repeats")
    evaluator, unavailable = load_evaluator(metrics, scheme.device)
    for reason in unavailable.values():
        warnings.warn(str(reason), stacklevel=2)
    sources = _sources(images)
    if not sources:
        raise ValueError("there are no images; give at least one")
    records: list[Record] = []
    absent: list[Absent] = []
    errors: list[Exception] = []
    for (snr_db, at_snr), source in product(_channels(channel, snrs_db), sources):
        link = Link(
            name=name or type(scheme.codec).__name__,
            scheme=scheme,
            channel=at_snr,
            channel_label=type(at_snr).__name__.lower(),
            snr_db=snr_db,
            seed=seed,
            evaluator=evaluator,
            device=scheme.device,
        )
        for _, outcome in attempt(link, [source].__getitem__, [0], range(repeats)):
            if isinstance(outcome, Delivery):
                records.append(outcome.record)
            else:
                errors.append(outcome.error)
                own = at_snr.sample_state(1, source.generator(seed, 0)).mean_snr_db
                point = link.point(float(own) if snr_db is None else snr_db)
                absent.append(outcome.at(point, source.name))
    if not records:
        raise errors[0]
    if absent:
        first = absent[0]
        warnings.warn(
            f"{len(absent)} transmissions have no record, see Records.absent; the first was "
            f"{first.image} by {first.point}: {first.reason}",
            stacklevel=2,
        )
    return Records(tuple(records), tuple(absent))


def _channels(
    channel: Channel | Callable[[float], Channel], snrs_db: float | Sequence[float] | None
) -> list[tuple[float | None, Channel]]:
    """The channel at each SNR; None stands for a channel's own SNR."""
    if isinstance(channel, type) or not hasattr(channel, "sample_state"):
        if snrs_db is None:
            raise ValueError("the channel is a function of the SNR; give snrs_db, in dB")
        levels = [snrs_db] if isinstance(snrs_db, int | float) else snrs_db
        return [(float(level), channel(float(level))) for level in levels]
    if snrs_db is not None:
        raise ValueError(
            f"snrs_db is {snrs_db}, but the channel has an SNR of its own; leave snrs_db out, or "
            "give a function of the SNR as the channel"
        )
    return [(None, channel)]  # type: ignore[list-item]


def _sources(images: Images) -> list[SourceImage]:
    """Read or convert images of any kind."""
    if isinstance(images, str | Path):
        paths = find_images([str(images)])
        return [SourceImage.read(*pair) for pair in zip(paths, unique_stems(paths), strict=True)]
    if isinstance(images, Tensor | np.ndarray):
        return _converted(images, 0)
    if isinstance(images, Dataset):
        images = [images[index] for index in range(len(images))]
    if not isinstance(images, Iterable):
        return _converted(images, 0)
    sources: list[SourceImage] = []
    for image in images:
        if isinstance(image, str | Path):
            sources += _sources(image)
        else:  # an item of a dataset may hold its image among other things
            held = image_of(image) if isinstance(image, Mapping | tuple) else image
            sources += _converted(held, len(sources))
    return sources


def _converted(image: Any, first: int) -> list[SourceImage]:  # noqa: ANN401 - checked by as_images
    """Convert one image, or one batch, numbered from `first`."""
    batch = quantise(as_images(image, "cpu"))
    return [SourceImage(f"image {first + number}", pixels) for number, pixels in enumerate(batch)]

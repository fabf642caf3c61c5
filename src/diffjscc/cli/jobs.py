"""Image files in, image files and records out: the work of `diffjscc transmit`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, Protocol, TypeVar

import torch
from torch import Tensor

from diffjscc.cli.inputs import Input
from diffjscc.data.files import identity
from diffjscc.data.images import save_image
from diffjscc.evaluation.images import SourceImage
from diffjscc.evaluation.records import Record
from diffjscc.evaluation.transmission import Link
from diffjscc.evaluation.uncertainty import colours, disagreement
from diffjscc.memory import memory_error
from diffjscc.metrics.catalogue import MetricInfo
from diffjscc.metrics.evaluator import Metrics
from diffjscc.report.panels import side_by_side
from diffjscc.report.uncertainty import map_label, uncertainty_image

Line_co = TypeVar("Line_co", covariant=True)


# Called after every transmission, with its record if there is one.
Sent = Callable[[Record | None], None]


class Sending(Protocol[Line_co]):
    """A way to send files."""

    @property
    def links(self) -> Sequence[Link]:
        """Links that each file is sent over."""
        ...

    @property
    def repeats(self) -> int:
        """Transmissions of each file over each link."""
        ...

    @property
    def output(self) -> Path:
        """Folder of the files that are written."""
        ...

    def files(self, stem: str) -> list[Path]:
        """List all that is written for a file of this stem."""
        ...

    def send(self, source: SourceImage, stem: str, sent: Sent) -> Sequence[Line_co]:
        """Transmit an image and list its transmissions; `sent` gets the record of each."""
        ...


@dataclass(frozen=True)
class Job:
    """Files to send by one scheme.

    Attributes:
        link: scheme and channel.
        repeats: transmissions per image.
        output: folder of the images.
        samples: images to sample from each transmission, at least 2, for a map of their
            disagreement; None goes without.
        suffix: of the files' names, after the image's, see `choice.Point`.

    Raises:
        ValueError: samples are asked for, but the refiner does not sample.
    """

    link: Link
    repeats: int
    output: Path
    samples: int | None = None
    suffix: str = ""

    def __post_init__(self) -> None:
        if self.samples is not None and self.link.sampler is None:
            raise ValueError(
                "--uncertainty compares samples of a diffusion receiver, but "
                f"{self.link.scheme.provenance} goes without one; leave the option out, or "
                "--refiner none, or take weights that have one (compact)"
            )

    @property
    def links(self) -> Sequence[Link]:
        """The only one."""
        return (self.link,)

    def files(self, stem: str) -> list[Path]:
        """STEM.png (STEM-2.png, …), …-initial.png, …-uncertainty.png, STEM-side-by-side.png."""
        stem += self.suffix
        kinds = [""]
        if self.link.scheme.refiner is not None:
            kinds.append("-initial")
        if self.samples is not None:
            kinds.append("-uncertainty")
        stems = [self._name(stem, repeat) for repeat in range(self.repeats)]
        names = [f"{name}{kind}" for kind in kinds for name in stems]
        return [self.output / f"{name}.png" for name in (*names, f"{stem}-side-by-side")]

    def send(self, source: SourceImage, stem: str, sent: Sent) -> list[Record]:
        """Transmit an image; `sent` gets the record of each transmission."""
        stem += self.suffix
        records = []
        # One by one: a batch's rounding may differ in the last bit, and then metrics would too.
        for repeat in range(self.repeats):
            place = self.output / self._name(stem, repeat)

            def save(kind: str, _: int, levels: Tensor, place: Path = place) -> None:
                save_image(levels, Path(f"{place}{'-initial' if kind == 'initial' else ''}.png"))

            (delivery,) = self.link.transmit([source], [repeat], arrived=save)
            records.append(delivery.record)
            initial, final = delivery.initial_levels, delivery.final_levels
            panels = [source.stored, *([] if initial is None else [initial]), final]
            words = labels(delivery.record, self.link.evaluator.infos)
            if self.samples is not None and initial is not None:
                spread = disagreement(self.link.samples(source, repeat, self.samples))
                save_image(uncertainty_image(spread), Path(f"{place}-uncertainty.png"))
                panels.append(colours(spread))
                words.append(map_label(spread, self.samples, not torch.equal(initial, final)))
            if repeat == 0:
                sheet = side_by_side(panels, words)
                save_image(sheet, self.output / f"{stem}-side-by-side.png")
            sent(delivery.record)
        return records

    @staticmethod
    def _name(stem: str, repeat: int) -> str:
        return stem if repeat == 0 else f"{stem}-{repeat + 1}"


@dataclass(frozen=True)
class Jobs(Generic[Line_co]):
    """Files to send at several operating points, an image at all of them after the other.

    Attributes:
        jobs: one a point; their files have other names.
    """

    jobs: Sequence[Sending[Line_co]]

    @property
    def links(self) -> Sequence[Link]:
        """Links of all points."""
        return [link for job in self.jobs for link in job.links]

    @property
    def repeats(self) -> int:
        """Transmissions of each file over each link."""
        return self.jobs[0].repeats

    @property
    def output(self) -> Path:
        """Folder of the files that are written."""
        return self.jobs[0].output

    def files(self, stem: str) -> list[Path]:
        """List the files of all points."""
        return [path for job in self.jobs for path in job.files(stem)]

    def send(self, source: SourceImage, stem: str, sent: Sent) -> Sequence[Line_co]:
        """Transmit an image at all points; `sent` gets the record of each transmission."""
        return [line for job in self.jobs for line in job.send(source, stem, sent)]


@dataclass(frozen=True)
class Single:
    """Final images of one link, delivered one after the other in place of written files.

    Attributes:
        link: scheme and channel.
        output: file that they go to, for messages.
        deliver: gets each final image, 8-bit levels uint8 [3, H, W].
    """

    link: Link
    output: Path
    deliver: Callable[[Tensor], None]
    repeats: int = 1

    @property
    def links(self) -> Sequence[Link]:
        """The only one."""
        return (self.link,)

    def files(self, stem: str) -> list[Path]:
        """No files are written for an image alone."""
        del stem
        return []

    def send(self, source: SourceImage, stem: str, sent: Sent) -> list[Record]:
        """Transmit an image; `sent` gets the record."""
        del stem
        (delivery,) = self.link.transmit([source], [0])
        self.deliver(delivery.final_levels)
        sent(delivery.record)
        return [delivery.record]


def labels(record: Record, metrics: Sequence[MetricInfo]) -> list[str]:
    """Label the original, the initial image, if there is one, and the final image."""
    original = f"original, {record.width}x{record.height}"
    link = f"{record.channel_uses} symbols (R = {record.nominal_rate}) at {record.snr_db:.1f} dB"
    final = metrics_text(record.metrics, metrics)
    if record.initial_metrics is None:
        return [original, f"{link}, {final}"]
    sampling = ""
    if record.sampler is not None:
        steps = record.num_inference_steps
        sampling = f", {record.sampler} in {steps} step{'' if steps == 1 else 's'}"
    caption = "" if record.caption is None else f', conditioned on "{record.caption}"'
    return [
        original,
        f"initial image: {link}, {metrics_text(record.initial_metrics, metrics)}",
        f"final image{sampling}{caption}: {final}",
    ]


def metrics_text(values: Metrics, metrics: Sequence[MetricInfo]) -> str:
    """List the values that there are, such as "PSNR 21.50 dB, LPIPS 0.431"."""
    found = [(info, values.get(info.name)) for info in metrics]
    return ", ".join(info.text(value) for info, value in found if value is not None)


def check_outputs(files: Sequence[Path], inputs: Sequence[Path]) -> None:
    """Check that nothing would be overwritten.

    Args:
        files: that are written.
        inputs: files that are read.

    Raises:
        ValueError: two of the files, or a file and an input, would be one.
    """
    places = [identity(file) for file in files]
    times = Counter(places) + Counter({identity(path) for path in inputs})
    for file, place in zip(files, places, strict=True):
        if times[place] > 1:
            raise ValueError(
                f"{file} would be overwritten; choose another folder to write to, rename images, "
                "or send them one at a time"
            )


def transmit_files(
    job: Sending[Line_co], inputs: Sequence[Input], sent: Sent
) -> Iterator[tuple[Input, Sequence[Line_co] | ValueError | OSError | MemoryError]]:
    """Send every image; one that fails yields its error and does not stop the others."""
    for one in inputs:
        try:
            for folder in {file.parent for file in job.files(one.stem)}:
                folder.mkdir(parents=True, exist_ok=True)
            yield one, job.send(one.read(), one.stem, sent)
        except BrokenPipeError:
            raise  # nobody reads standard output any more
        except (ValueError, OSError) as error:
            yield one, error
        except (MemoryError, RuntimeError) as error:
            full = memory_error(error)
            if full is None:
                raise
            yield one, full

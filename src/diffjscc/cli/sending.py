"""Sending of all images of `diffjscc transmit`: outputs checked, progress, records, the table."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from rich.markup import escape
from rich.progress import Progress
from torch import Tensor

from diffjscc.cli.choice import Point
from diffjscc.cli.inputs import Input
from diffjscc.cli.jobs import Sending, check_outputs, transmit_files
from diffjscc.cli.paths import STDOUT
from diffjscc.cli.record_file import RecordFile
from diffjscc.cli.tables import print_metrics
from diffjscc.cli.terminal import in_one_line, printed, show_steps, show_work, stderr, stdout
from diffjscc.data.clip_names import is_clip_output
from diffjscc.data.clip_writer import check_clip_output, writing_clip
from diffjscc.data.images import to_png
from diffjscc.evaluation.records import Absent, Record
from diffjscc.metrics.catalogue import undefined
from diffjscc.metrics.evaluator import Metrics

DEFAULT_RATE = Fraction(25)  # frames per second of a clip of single images

Failed = list[tuple[Input, Exception]]


def is_single(output: Path) -> bool:
    """Return whether final images go into one place, a clip or standard output, not a folder."""
    return output == STDOUT or is_clip_output(output)


def check_single(output: Path, inputs: Sequence[Input], times: int) -> None:
    """Check that what is sent fits into one place.

    Args:
        output: a clip, or standard output.
        inputs: images to send.
        times: final images of each.

    Raises:
        ValueError: it does not.
    """
    place = "standard output (-)" if output == STDOUT else str(output)
    if times > 1:
        raise ValueError(
            f"{place} takes one final image of each that is sent, not {times}; give one --snr, "
            "--rate, --channel and --scheme and no --repeats, or write to a folder"
        )
    if output != STDOUT:
        clips = [one.clip for one in inputs if one.clip is not None]
        if clips:
            check_clip_output(output, len(inputs), clips[0].size)
        return
    if len(inputs) > 1:
        raise ValueError(f"{place} takes one image, not {len(inputs)}; write to a folder")
    if sys.stdout is None or sys.stdout.isatty():
        raise ValueError(f"{place} is a terminal or closed; pipe it into a file or a program")


@contextmanager
def delivering(output: Path, inputs: Sequence[Input]) -> Iterator[Callable[[Tensor], None]]:
    """Provide a function that puts final images into a clip or standard output."""
    if output != STDOUT:
        output.parent.mkdir(parents=True, exist_ok=True)
        clip = next((one.clip for one in inputs if one.clip is not None), None)
        with writing_clip(output, DEFAULT_RATE if clip is None else clip.rate) as add:
            yield add
        return
    file, sys.stdout = sys.stdout, sys.stderr  # for whoever prints: nothing else may be in it

    def write(levels: Tensor) -> None:
        file.buffer.write(to_png(levels))
        file.buffer.flush()

    try:
        yield write
    finally:
        sys.stdout = file


def check_sure_outputs(
    inputs: Sequence[Input],
    output: Path,
    places: Sequence[Point],
    choices: Sequence[object],
    json_file: Path | None,
) -> None:
    """Check the files whose names are known before anything is loaded; `send_all` checks all."""
    files = [] if json_file is None else [json_file]
    if not is_single(output):
        kinds = ["-side-by-side", *([] if choices else [""])]
        stems = [f"{one.stem}{place.suffix}" for one in inputs for place in places]
        files += [output / f"{stem}{kind}.png" for stem in stems for kind in kinds]
    elif output != STDOUT:
        files.append(output)
    check_outputs(files, _read(inputs))


def send_all(
    job: Sending[Record | Absent], inputs: Sequence[Input], json_file: Path | None
) -> tuple[bool, Failed]:
    """Send images and say what came of it.

    Args:
        job: the way to send each.
        inputs: the images.
        json_file: gets a record of each transmission.

    Returns:
        Whether anything was sent, and which images failed.
    """
    written = [file for one in inputs for file in job.files(one.stem)]
    check_outputs([*written, *([] if json_file is None else [json_file])], _read(inputs))
    each = job.repeats * len(job.links)
    records: list[Record] = []
    absent: list[Absent] = []
    failed: Failed = []
    try:
        with (
            nullcontext() if json_file is None else RecordFile(json_file) as file,
            Progress(console=stderr, transient=True) as progress,
            show_work(progress),
        ):
            task = progress.add_task("transmitting", total=len(inputs) * each)
            show_steps([link.sampler for link in job.links], progress)

            def sent(record: Record | None) -> None:
                if record is not None:
                    records.append(record)
                    if file is not None:
                        file.add(record)
                progress.advance(task)

            for number, (one, outcome) in enumerate(transmit_files(job, inputs, sent), 1):
                if isinstance(outcome, Exception):
                    failed.append((one, outcome))
                else:
                    absent += [line for line in outcome if isinstance(line, Absent)]
                progress.update(task, completed=number * each)
    finally:  # after Ctrl-C as well
        if records:
            _show(job, records, inputs)
    for missing in absent:
        text = f"{escape(missing.scheme)} cannot send[/] {escape(missing.image)}: "
        stderr.print(f"[yellow]{text}{escape(missing.reason)}", soft_wrap=True)
    return bool(records), failed


def show_failed(failed: Failed) -> None:
    """Say which images failed, a line each."""
    for one, error in failed:
        text = in_one_line(error)
        named = "" if text.startswith(f"{one.name}: ") else f"{printed(one.name)}: "
        stderr.print(f"[bold red]failed:[/] {named}{escape(text)}", soft_wrap=True)


def _read(inputs: Sequence[Input]) -> list[Path]:
    """The files that are read, each once."""
    return list(dict.fromkeys(one.file for one in inputs))


def _show(
    job: Sending[Record | Absent], records: Sequence[Record], inputs: Sequence[Input]
) -> None:
    """Print the table of metrics, notes on it, and the place of the images."""
    console = stderr if job.output == STDOUT else stdout
    infos = job.links[0].evaluator.infos
    compared = len({link.name for link in job.links}) > 1
    clips = {one.name: one.clip.name for one in inputs if one.clip is not None}
    print_metrics(console, _means_of_clips(records, clips), infos, compared)
    sizes = list({one.image: (one.height, one.width) for one in records}.values())
    for sentence in undefined([info.name for info in infos], sizes):
        stderr.print(f"[yellow]without[/] {escape(sentence)}", soft_wrap=True)
    if job.output != STDOUT:
        console.print(f"images are in {printed(job.output)}", soft_wrap=True)


def _means_of_clips(records: Sequence[Record], clips: dict[str, str]) -> list[Record]:
    """Put the mean of its frames in the place of the records of a clip.

    Args:
        records: of images and frames.
        clips: name of the clip of each frame, by the frame's name.
    """
    groups: dict[object, list[Record]] = {}
    for record in records:
        clip = clips.get(record.image)
        key = (record.point, record.repeat, record.image if clip is None else (clip,))
        groups.setdefault(key, []).append(record)
    shown = []
    for frames in groups.values():
        clip = clips.get(frames[0].image)
        if clip is None:
            shown += frames
            continue
        initial = [one.initial_metrics for one in frames if one.initial_metrics is not None]
        shown.append(
            replace(
                frames[0],
                image=f"{clip} ({len(frames)} frames)",
                snr_db=math.fsum(one.snr_db for one in frames) / len(frames),
                metrics=_means([one.metrics for one in frames]),
                initial_metrics=_means(initial) if initial else None,
                seconds=math.fsum(one.seconds for one in frames) / len(frames),
                outage=all(one.outage for one in frames) or None,
            )
        )
    return shown


def _means(metrics: Sequence[Metrics]) -> Metrics:
    """Mean of every metric over those frames that it is defined for."""
    values = {name: [one[name] for one in metrics] for name in metrics[0]}
    defined = {name: [v for v in every if v is not None] for name, every in values.items()}
    return {name: math.fsum(v) / len(v) if v else None for name, v in defined.items()}

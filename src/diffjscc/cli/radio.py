"""`diffjscc send` and `diffjscc receive`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer
from rich.markup import escape

from diffjscc.choices import DatatypeName, SamplerName, WaveformName
from diffjscc.cli import paths, shared
from diffjscc.cli.terminal import report_errors, stderr, stdout

if TYPE_CHECKING:
    from collections.abc import Sequence

    from diffjscc.radio.captures import Capture

WAVEFORM_NAMES = ", ".join(get_args(WaveformName))
ENDPOINTS = "zmq://HOST:PORT (GNU Radio's PUB and SUB blocks) or soapy://DRIVER"


def send(
    images: shared.Images,
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", help=f"NAME.sigmf-data, raw samples (.cf32, .ci16), or {ENDPOINTS}."
        ),
    ],
    scheme: shared.SentScheme = "deepjscc",
    weights: shared.EncoderWeights = "compact",
    rate: shared.Rate = "1/128",
    snr: shared.AssumedSNR = 10.0,
    waveform: Annotated[WaveformName, typer.Option(help=f"{WAVEFORM_NAMES}.")] = "ofdm-64",
    sample_rate: Annotated[float, typer.Option(help="Samples per second.")] = 1e6,
    center_frequency: Annotated[float | None, typer.Option(help="Of the carrier, in Hz.")] = None,
    datatype: Annotated[
        DatatypeName | None, typer.Option(help="Of SigMF files; cf32_le by default.")
    ] = None,
    gap: Annotated[int, typer.Option(min=0, help="Silent samples around frames.")] = 1000,
    papr_limit: Annotated[
        float | None, typer.Option(help="Limit amplitudes to so many dB above the mean power.")
    ] = None,
    mcs: Annotated[str | None, typer.Option(help="Digital links: such as 'bpsk 2/3'.")] = None,
    quality: Annotated[int | None, typer.Option(help="Digital links: of the source codec.")] = None,
    downsample: Annotated[bool, typer.Option(help="Digital links: also try fewer pixels.")] = False,
    device: shared.Device = "auto",
    json_file: Annotated[
        Path | None,
        paths.option(paths.output_file, "--json", help="Write a record of every frame here."),
    ] = None,
) -> None:
    """Send images as radio frames: to an IQ file, a stream or a device."""
    with report_errors():
        from diffjscc.cli.air import Air, build_frames  # noqa: PLC0415
        from diffjscc.configuration import check  # noqa: PLC0415
        from diffjscc.data.search import find_images  # noqa: PLC0415
        from diffjscc.radio.sigmf_files import datatype_for, write_recording  # noqa: PLC0415
        from diffjscc.radio.streams import is_endpoint, send_stream  # noqa: PLC0415
        from diffjscc.schemes.air import Transmitter  # noqa: PLC0415
        from diffjscc.schemes.digital_options import DigitalOptions  # noqa: PLC0415
        from diffjscc.schemes.options import given  # noqa: PLC0415

        _check_rate(sample_rate)
        if papr_limit is not None and not 0 <= papr_limit <= 60:
            raise ValueError(f"--papr-limit is {papr_limit}; it must be between 0 and 60 dB")
        streamed = is_endpoint(output)
        target = Path() if streamed else paths.output_file(output)
        kind = "cf32_le" if streamed else datatype_for(target, datatype)
        found = find_images(images)
        if not streamed:
            paths.check_apart(target, "--output", found)
        paths.check_apart(json_file, "--json", found)
        said = given({"mcs": mcs, "quality": quality, "downsample": downsample or None})
        digital = check(DigitalOptions, said, "--scheme")
        transmitter = Transmitter.load(scheme, weights, rate, digital, device)
        air = Air(waveform, snr, sample_rate, gap, papr_limit)
        samples, notes, rows = build_frames(transmitter, found, air)
        if streamed:
            send_stream(output, samples, sample_rate, center_frequency)
            written = [output]
        else:
            files = write_recording(target, samples, sample_rate, center_frequency, kind, notes)
            written = [str(file) for file in files]
        if json_file is not None:
            _write_json(rows, json_file)
        for row in rows:
            uses = row["uses_by_kind"]
            overhead = 1 - uses["image"] / sum(uses.values())
            stdout.print(
                f"{escape(row['image'])}: {row['header']['symbols']:,} symbols in "
                f"{1e3 * row['seconds']:.2f} ms, overhead {overhead:.0%}",
                soft_wrap=True,
            )
        stdout.print(f"sent to {escape(', '.join(written))}", soft_wrap=True)


def receive(
    capture: Annotated[
        str, paths.argument(paths.place, f"SigMF recording, raw samples, or {ENDPOINTS}.")
    ],
    output: Annotated[
        Path, paths.option(paths.output_folder, "--output", "-o", help="Folder for the images.")
    ],
    weights: shared.ReceiverWeights = ["compact"],  # noqa: B006 - typer copies it
    scheme: shared.ReceivedScheme = None,
    refiner: shared.ReceiverRefiner = None,
    sampler: Annotated[SamplerName | None, typer.Option(help="Of the diffusion receiver.")] = None,
    steps: Annotated[int | None, typer.Option(help="Steps from pure noise.")] = None,
    sample_rate: Annotated[
        float | None, typer.Option(help="Samples per second, of raw samples and streams.")
    ] = None,
    center_frequency: Annotated[
        float | None, typer.Option(help="Of the carrier, in Hz; for devices.")
    ] = None,
    datatype: Annotated[DatatypeName | None, typer.Option(help="Of raw samples.")] = None,
    seconds: Annotated[float, typer.Option(help="Longest time to listen to a stream.")] = 30.0,
    seed: shared.SamplingSeed = 0,
    device: shared.Device = "auto",
    json_file: Annotated[
        Path | None,
        paths.option(
            paths.output_file, "--json", help="Record of all frames; OUTPUT/frames.json by default."
        ),
    ] = None,
    plot: Annotated[
        Path | None, paths.option(paths.output_file, "--plot", help="Figure of the first frame.")
    ] = None,
) -> None:
    """Find the frames in a capture and write their images.

    Images are OUTPUT/frame-0000.png, and so on. Nothing but samples and weights is given: timing,
    carrier, channel, noise and the frames' contents are estimated, and written to the record.
    """
    with report_errors():
        from diffjscc.radio.sigmf_files import open_recording  # noqa: PLC0415
        from diffjscc.radio.streams import is_endpoint, record_stream  # noqa: PLC0415
        from diffjscc.schemes.air import ReceiverSchemes  # noqa: PLC0415
        from diffjscc.schemes.options import RefinerOptions  # noqa: PLC0415

        options = RefinerOptions(sampler=sampler, num_inference_steps=steps)
        if not is_endpoint(capture):
            paths.check_apart(json_file, "--json", [Path(capture)])
            paths.check_apart(plot, "--plot", [Path(capture)])
            recording = open_recording(Path(capture), sample_rate, datatype)
            schemes = ReceiverSchemes(weights, scheme, refiner, options, device)
            rows = _receive(recording.capture, schemes, recording.sample_rate, output, seed, plot)
        else:
            rate = _check_rate(1e6 if sample_rate is None else sample_rate)
            schemes = ReceiverSchemes(weights, scheme, refiner, options, device)
            with record_stream(capture, rate, center_frequency, seconds) as recorded:
                rows = _receive(recorded, schemes, rate, output, seed, plot)
        _write_json(rows, output / "frames.json" if json_file is None else json_file)
    received = sum("files" in row for row in rows)
    if not rows:
        stderr.print(
            "[yellow]no frame was found[/]: wrong sample rate, another waveform or too much noise",
            soft_wrap=True,
        )
    elif not received:
        stderr.print("[yellow]no image could be decoded[/]; see the frames above", soft_wrap=True)
    if not received:
        raise typer.Exit(1)


def _receive(
    capture: Capture,
    schemes: Any,  # noqa: ANN401 - ReceiverSchemes, which takes seconds to import
    sample_rate: float,
    output: Path,
    seed: int,
    plot: Path | None,
) -> list[dict[str, Any]]:
    """Receive all frames, and say what came of each."""
    from diffjscc.cli.air import Reception, receive_images  # noqa: PLC0415
    from diffjscc.radio.receiver import ReceivedFrame  # noqa: PLC0415

    output.mkdir(parents=True, exist_ok=True)
    first: list[ReceivedFrame] = []
    rows = []
    settings = Reception(schemes, output, sample_rate, seed)
    for row in receive_images(capture, settings, lambda f: None if first else first.append(f)):
        rows.append(row)
        words = f"frame {row['frame']} at sample {row['start']:,}: {row['status']}"
        if "snr_db" in row:
            words += f", {row['snr_db']:.1f} dB, carrier {row['carrier_offset_hz']:+.1f} Hz"
        words += f": {row['reason']}" if "reason" in row else ""
        words += f": {', '.join(row['files'])}" if "files" in row else ""
        stdout.print(escape(words), soft_wrap=True)
    if plot is not None and first:
        from diffjscc.report.link import save_link_figure  # noqa: PLC0415

        save_link_figure(first[0], capture, sample_rate, plot)
    return rows


def _check_rate(sample_rate: float) -> float:
    if not 0 < sample_rate < 1e12:
        raise ValueError(f"--sample-rate is {sample_rate}; it must be above 0 and below 1e12 Hz")
    return sample_rate


def _write_json(rows: Sequence[dict[str, Any]], path: Path) -> None:
    """Write rows as a JSON array, one a line."""
    from diffjscc.data.files import atomic_write  # noqa: PLC0415

    lines = [json.dumps(row) for row in rows]
    with atomic_write(path) as temporary:
        temporary.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")

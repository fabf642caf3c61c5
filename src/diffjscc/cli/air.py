"""Work of `diffjscc send` and `diffjscc receive`: images to frames, and frames to images."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from diffjscc.data.images import load_image, save_image
from diffjscc.radio.captures import Capture
from diffjscc.radio.frame import Layout, frame_samples
from diffjscc.radio.front_end import clipped
from diffjscc.radio.presets import WAVEFORMS, papr_db
from diffjscc.radio.receiver import LostFrame, ReceivedFrame, receive_frames
from diffjscc.radio.sigmf_files import Annotation
from diffjscc.scheme import Scheme
from diffjscc.schemes.air import (
    ReceiverSchemes,
    Transmitter,
    UnknownSchemeError,
    as_array,
    header_as_dict,
)
from diffjscc.symbols import Received

Complex = NDArray[np.complex64]
Row = dict[str, Any]


@dataclass(frozen=True)
class Air:
    """Settings of what is sent.

    Attributes:
        waveform: name in `WAVEFORMS`.
        snr_db: Es/N0 in dB that the encoder assumes.
        sample_rate: in Hz.
        gap: silent samples before, between and after frames.
        papr_limit_db: amplitudes are limited to this above the mean power; None: not.
    """

    waveform: str
    snr_db: float
    sample_rate: float
    gap: int
    papr_limit_db: float | None = None


def build_frames(
    transmitter: Transmitter, paths: Sequence[Path], air: Air
) -> tuple[Complex, list[Annotation], list[Row]]:
    """Encode images and build their frames, scaled to amplitudes of at most 1.

    Returns:
        Samples complex64 [N], an annotation of each frame, and a row of plain data of each.

    Raises:
        ValueError: an image that cannot be read or sent.
    """
    parts, notes, rows = [np.zeros(air.gap, np.complex64)], [], []
    place = air.gap
    form = WAVEFORMS[air.waveform]
    for number, path in enumerate(paths):
        header, symbols = transmitter.encode(load_image(path), air.snr_db, number % 65536)
        frame = frame_samples(form, header, as_array(symbols))
        peak = papr_db(frame)
        if air.papr_limit_db is not None:
            frame = clipped(frame, air.papr_limit_db)
        layout = Layout(form, header.symbols)
        padding = symbols.uses_by_kind.get("padding", 0)
        pixels = header.height * header.width
        label = f"frame {number}: {path.name}"
        comment = (
            f"diffjscc {form.name}, R = {header.rate}, {header.symbols} symbols, "
            f"{header.width}x{header.height}, weights {header.weights}"
        )
        notes.append(Annotation(place, len(frame), label, comment))
        rows.append(
            {
                "image": str(path),
                "start": place,
                "samples": len(frame),
                "seconds": len(frame) / air.sample_rate,
                "waveform": form.name,
                "papr_db": round(peak, 2),
                "header": header_as_dict(header),
                **costs(layout, padding, pixels),
            }
        )
        parts += [frame, np.zeros(air.gap, np.complex64)]
        place += len(frame) + air.gap
    samples = np.concatenate(parts)
    largest = float(np.abs(samples).max())
    return samples / np.float32(largest or 1), notes, rows


def costs(layout: Layout, padding: int, pixels: int) -> Row:
    """Channel uses of a frame by kind, and rates per pixel with and without overhead."""
    uses = layout.uses_by_kind(padding)
    return {
        "uses_by_kind": uses,
        "payload_rate": layout.symbols / pixels,
        "rate_on_air": sum(uses.values()) / pixels,
    }


@dataclass(frozen=True)
class Reception:
    """Settings of `receive_images`.

    Attributes:
        schemes: schemes by frames' headers.
        output: folder of the images.
        sample_rate: in Hz.
        seed: of the refiner's sampling.
    """

    schemes: ReceiverSchemes
    output: Path
    sample_rate: float
    seed: int = 0


def receive_images(
    capture: Capture,
    settings: Reception,
    seen: Callable[[ReceivedFrame], None] = lambda _: None,
) -> Iterator[Row]:
    """Find all frames of a capture and write their images; yields a row of plain data of each.

    A row's "status" is "received"; "cut": part of the symbols is missing; "skipped": of weights
    that the receiver lacks; "lost": no header, or nothing to decode.

    Args:
        capture: samples.
        settings: of the receiver.
        seen: called with every frame whose header was read.

    Raises:
        OSError: an image cannot be written.
    """
    for index, frame in enumerate(receive_frames(capture)):
        if isinstance(frame, LostFrame):
            row = {"frame": index, "status": "lost", "reason": frame.reason}
            row |= {"start": frame.start, "waveform": frame.waveform}
        else:
            seen(frame)
            row = _facts(index, frame, settings.sample_rate)
            try:
                row |= _decode(index, frame, settings)
            except UnknownSchemeError as error:
                row |= {"status": "skipped", "reason": str(error)}
            except ValueError as error:
                row |= {"status": "lost", "reason": str(error)}
        yield row


def _facts(index: int, frame: ReceivedFrame, sample_rate: float) -> Row:
    """Estimates of a frame, in Hz and seconds."""
    report, header = frame.report, frame.header
    layout = Layout(WAVEFORMS[report.waveform], header.symbols)
    return {
        "frame": index,
        "status": "received" if report.present == 1 else "cut",
        "start": report.start,
        "start_seconds": report.start / sample_rate,
        "samples": report.samples,
        "waveform": report.waveform,
        "carrier_offset_hz": report.carrier_offset * sample_rate,
        "clock_offset_ppm": report.clock_offset_ppm,
        "snr_db": report.snr_db,
        "effective_snr_db": report.effective_snr_db,
        "delay_window_points": list(report.delay_window),
        "doppler_per_training_period": report.doppler,
        "detection_quality": report.quality,
        "present": report.present,
        "header": header_as_dict(header),
        **costs(layout, 0, header.height * header.width),
    }


def _decode(index: int, frame: ReceivedFrame, settings: Reception) -> Row:
    """Decode one frame, write its images, and list them."""
    scheme = settings.schemes.scheme_for(frame.header)
    stem = f"frame-{index:04}"
    return decode_image(scheme, frame.received, settings.output / stem, settings.seed + index)


def decode_image(scheme: Scheme, received: Received, stem: Path, seed: int) -> Row:
    """Decode one image and write STEM.png, and STEM-initial.png with a refiner.

    Raises:
        ValueError: symbols that do not fit the scheme.
        OSError: an image cannot be written.
    """
    device, state = scheme.device, received.state
    state = replace(state, gain=state.gain.to(device), mean_snr_db=state.mean_snr_db.to(device))
    received = replace(received, values=received.values.to(device), state=state)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        images = scheme.decode(received, generator)
    files = {"": images.image}
    if scheme.refiner is not None:
        files["-initial"] = images.initial
    written = []
    for suffix, image in files.items():
        path = stem.with_name(f"{stem.name}{suffix}.png")
        save_image(image[0].float().cpu(), path)
        written.append(path.name)
    outage = images.outage is not None and bool(images.outage.any())
    return {"outage": outage, "files": written, "scheme": scheme.provenance}

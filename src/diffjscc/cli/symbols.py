"""`diffjscc symbols export` and `import`: payload symbols for a radio chain of one's own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from diffjscc.cli import paths, shared
from diffjscc.cli.terminal import report_errors, stdout

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def export(
    images: shared.Images,
    output: Annotated[
        Path,
        paths.option(
            paths.output_file, "--output", "-o", help="NAME.npy, NAME.sigmf-data or raw .cf32."
        ),
    ],
    scheme: shared.SentScheme = "deepjscc",
    weights: shared.EncoderWeights = "compact",
    rate: shared.Rate = "1/128",
    snr: shared.AssumedSNR = 10.0,
    symbol_rate: Annotated[float, typer.Option(help="Of SigMF files, in symbols a second.")] = 1e6,
    device: shared.Device = "auto",
) -> None:
    """Write images' payload symbols, of unit mean power, one image after the other.

    NAME.json beside them says where each image begins, and what the receiver must know.
    """
    with report_errors():
        import numpy as np  # noqa: PLC0415

        from diffjscc.data.files import atomic_write  # noqa: PLC0415
        from diffjscc.data.images import load_image  # noqa: PLC0415
        from diffjscc.data.search import find_images  # noqa: PLC0415
        from diffjscc.radio.sigmf_files import (  # noqa: PLC0415
            Annotation,
            datatype_for,
            write_recording,
        )
        from diffjscc.schemes.air import (  # noqa: PLC0415
            Transmitter,
            as_array,
            header_as_dict,
        )
        from diffjscc.schemes.digital_options import DigitalOptions  # noqa: PLC0415

        numbers = output.suffix == ".npy"
        kind = "" if numbers else datatype_for(output)
        found = find_images(images)
        side = output.with_suffix(".json")
        for file, name in ((output, "--output"), (side, "the side information")):
            paths.check_apart(file, name, found)
        transmitter = Transmitter.load(scheme, weights, rate, DigitalOptions(), device)
        parts, rows, notes, place = [], [], [], 0
        for number, path in enumerate(found):
            header, symbols = transmitter.encode(load_image(path), snr, number % 65536)
            row = {"image": str(path), "start": place, "header": header_as_dict(header)}
            rows.append(row | {"uses_by_kind": dict(symbols.uses_by_kind)})
            notes.append(Annotation(place, header.symbols, f"payload {number}: {path.name}"))
            parts.append(as_array(symbols))
            place += header.symbols
        values = np.concatenate(parts)
        if numbers:
            with atomic_write(output) as temporary:
                np.save(temporary, values)
        else:
            write_recording(output, values, symbol_rate, None, kind, notes)
        with atomic_write(side) as temporary:
            temporary.write_text(json.dumps({"payloads": rows}, indent=1) + "\n", "utf-8")
        stdout.print(f"{place:,} symbols in {escape(str(output))}", soft_wrap=True)


def import_(
    symbols: Annotated[
        Path, paths.argument(paths.path, "Received payload symbols: .npy, SigMF or raw samples.")
    ],
    side: Annotated[
        Path, paths.option(paths.path, "--side", help="The .json that `symbols export` wrote.")
    ],
    output: Annotated[
        Path, paths.option(paths.output_folder, "--output", "-o", help="Folder for the images.")
    ],
    snr: Annotated[float, typer.Option(help="Mean Es/N0 of the symbols in dB.")],
    gain: Annotated[
        Path | None,
        paths.option(paths.path, "--gain", help="Gain of each symbol, complex .npy; 1 without."),
    ] = None,
    weights: shared.ReceiverWeights = ["compact"],  # noqa: B006 - typer copies it
    scheme: shared.ReceivedScheme = None,
    refiner: shared.ReceiverRefiner = None,
    seed: shared.SamplingSeed = 0,
    device: shared.Device = "auto",
) -> None:
    """Decode payload symbols that a radio chain of one's own received: payload-0000.png, and so on.

    Symbols are gain · sent + noise of power 10^(-SNR/10) per symbol.
    """
    with report_errors():
        import numpy as np  # noqa: PLC0415
        import torch  # noqa: PLC0415

        from diffjscc.channels.noise import checked_snr  # noqa: PLC0415
        from diffjscc.cli.air import decode_image  # noqa: PLC0415
        from diffjscc.schemes.air import ReceiverSchemes, header_from_dict  # noqa: PLC0415
        from diffjscc.symbols import ChannelState, Received  # noqa: PLC0415

        values = _read_symbols(symbols)
        gains = None if gain is None else _read_symbols(gain)
        if gains is not None and gains.shape != values.shape:
            raise ValueError(f"{gain} has {len(gains):,} gains for {len(values):,} symbols")
        state_db = checked_snr(snr, 1)
        schemes = ReceiverSchemes(weights, scheme, refiner, device=device)
        output.mkdir(parents=True, exist_ok=True)
        for number, row in enumerate(_read_side(side)):
            header = header_from_dict(row["header"])
            begin = int(row["start"])
            part = slice(begin, begin + header.symbols)
            if begin < 0 or part.stop > len(values):
                raise ValueError(
                    f"{symbols} has {len(values):,} symbols; payload {number} is those from "
                    f"{begin:,} to {part.stop:,}"
                )
            known = np.ones(1, np.complex64) if gains is None else gains[part]
            state = ChannelState(torch.from_numpy(known)[None], state_db)
            size = header.height, header.width
            received = Received(torch.from_numpy(values[part])[None], size, header.rate, state)
            stem = output / f"payload-{number:04}"
            done = decode_image(schemes.scheme_for(header), received, stem, seed + number)
            stdout.print(f"payload {number}: {', '.join(done['files'])}", soft_wrap=True)


def _read_symbols(path: Path) -> NDArray[np.complex64]:
    """Read complex numbers of a file.

    Raises:
        ValueError: no numbers, or numbers that are not finite.
        OSError: the file cannot be read.
    """
    import numpy as np  # noqa: PLC0415

    if path.suffix == ".npy":
        try:
            values: NDArray[Any] = np.load(path, allow_pickle=False)
        except (ValueError, EOFError, SyntaxError) as error:
            raise ValueError(f"{path} is no .npy file of numbers: {error}") from error
        if values.ndim != 1 or values.dtype.kind not in "fc" or not len(values):
            raise ValueError(
                f"{path} holds {values.dtype} {values.shape}; give complex numbers [K]"
            )
        values = values.astype(np.complex64)
    else:
        from diffjscc.radio.sigmf_files import open_recording  # noqa: PLC0415

        capture = open_recording(path, sample_rate=1.0).capture
        values = capture.read(0, capture.length)
    if not np.isfinite(values).all():
        raise ValueError(f"{path} holds NaN or infinite values; they must be finite")
    found: NDArray[np.complex64] = values
    return found


def _read_side(path: Path) -> list[dict[str, Any]]:
    """Read the side information of payloads.

    Raises:
        ValueError: not as `symbols export` writes it.
        OSError: the file cannot be read.
    """
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["payloads"]
        for row in rows:
            int(row["start"]), dict(row["header"])
    except (ValueError, KeyError, TypeError, RecursionError, OverflowError) as error:
        raise ValueError(f"{path} is not side information of `symbols export`: {error}") from error
    checked: list[dict[str, Any]] = rows
    return checked

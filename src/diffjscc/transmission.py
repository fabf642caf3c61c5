"""Transmit picture files: read, send, measure what was written, show it side by side."""

from __future__ import annotations

import math
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from diffjscc.data.pictures import load_picture, quantise, save_picture
from diffjscc.evaluation.lpips import LPIPS
from diffjscc.evaluation.metrics import ms_ssim, psnr
from diffjscc.evaluation.panels import side_by_side
from diffjscc.models.diffjscc import DiffJSCC
from diffjscc.scheme import Channel


@dataclass(frozen=True)
class Row:
    """One transmission of one picture, as the table and the JSON show it.

    `rate` and `snr_db` are the true ones (K/(H·W) and |h|²/N0); measures that are undefined
    or could not be computed are None.
    """

    image: str
    scheme: str
    weights: str
    rate: float
    nominal_rate: str
    channel: str
    channel_uses: int
    snr_db: float
    nominal_snr_db: float
    repeat: int
    seed: int
    width: int
    height: int
    psnr: float
    ms_ssim: float | None
    lpips: float | None
    seconds: float

    def as_dict(self) -> dict[str, str | int | float | None]:
        """Plain values, for JSON."""
        return asdict(self)


def picture_generator(seed: int, picture: Tensor, repeat: int) -> torch.Generator:
    """Noise that depends on the seed, the picture's pixels and the repeat, on nothing else."""
    digest = zlib.crc32(quantise(picture).mul(255).to(torch.uint8).cpu().numpy().tobytes())
    state = np.random.SeedSequence([seed, digest, repeat]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> 1))


@dataclass(frozen=True)
class Job:
    """How to transmit.

    Attributes:
        scheme: what to send with.
        channel: what to send over, and its name.
        snr_db: the nominal SNR, for the records.
        repeats: transmissions per picture.
        seed: see `picture_generator`.
        lpips: the perceptual metric, or None where its weights are not at hand.
        output: folder of the pictures.
        device: where to compute.
    """

    scheme: DiffJSCC
    channel: Channel
    channel_name: str
    snr_db: float
    repeats: int
    seed: int
    lpips: LPIPS | None
    output: Path
    device: torch.device

    @torch.no_grad()
    def send(self, path: Path, stem: str, sent: Callable[[], None]) -> list[Row]:
        """Transmit one file; writes STEM.png (STEM-2.png, …) and STEM-side-by-side.png."""
        picture = load_picture(path)[None].to(self.device)
        rows = []
        for repeat in range(self.repeats):
            generator = picture_generator(self.seed, picture[0], repeat)
            start = time.perf_counter()
            received = self.scheme.send(picture, self.channel, generator)
            image = quantise(self.scheme.decode(received, generator).image)
            seconds = time.perf_counter() - start
            similarity = ms_ssim(image, picture).item()
            row = Row(
                image=str(path),
                scheme="deepjscc" if self.scheme.refiner is None else "diffjscc",
                weights=self.scheme.weights,
                rate=received.rate,
                nominal_rate=str(self.scheme.rate),
                channel=self.channel_name,
                channel_uses=received.channel_uses,
                snr_db=received.snr_db.item(),
                nominal_snr_db=self.snr_db,
                repeat=repeat,
                seed=self.seed,
                width=picture.shape[-1],
                height=picture.shape[-2],
                psnr=psnr(image, picture).item(),
                ms_ssim=None if math.isnan(similarity) else similarity,
                lpips=None if self.lpips is None else self.lpips(image, picture).item(),
                seconds=seconds,
            )
            rows.append(row)
            name = stem if repeat == 0 else f"{stem}-{repeat + 1}"
            save_picture(image[0], self.output / f"{name}.png")
            if repeat == 0:
                labels = [f"original, {row.width}x{row.height}", describe(row)]
                panel = side_by_side([picture[0], image[0]], labels)
                save_picture(panel, self.output / f"{stem}-side-by-side.png")
            sent()
        return rows


def describe(row: Row) -> str:
    """A row in one line, for a label."""
    parts = [
        f"{row.channel_uses} symbols (R = {row.nominal_rate}) at {row.snr_db:.1f} dB",
        f"PSNR {row.psnr:.2f} dB",
    ]
    if row.ms_ssim is not None:
        parts.append(f"MS-SSIM {row.ms_ssim:.3f}")
    if row.lpips is not None:
        parts.append(f"LPIPS {row.lpips:.3f}")
    return ", ".join(parts)


def transmit_files(
    job: Job, paths: Sequence[Path], stems: Sequence[str], sent: Callable[[], None]
) -> Iterator[tuple[Path, list[Row] | ValueError | OSError]]:
    """Send every file; one that fails yields its error and does not stop the others."""
    for path, stem in zip(paths, stems, strict=True):
        try:
            yield path, job.send(path, stem, sent)
        except (ValueError, OSError) as error:
            yield path, error

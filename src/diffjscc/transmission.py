"""Transmit picture files: read, send, measure what was written, show it side by side."""

from __future__ import annotations

import json
import math
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from diffjscc.data.files import atomic_write
from diffjscc.data.pictures import load_picture, quantise, save_picture
from diffjscc.evaluation.lpips import LPIPS
from diffjscc.evaluation.metrics import ms_ssim, psnr
from diffjscc.evaluation.panels import side_by_side
from diffjscc.models.diffjscc import DiffJSCC
from diffjscc.scheme import Channel

if TYPE_CHECKING:
    from diffjscc.refiners.sampling import SamplerConfig


@dataclass(frozen=True)
class Figures:
    """How close a picture came: PSNR in dB, MS-SSIM and LPIPS, None where there is no figure."""

    psnr: float
    ms_ssim: float | None
    lpips: float | None


@dataclass(frozen=True)
class Row:
    """One transmission of one picture, as the table and the JSON show it.

    `rate` and `snr_db` are the true ones (K/(H·W) and |h|²/N0); measures that are undefined
    or could not be computed are None. `psnr`, `ms_ssim` and `lpips` are those of the final
    picture. With a refiner `…_initial` are those of what it was given, and `steps` are the
    sampler's from pure noise; without one all of these are None.
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
    psnr_initial: float | None
    ms_ssim_initial: float | None
    lpips_initial: float | None
    caption: str | None
    sampler: str | None
    steps: int | None
    seconds: float

    @property
    def final(self) -> Figures:
        """Those of the final picture."""
        return Figures(self.psnr, self.ms_ssim, self.lpips)

    @property
    def initial(self) -> Figures | None:
        """Those of the initial picture; None without a refiner."""
        if self.psnr_initial is None:
            return None
        return Figures(self.psnr_initial, self.ms_ssim_initial, self.lpips_initial)

    def as_dict(self) -> dict[str, str | int | float | None]:
        """Plain values, for JSON."""
        return asdict(self)


def fingerprint(picture: Tensor) -> int:
    """A number that stands for the 8-bit pixels of a picture [3, H, W] in [0, 1]."""
    return zlib.crc32(quantise(picture).mul(255).to(torch.uint8).cpu().numpy().tobytes())


def noise_generator(seed: int, pixels: int, repeat: int) -> torch.Generator:
    """Noise that depends on the seed, a picture's fingerprint and the repeat, on nothing else."""
    state = np.random.SeedSequence([seed, pixels, repeat]).generate_state(1, np.uint64)
    return torch.Generator().manual_seed(int(state[0] >> 1))


def picture_generator(seed: int, picture: Tensor, repeat: int) -> torch.Generator:
    """`noise_generator` for a picture [3, H, W] in [0, 1]."""
    return noise_generator(seed, fingerprint(picture), repeat)


@dataclass(frozen=True)
class Job:
    """How to transmit.

    Attributes:
        scheme: what to send with.
        channel: what to send over, and its name.
        snr_db: the nominal SNR, for the records.
        repeats: transmissions per picture.
        seed: see `noise_generator`.
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

    def files(self, stem: str) -> list[Path]:
        """What `send` writes: STEM.png (STEM-2.png, …), STEM-side-by-side.png, …-initial.png."""
        names = [self._name(stem, repeat) for repeat in range(self.repeats)]
        if self.scheme.refiner is not None:
            names += [f"{name}-initial" for name in names]
        return [self.output / f"{name}.png" for name in (*names, f"{stem}-side-by-side")]

    @torch.no_grad()
    def send(self, path: Path, stem: str, sent: Callable[[], None]) -> list[Row]:
        """Transmit one file; `sent` is called after every transmission."""
        picture = load_picture(path)[None].to(self.device)
        pixels = fingerprint(picture[0])
        rows = []
        # One by one: a batch's rounding may differ in the last bit, and then figures would too.
        for repeat in range(self.repeats):
            generator = noise_generator(self.seed, pixels, repeat)
            start = time.perf_counter()
            received = self.scheme.send(picture, self.channel, generator)
            result = self.scheme.decode(received, generator)
            final, initial = quantise(result.image), quantise(result.initial)
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)
            seconds = time.perf_counter() - start
            refiner = self.scheme.refiner
            figures = self._measure(final, picture)
            before = None if refiner is None else self._measure(initial, picture)
            sampler = self._sampler()
            row = Row(
                image=str(path),
                scheme="deepjscc" if refiner is None else "diffjscc",
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
                psnr=figures.psnr,
                ms_ssim=figures.ms_ssim,
                lpips=figures.lpips,
                psnr_initial=None if before is None else before.psnr,
                ms_ssim_initial=None if before is None else before.ms_ssim,
                lpips_initial=None if before is None else before.lpips,
                caption=None if result.caption is None else result.caption[0],
                sampler=None if sampler is None else sampler.name,
                steps=None if sampler is None else sampler.steps,
                seconds=seconds,
            )
            rows.append(row)
            pictures = {"": final} if refiner is None else {"-initial": initial, "": final}
            for kind, image in pictures.items():
                name = self._name(stem, repeat) + kind
                save_picture(image[0], self.output / f"{name}.png")
            if repeat == 0:
                panels = [picture[0], *(image[0] for image in pictures.values())]
                sheet = side_by_side(panels, labels(row))
                save_picture(sheet, self.output / f"{stem}-side-by-side.png")
            sent()
        return rows

    def _sampler(self) -> SamplerConfig | None:
        """How the refiner samples, where it does."""
        if self.scheme.refiner is None:
            return None
        # Imported here: a codec alone does not wait for diffusers.
        from diffjscc.refiners.diffusion import ControlledDiffusion  # noqa: PLC0415

        refiner = self.scheme.refiner
        return refiner.config.sampler if isinstance(refiner, ControlledDiffusion) else None

    def _measure(self, images: Tensor, picture: Tensor) -> Figures:
        """Figures of 8-bit levels [1, 3, H, W] against the picture sent."""
        similarity = ms_ssim(images, picture).item()
        return Figures(
            psnr=psnr(images, picture).item(),
            ms_ssim=None if math.isnan(similarity) else similarity,
            lpips=None if self.lpips is None else self.lpips(images, picture).item(),
        )

    @staticmethod
    def _name(stem: str, repeat: int) -> str:
        return stem if repeat == 0 else f"{stem}-{repeat + 1}"


def labels(row: Row) -> list[str]:
    """What stands under the original, the initial picture, if there is one, and the final one."""
    original = f"original, {row.width}x{row.height}"
    link = f"{row.channel_uses} symbols (R = {row.nominal_rate}) at {row.snr_db:.1f} dB"
    if row.initial is None:
        return [original, f"{link}, {_in_words(row.final)}"]
    painting = "" if row.sampler is None else f", {row.sampler} in {row.steps} steps"
    caption = "" if row.caption is None else f', told "{row.caption}"'
    return [
        original,
        f"initial reconstruction: {link}, {_in_words(row.initial)}",
        f"final picture{painting}{caption}: {_in_words(row.final)}",
    ]


def _in_words(figures: Figures) -> str:
    parts = [f"PSNR {figures.psnr:.2f} dB"]
    if figures.ms_ssim is not None:
        parts.append(f"MS-SSIM {figures.ms_ssim:.3f}")
    if figures.lpips is not None:
        parts.append(f"LPIPS {figures.lpips:.3f}")
    return ", ".join(parts)


def transmit_files(
    job: Job, paths: Sequence[Path], stems: Sequence[str], sent: Callable[[], None]
) -> Iterator[tuple[Path, list[Row] | ValueError | OSError | MemoryError]]:
    """Send every file; one that fails yields its error and does not stop the others.

    Raises:
        ValueError: two files' results, or a result and one of `paths`, would be one file.
    """
    written = Counter(file.resolve() for stem in stems for file in job.files(stem))
    written.update(path.resolve() for path in paths)
    for file, times in written.items():
        if times > 1:
            raise ValueError(
                f"{file} would be overwritten; choose another folder to write to, rename pictures, "
                "or send them one at a time"
            )
    for path, stem in zip(paths, stems, strict=True):
        try:
            yield path, job.send(path, stem, sent)
        except (ValueError, OSError) as error:
            yield path, error
        except torch.OutOfMemoryError:
            problem = f"does not fit into the memory of {job.device}"
            yield path, MemoryError(f"{problem}; try --offload or --device cpu")


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """A JSON array, one object a line; without the brackets if the name ends in .jsonl."""
    lines = [json.dumps(row.as_dict()) for row in rows]
    if path.suffix == ".jsonl":
        text = "".join(f"{line}\n" for line in lines)
    else:
        text = "[\n" + ",\n".join(lines) + "\n]\n"
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")

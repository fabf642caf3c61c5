"""A small folder of results that was never run: round numbers, easy to check by hand."""

from collections.abc import Sequence
from pathlib import Path

import torch

from diffjscc.data.images import quantise, save_image
from diffjscc.evaluation.records import Record
from diffjscc.evaluation.results import (
    ImageInfo,
    KeptImages,
    PointDistances,
    Setup,
    write_lines,
    write_setup,
)

IMAGES = ("kodim01", "kodim02", "kodim03")
RATES = ("1/128", "1/64")
SNRS_DB = (1.0, 4.0, 7.0)
SCHEMES = ("deepjscc", "diffjscc")


def toy_row(
    scheme: str = "diffjscc",
    image: str = "kodim01",
    rate: str = "1/128",
    snr_db: float = 1.0,
    repeat: int = 0,
    *,
    psnr: float = 20.0,
    lpips: float | None = 0.4,
    steps: int | None = None,
) -> Record:
    """A row; with the scheme diffjscc, one whose initial image was 0.5 dB better."""
    refined = scheme != "deepjscc"
    uses = 48 * 32 // int(rate.removeprefix("1/"))
    return Record(
        scheme=scheme,
        weights="compact@0123456789ab",
        image=image,
        image_hash="0123456789abcdef",
        width=48,
        height=32,
        nominal_rate=rate,
        rate=uses / (48 * 32),
        channel="awgn",
        nominal_snr_db=snr_db,
        snr_db=snr_db,
        repeat=repeat,
        seed=0,
        channel_uses=uses,
        uses_by_kind={"image": uses, "padding": 0},
        psnr=psnr,
        ms_ssim=0.7,
        lpips=lpips,
        niqe=5.0,
        psnr_initial=psnr + 0.5 if refined else None,
        ms_ssim_initial=0.75 if refined else None,
        lpips_initial=0.6 if refined else None,
        niqe_initial=8.0 if refined else None,
        caption=None,
        sampler="ddpm" if refined else None,
        steps=(steps or 16) if refined else None,
        seconds=0.5,
        versions="python 3.11.7, diffjscc 0.1.0",
    )


def toy_rows(
    images: Sequence[str] = IMAGES, repeats: int = 2, psnr: float = 20.0, lpips: float = 0.4
) -> list[Record]:
    """Every cell: a dB more for each rate, 0.5 dB for each SNR, 0.1 dB for image and repeat."""
    return [
        toy_row(
            scheme,
            image,
            rate,
            snr_db,
            repeat,
            psnr=psnr + r + 0.5 * s + 0.1 * (i + repeat) + (scheme == "deepjscc"),
            lpips=lpips + 0.02 * i + 0.2 * (scheme == "deepjscc") - 0.05 * (r + s),
        )
        for scheme in SCHEMES
        for r, rate in enumerate(RATES)
        for s, snr_db in enumerate(SNRS_DB)
        for i, image in enumerate(images)
        for repeat in range(repeats)
    ]


def toy_results(
    folder: Path, rows: Sequence[Record] | None = None, figure: str | None = None
) -> Path:
    """Write a folder of results with images of kodim01 at 1/128 and 1 dB."""
    rows = toy_rows() if rows is None else rows
    folder.mkdir(parents=True, exist_ok=True)
    schemes = list(dict.fromkeys(row.scheme for row in rows))
    images = list(dict.fromkeys(row.image for row in rows))
    setup = Setup(
        sweep={
            "images": ["kodak"],
            "schemes": [{"name": name} for name in schemes],
            "rates": list(dict.fromkeys(row.nominal_rate for row in rows)),
            "snrs_db": list(dict.fromkeys(row.nominal_snr_db for row in rows)),
            "repeats": 1 + max(row.repeat for row in rows),
            "seed": 0,
        },
        weights=dict.fromkeys(schemes, "compact@0123456789ab"),
        images=tuple(ImageInfo(name, "0123456789abcdef", 48, 32) for name in images),
        versions="python 3.11.7, diffjscc 0.1.0",
        device="cpu",
        left_out=("bpg-ldpc: not part of this version",),
        figure=figure,
    )
    write_setup(folder, setup)
    write_lines(folder / "rows.jsonl", rows)
    cells = list(dict.fromkeys(row.cell for row in rows))
    write_lines(
        folder / "cells.jsonl",
        [
            PointDistances(*cell, "squeezenet", 30, 40.0 - 10 * (cell[0] == "diffjscc"), 0.2, 0.01)
            for cell in cells
        ],
    )
    write_lines(folder / "images.jsonl", [_kept(folder, scheme) for scheme in schemes])
    return folder


def _kept(folder: Path, scheme: str) -> KeptImages:
    """Images of one transmission: the final one is sharper than the initial one."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 32), torch.linspace(0, 1, 48), indexing="ij")
    pixels = torch.stack((x, y, (20 * x * y).sin() / 2 + 0.5))
    flat = pixels.mean(dim=(1, 2), keepdim=True).expand_as(pixels)
    refined = scheme != "deepjscc"
    kept = {"original": pixels, "final": (pixels + flat) / 2}
    if refined:
        kept |= {"initial": flat, "uncertainty": (pixels - flat).abs()}
    paths = {}
    for kind, image in kept.items():
        path = Path("images") / f"kodim01-{scheme}-{kind}.png"
        (folder / path).parent.mkdir(exist_ok=True)
        save_image(quantise(image), folder / path)
        paths[kind] = str(path)
    return KeptImages(scheme, "awgn", "1/128", 1.0, "kodim01", 0, **paths)

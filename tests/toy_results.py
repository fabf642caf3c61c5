"""A small folder of results that was never run: round numbers, easy to check by hand."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from diffjscc.choices import DEFAULT_METRICS
from diffjscc.data.images import quantise, save_image
from diffjscc.evaluation.layout import Layout
from diffjscc.evaluation.lines import write_lines
from diffjscc.evaluation.records import KeptImages, PointDistances, Record
from diffjscc.evaluation.results import ImageInfo, Setup, write_setup
from diffjscc.metrics.catalogue import METRICS

IMAGES = ("kodim01", "kodim02", "kodim03")
RATES = ("1/128", "1/64")
SNRS_DB = (1.0, 4.0, 7.0)
SCHEMES = ("deepjscc", "diffjscc")


def toy_record(
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
    """A record; with the scheme diffjscc, one whose initial image was 0.5 dB better."""
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
        metrics={"psnr": psnr, "ms_ssim": 0.7, "lpips": lpips, "niqe": 5.0},
        initial_metrics={"psnr": psnr + 0.5, "ms_ssim": 0.75, "lpips": 0.6, "niqe": 8.0}
        if refined
        else None,
        caption=None,
        sampler="ddpm" if refined else None,
        num_inference_steps=(steps or 16) if refined else None,
        seconds=0.5,
        versions="python 3.11.7, diffjscc 0.1.0",
    )


def with_metrics(record: Record, **values: float | None) -> Record:
    """The record with other metrics, such as psnr=20, psnr_initial=21."""
    final, initial = dict(record.metrics), dict(record.initial_metrics or {})
    for key, value in values.items():
        (initial if key.endswith("_initial") else final)[key.removesuffix("_initial")] = value
    return replace(record, metrics=final, initial_metrics=initial or None)


def toy_records(
    images: Sequence[str] = IMAGES, repeats: int = 2, psnr: float = 20.0, lpips: float = 0.4
) -> list[Record]:
    """Every point: a dB more for each rate, 0.5 dB for each SNR, 0.1 dB for image and repeat."""
    return [
        toy_record(
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
    folder: Path, records: Sequence[Record] | None = None, figure: str | None = None
) -> Path:
    """Write a folder of results with images of kodim01 at 1/128 and 1 dB."""
    records = toy_records() if records is None else records
    folder.mkdir(parents=True, exist_ok=True)
    schemes = list(dict.fromkeys(one.scheme for one in records))
    images = list(dict.fromkeys(one.image for one in records))
    setup = Setup(
        sweep={
            "images": ["kodak"],
            "schemes": [{"name": name} for name in schemes],
            "rates": list(dict.fromkeys(one.nominal_rate for one in records)),
            "snrs_db": list(dict.fromkeys(one.nominal_snr_db for one in records)),
            "repeats": 1 + max(one.repeat for one in records),
            "seed": 0,
        },
        weights=dict.fromkeys(schemes, "compact@0123456789ab"),
        images=tuple(ImageInfo(name, "0123456789abcdef", 48, 32) for name in images),
        metrics=tuple(METRICS[name].info for name in DEFAULT_METRICS),
        versions="python 3.11.7, diffjscc 0.1.0",
        device="cpu",
        left_out=("bpg-ldpc: not part of this version",),
        figure=figure,
    )
    layout = Layout(folder)
    write_setup(layout, setup)
    write_lines(layout.records, records)
    points = list(dict.fromkeys(one.point for one in records))
    write_lines(
        layout.distances,
        [
            PointDistances(
                *point, "squeezenet", 30, 40.0 - 10 * (point.scheme == "diffjscc"), 0.2, 0.01
            )
            for point in points
        ],
    )
    write_lines(layout.kept, [_kept(folder, scheme) for scheme in schemes])
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

"""The paper's experiments as sweeps.

    fig1, fig5   images side by side
    fig3         rates at 1 dB
    fig4         SNRs at R = 1/128
    fig6         conditions of the control module
    fig7         sampling steps, at several SNRs
    fig8         captions

Schemes for which the weights or this machine lack something are left out, with the reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, get_args

import matplotlib as mpl
from huggingface_hub import try_to_load_from_cache

from diffjscc.choices import CaptionerName, FigureName, SamplerName, Start
from diffjscc.codecs.digital.source_codecs.hevc import HEVCIntra
from diffjscc.codecs.digital.source_codecs.source import SourceUnavailable
from diffjscc.data.search import find_images
from diffjscc.evaluation.config import SweepConfig
from diffjscc.pretrained.pretrained import load_codec, open_weights
from diffjscc.refiners.captions import BLIP2, BLIP2_REVISION
from diffjscc.refiners.ddnm import STEPS as DDNM_STEPS
from diffjscc.schemes.config import SchemeConfig
from diffjscc.schemes.digital_options import DigitalOptions
from diffjscc.schemes.options import RefinerOptions

Value = TypeVar("Value")

RATES = ("1/128", "1/64", "1/32", "1/16")
SNRS_DB = (1.0, 4.0, 7.0, 10.0, 13.0)
STEPS = (1, 2, 5, 10, 20, 50, 100)
QUICK_CROP = 384  # pixels: four patches for the distances between distributions
SHEETS = {"fig1": 3, "fig5": 8}  # number of images on a sheet
# fig3 is at one SNR, at which the paper's MCS works; over SNRs the link adapts.
DIGITAL = {"fig3": "bpsk 2/3", "fig4": None}


@dataclass(frozen=True)
class Request:
    """Options of a reproduction.

    Attributes:
        images: files, folders or patterns.
        weights: of the schemes.
        spatial: weights like these whose control module was trained without the SNR, if any.
        adversarial: weights of codecs like theirs that `train adversarial` made, one per α.
        repeats: transmissions per image and point.
        shown: images that are kept of each point, for the report.
        quick: run a smoke test: two images' middles, the ends of each axis, few steps.
    """

    images: tuple[str, ...]
    weights: str = "compact"
    spatial: str | None = None
    adversarial: tuple[str, ...] = ()
    repeats: int = 5
    shown: int = 3
    quick: bool = False


@dataclass(frozen=True)
class Experiment:
    """A figure's sweep; None where none of it can be run.

    Attributes:
        figure: its name.
        config: the sweep.
        left_out: parts of the figure that it does not show, and why.
    """

    figure: FigureName
    config: SweepConfig | None
    left_out: tuple[str, ...] = ()


def default_images(quick: bool) -> str:
    """Default images: Kodak's, or one that is always there for a smoke test.

    Raises:
        ValueError: Kodak's images are not there.
    """
    kodak = Path("data/kodak")
    if kodak.is_dir():
        return str(kodak)
    if quick:
        return str(Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg")
    raise ValueError(
        f"there is no folder {kodak}; `diffjscc fetch kodak` makes it, or give --images"
    )


def make_experiment(figure: FigureName, request: Request) -> Experiment:
    """Configure the sweep of a figure of the paper.

    Raises:
        ValueError: weights or images that cannot be had.
    """
    if figure not in get_args(FigureName):
        raise ValueError(f"figure {figure!r} is not one of {', '.join(get_args(FigureName))}")
    schemes, left_out = _schemes(figure, request)
    if figure in DIGITAL:
        links, without = _digital_links(figure, request.quick)
        schemes, left_out = [*schemes, *links], (*left_out, *without)
    if not schemes:
        return Experiment(figure, None, left_out)
    images = [str(path) for path in find_images(request.images)]
    rates, snrs_db = _points(figure, request.weights)
    sheet = figure in SHEETS
    if sheet:
        images = images[: SHEETS[figure]]
    if request.quick:
        images, rates, snrs_db = images[:2], _ends(rates), _ends(snrs_db)
    config = SweepConfig(
        images=tuple(images),
        schemes=tuple(schemes),
        rates=tuple(rates),
        snrs_db=tuple(snrs_db),
        repeats=1 if request.quick or sheet else request.repeats,
        crop=QUICK_CROP if request.quick else None,
        features=() if sheet else ("squeezenet", "inception"),
        shown=len(images) if sheet else request.shown,
        samples=8 if figure == "fig1" and not request.quick else 0,
    )
    return Experiment(figure, config, left_out)


def _points(figure: FigureName, weights: str) -> tuple[Sequence[str], Sequence[float]]:
    """The rates and SNRs of a figure; rates are the paper's, or those that the weights have."""
    offered = [str(rate) for rate in load_codec(weights).rates]
    rates = [rate for rate in RATES if rate in offered] or offered
    match figure:
        case "fig1":
            return rates[:1], SNRS_DB[:1]
        case "fig3":
            return rates, SNRS_DB[:1]
        case "fig5":
            return rates[:2], (SNRS_DB[0], SNRS_DB[-1])
        case "fig7":
            return rates[:1], (1.0, 7.0, 13.0)
        case _:
            return rates[:1], SNRS_DB


def _ends(values: Sequence[Value]) -> Sequence[Value]:
    """The first and the last."""
    return values if len(values) < 2 else (values[0], values[-1])


def _schemes(
    figure: FigureName, request: Request
) -> tuple[Sequence[SchemeConfig], tuple[str, ...]]:
    """Schemes that a figure compares, and reasons for those that are left out."""
    weights = request.weights
    if not open_weights(weights).has_refiner:
        without = f'diffjscc: weights "{weights}" have no diffusion receiver'
        alone = [] if figure in ("fig6", "fig7", "fig8") else [_codec(weights)]
        rivals, lacking = _adversarial(figure, request)
        return [*alone, *rivals], (without, *lacking)
    wordless = _why_without_captions(weights)
    match figure:
        case "fig4":
            options = RefinerOptions(num_inference_steps=STEPS[1] if request.quick else DDNM_STEPS)
            ddnm = SchemeConfig(kind="ddnm", weights=weights, refiner=options)
            rivals, lacking = _adversarial(figure, request)
            return [_codec(weights), _diffjscc(weights, ""), *rivals, ddnm], lacking
        case "fig6":
            return _conditions(request, wordless)
        case "fig7":
            steps = STEPS[1:3] if request.quick else STEPS
            own = [_diffjscc(weights, f"own sampler, {n} steps", steps=n) for n in steps]
            paper = [
                _diffjscc(weights, f"DDPM from noise, {n} steps", "ddpm", n, "noise") for n in steps
            ]
            return own + paper, ()
        case "fig8":
            captions = [
                _diffjscc(weights, "without captions", captioner="none"),
                _diffjscc(weights, "with captions", captioner="blip2"),
            ]
            return (captions, ()) if wordless is None else ([], (f"captions: {wordless}",))
        case _:
            return [_codec(weights), _diffjscc(weights, "")], ()


def _digital_links(
    figure: FigureName, quick: bool
) -> tuple[Sequence[SchemeConfig], tuple[str, ...]]:
    """BPG over LDPC and at capacity, or why they are left out.

    At low rates not every image fits, unless it has fewer pixels: both are shown, but by a smoke
    test.
    """
    try:
        HEVCIntra()
    except SourceUnavailable as error:
        return [], (f"bpg-ldpc and bpg-capacity: {error}",)
    mcs = DIGITAL[figure]
    named = "bpg-ldpc" if mcs is None else f"bpg-ldpc, {mcs}"
    links = []
    for fewer, suffix in ((False, ""), (True, ", downsampled"))[: 1 if quick else 2]:
        ldpc = DigitalOptions(mcs=mcs, downsample=fewer)
        links.append(SchemeConfig(kind="bpg-ldpc", label=f"{named}{suffix}", digital=ldpc))
        links.append(SchemeConfig(kind="bpg-capacity", digital=DigitalOptions(downsample=fewer)))
    return links, ()


def _adversarial(
    figure: FigureName, request: Request
) -> tuple[Sequence[SchemeConfig], tuple[str, ...]]:
    """DeepJSCC-adv where the paper shows it, in fig4, or why not."""
    if figure != "fig4":
        return [], ()
    if not request.adversarial:
        why = (
            "DeepJSCC-adv: needs a codec from `diffjscc train adversarial`; give its folder by "
            "--adversarial"
        )
        return [], (why,)
    several = len(request.adversarial) > 1
    runs = [
        path.parent if path.name == "weights" else path for path in map(Path, request.adversarial)
    ]
    labels = [f"DeepJSCC-adv, {run.name}" if several else "DeepJSCC-adv" for run in runs]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise ValueError(
            "DeepJSCC-adv's weights are named by the folder of their run, but "
            f"there are two of {twice.partition(', ')[2]!r}; rename one"
        )
    return [
        SchemeConfig(kind="adv", label=label, weights=weights)
        for label, weights in zip(labels, request.adversarial, strict=True)
    ], ()


def _conditions(
    request: Request, wordless: str | None
) -> tuple[Sequence[SchemeConfig], tuple[str, ...]]:
    """Conditions of the control module in fig6; `wordless` is the reason against captions."""
    schemes = [_diffjscc(request.weights, "spatial + SNR", captioner="none")]
    left_out = []
    if request.spatial is None:
        left_out.append(
            "spatial: needs weights whose control module was trained without the SNR; give them "
            "by --spatial"
        )
    else:
        schemes.insert(0, _diffjscc(request.spatial, "spatial", captioner="none"))
    if wordless is None:
        schemes.append(_diffjscc(request.weights, "spatial + SNR + text", captioner="blip2"))
    else:
        left_out.append(f"text: {wordless}")
    return schemes, tuple(left_out)


def _codec(weights: str) -> SchemeConfig:
    return SchemeConfig(kind="deepjscc", weights=weights)


def _diffjscc(
    weights: str,
    label: str,
    sampler: SamplerName | None = None,
    steps: int | None = None,
    start: Start | None = None,
    captioner: CaptionerName | None = None,
) -> SchemeConfig:
    options = RefinerOptions(
        sampler=sampler, num_inference_steps=steps, start=start, captioner=captioner
    )
    return SchemeConfig(kind="diffjscc", label=label, weights=weights, refiner=options)


def _why_without_captions(weights: str) -> str | None:
    """Reason why captions cannot be had; None where they can."""
    if not (open_weights(weights).folder / "text_encoder").is_dir():
        return f'the prior of weights "{weights}" reads no text'
    cached = try_to_load_from_cache(BLIP2, "config.json", revision=BLIP2_REVISION)
    if isinstance(cached, str):
        return None
    return (
        f"{BLIP2} is not on this machine; `diffjscc transmit --captioner blip2` fetches it (15 GB, "
        "once)"
    )

"""Model cards: a README.md for the hub, from the card of weights and from measurements."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from diffjscc.paths import printable

PAPER = "2404.17736"
TAGS = ("joint-source-channel-coding", "wireless", "image-compression", f"arxiv:{PAPER}")

# Columns of records by their names for readers; others are taken as they are called.
_LABELS = {
    "psnr": "PSNR / dB",
    "ms_ssim": "MS-SSIM",
    "lpips": "LPIPS (squeeze)",
    "lpips_alex": "LPIPS (alex)",
    "lpips_vgg": "LPIPS (vgg)",
    "niqe": "NIQE",
}
_POINT = ("scheme", "channel", "nominal_rate", "nominal_snr_db")


@dataclass(frozen=True)
class Facts:
    """Facts of a scheme for its card.

    Attributes:
        repo_id: hub id, "owner/name".
        codec: class of the codec.
        rates: in cpp.
        refiner: class of the refiner; None without one.
        parameters: of codec and refiner.
        card: content of card.json; None without it.
        licence: identifier that the hub knows, such as "apache-2.0"; None leaves it open.
    """

    repo_id: str
    codec: str
    rates: Sequence[str]
    refiner: str | None
    parameters: int
    card: Mapping[str, Any] | None = None
    licence: str | None = None


def model_card(
    facts: Facts, results: Iterable[Mapping[str, Any]] = (), dataset: str = "own images"
) -> str:
    """Write a model card, with the hub's metadata at its head.

    Args:
        facts: of the weights.
        results: records as plain values, such as `Records.as_dicts()` gives.
        dataset: name of the images that they are of.

    Raises:
        ValueError: results that are no records.
    """
    means = _means(results)
    lines = [
        *(f"# {facts.repo_id}", "", _summary(facts), "", "## Use", ""),
        *("```python", "from diffjscc import AWGN, DiffJSCC", ""),
        f'scheme = DiffJSCC.from_pretrained("{facts.repo_id}", rate="{facts.rates[0]}")',
        *("result = scheme(image, AWGN(snr_db=10.0))", "```", "", "```bash"),
        f"diffjscc transmit photo.jpg --weights {facts.repo_id} --rate {facts.rates[0]} -o out",
        *("```", ""),
    ]
    if means:
        note = "Means over images and transmissions. SNR is Es/N0; rate is channel uses per pixel."
        lines += [f"## Results on {dataset}", "", *_table(means), "", note, ""]
    for key, value in (facts.card or {}).items():
        lines += [f"## {_cell(key.replace('_', ' ').capitalize())}", "", *_content(value), ""]
    lines += ["## Method", "", f"[arXiv {PAPER}](https://arxiv.org/abs/{PAPER})"]
    data = ModelCardData(
        library_name="diffjscc",
        pipeline_tag="image-to-image",
        license=facts.licence,
        tags=list(TAGS),
        model_name=facts.repo_id.rpartition("/")[2],
        eval_results=_evaluations(means, dataset) or None,
    )
    return str(ModelCard(f"---\n{data.to_yaml()}\n---\n\n" + "\n".join(lines) + "\n"))


def _summary(facts: Facts) -> str:
    refined = "" if facts.refiner is None else f" and a diffusion receiver ({facts.refiner})"
    return (
        f"Weights of a joint source-channel codec ({facts.codec}){refined}: images over noisy "
        f"channels at R = {', '.join(facts.rates)} channel uses per pixel, "
        f"{facts.parameters / 1e6:.1f} million parameters."
    )


def _content(value: object) -> list[str]:
    """A value of card.json in Markdown: text as a paragraph, all else as YAML."""
    if isinstance(value, str | int | float):
        return [str(value).replace("<", "&lt;")]
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100).rstrip()
    return ["```yaml", text.replace("```", "'''"), "```"]


def _means(results: Iterable[Mapping[str, Any]]) -> dict[tuple[Any, ...], dict[str, float]]:
    """Mean of every metric at every operating point, in the order of the first records."""
    groups: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for row in results:
        try:
            scheme, channel, rate, snr_db = (row[name] for name in _POINT)
            point = (str(scheme), str(channel), str(rate), float(snr_db))
            groups.setdefault(point, []).append(row)
        except (KeyError, TypeError, ValueError):
            raise ValueError(
                f"results hold {str(row)[:60]!r}; give records as plain values, such as "
                "evaluate(…).as_dicts()"
            ) from None
    means = {}
    for point, rows in groups.items():
        values = {
            name: [row[name] for row in rows if _is_finite(row.get(name))] for name in _LABELS
        }
        means[point] = {name: math.fsum(v) / len(v) for name, v in values.items() if v}
    return means


def _is_finite(value: object) -> bool:
    """Return whether a value of a record is a number; None, and what is none, is not."""
    return isinstance(value, float) and math.isfinite(value)


def _table(means: Mapping[tuple[Any, ...], Mapping[str, float]]) -> list[str]:
    names = [name for name in _LABELS if any(name in values for values in means.values())]
    heads = ["scheme", "channel", "rate", "SNR / dB", *(_LABELS[name] for name in names)]
    rows = [heads, ["---"] * len(heads)]
    for (scheme, channel, rate, snr_db), values in means.items():
        cells = [f"{values[name]:.3f}" if name in values else "–" for name in names]
        rows.append([_cell(scheme), _cell(channel), _cell(rate), f"{snr_db:g}", *cells])
    return [f"| {' | '.join(row)} |" for row in rows]


def _cell(text: object) -> str:
    return printable(" ".join(str(text).split())).replace("|", "\\|").replace("<", "&lt;")


def _evaluations(
    means: Mapping[tuple[Any, ...], Mapping[str, float]], dataset: str
) -> list[EvalResult]:
    """Results as the hub's metadata has them."""
    named = {
        f"{_cell(scheme)}, {_cell(channel)}, R = {_cell(rate)}, {snr_db:g} dB": values
        for (scheme, channel, rate, snr_db), values in means.items()
    }
    return [
        EvalResult(
            task_type="image-to-image",
            dataset_type="images",
            dataset_name=dataset,
            metric_type=name,
            metric_value=round(value, 4),
            metric_name=f"{_LABELS[name]}, {point}",
        )
        for point, values in named.items()
        for name, value in values.items()
    ]

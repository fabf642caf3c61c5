"""The paper's experiments: what each compares, what it leaves out, and a quick one run."""

import json
import shutil
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image
from typer.testing import CliRunner

from diffjscc.choices import FigureName
from diffjscc.cli import app
from diffjscc.codecs.digital.source_codecs.source import SourceUnavailable
from diffjscc.evaluation.config import SweepConfig
from diffjscc.evaluation.experiments import Experiment, Request, default_images, make_experiment
from diffjscc.evaluation.results import read_results
from diffjscc.pretrained.diffjscc import DiffJSCC


@pytest.fixture
def images(tmp_path: Path) -> tuple[str]:
    for number in range(10):
        Image.new("RGB", (48, 32), (25 * number, 90, 120)).save(tmp_path / f"{number}.png")
    return (str(tmp_path),)


def config_of(experiment: Experiment) -> SweepConfig:
    assert experiment.config is not None
    return experiment.config


def names(config: SweepConfig) -> list[str]:
    return [scheme.name for scheme in config.schemes]


def test_each_figure_has_the_papers_axes(images: tuple[str]) -> None:
    def axes(figure: FigureName) -> tuple[list[str], tuple[str, ...], tuple[float, ...], int]:
        config = config_of(make_experiment(figure, Request(images)))
        return names(config), config.rates, config.snrs_db, config.repeats

    rates, snrs_db = ("1/128", "1/64", "1/32", "1/16"), (1.0, 4.0, 7.0, 10.0, 13.0)
    both = ["deepjscc", "diffjscc"]
    assert axes("fig1") == (both, rates[:1], (1.0,), 1)
    paper = [*both, "bpg-ldpc, bpsk 2/3", "bpg-capacity"]
    paper += [f"{name}, downsampled" for name in paper[2:]]
    assert axes("fig3") == (paper, rates, (1.0,), 5)
    links = ["bpg-ldpc", "bpg-capacity", "bpg-ldpc, downsampled", "bpg-capacity, downsampled"]
    rivals = [*both, "ddnm", *links]
    assert axes("fig4") == (rivals, rates[:1], snrs_db, 5)
    assert axes("fig5") == (both, rates[:2], (1.0, 13.0), 1)
    assert axes("fig6") == (["spatial + SNR"], rates[:1], snrs_db, 5)
    schemes, over_rates, over_snrs, _ = axes("fig7")
    assert (over_rates, over_snrs) == (("1/128",), (1.0, 7.0, 13.0))
    assert {"own sampler, 1 steps", "DDPM from noise, 100 steps"} <= set(schemes)
    config = config_of(make_experiment("fig7", Request(images)))
    paper = [scheme.refiner for scheme in config.schemes if scheme.refiner.start == "noise"]
    assert [options.num_inference_steps for options in paper] == [1, 2, 5, 10, 20, 50, 100]
    assert {options.sampler for options in paper} == {"ddpm"}


def test_what_is_left_out_is_said(images: tuple[str], converted: Path, tmp_path: Path) -> None:
    def left_out(figure: FigureName, weights: str = "compact", **more: tuple[str]) -> str:
        return " | ".join(make_experiment(figure, Request(images, weights, **more)).left_out)

    assert not left_out("fig3")
    assert "--adversarial" in left_out("fig4")
    assert left_out("fig4", adversarial=("compact",)) == ""
    assert "--spatial" in left_out("fig6")
    assert "reads no text" in left_out("fig6")
    assert make_experiment("fig8", Request(images)).config is None
    assert "reads no text" in left_out("fig8")
    assert "blip2-opt-2.7b is not on this machine" in left_out("fig8", str(converted))
    with_spatial = make_experiment("fig6", Request(images, spatial=str(converted)))
    assert names(config_of(with_spatial)) == ["spatial", "spatial + SNR"]
    assert config_of(with_spatial).schemes[0].weights == str(converted)
    links = ["bpg-ldpc", "bpg-capacity", "bpg-ldpc, downsampled", "bpg-capacity, downsampled"]
    codec = tmp_path / "codec"
    DiffJSCC.from_pretrained("compact", refiner=None, device="cpu").save_pretrained(codec)
    alone = make_experiment("fig4", Request(images, str(codec)))
    assert names(config_of(alone)) == ["deepjscc", *links]
    assert "no diffusion receiver" in alone.left_out[0]
    assert "--adversarial" in alone.left_out[1]
    rivals = make_experiment("fig4", Request(images, str(codec), adversarial=("compact",)))
    assert names(config_of(rivals)) == ["deepjscc", "DeepJSCC-adv", *links]
    runs = [tmp_path / alpha / "weights" for alpha in ("alpha-1e-3", "alpha-3e-3")]
    for run in runs:
        shutil.copytree(codec, run)
    both = Request(images, str(codec), adversarial=tuple(map(str, runs)))
    named = ["DeepJSCC-adv, alpha-1e-3", "DeepJSCC-adv, alpha-3e-3"]
    assert names(config_of(make_experiment("fig4", both)))[1:3] == named
    with pytest.raises(ValueError, match="two of 'alpha-1e-3'; rename one"):
        make_experiment("fig4", Request(images, str(codec), adversarial=(str(runs[0]),) * 2))
    mixed = Request(images, str(codec), adversarial=(str(runs[0]), str(codec)))
    named = ["DeepJSCC-adv, alpha-1e-3", "DeepJSCC-adv, codec"]
    assert names(config_of(make_experiment("fig4", mixed)))[1:3] == named
    assert make_experiment("fig7", Request(images, str(codec))).config is None


def test_without_pyav_the_digital_links_are_left_out(
    images: tuple[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise SourceUnavailable("HEVC (BPG) needs PyAV: pip install 'diffjscc[digital]'")

    monkeypatch.setattr("diffjscc.codecs.digital.source_codecs.hevc._load_av", missing)
    experiment = make_experiment("fig3", Request(images))
    assert names(config_of(experiment)) == ["deepjscc", "diffjscc"]
    assert experiment.left_out[0].startswith("bpg-ldpc and bpg-capacity: HEVC (BPG) needs PyAV")


def test_quick_takes_the_ends_of_every_axis(images: tuple[str]) -> None:
    for figure in get_args(FigureName):
        experiment = make_experiment(figure, Request(images, quick=True))
        if experiment.config is not None:
            config = experiment.config
            assert max(len(config.rates), len(config.snrs_db), len(config.images)) <= 2
            assert (config.repeats, config.crop) == (1, 384)


def test_images_are_looked_for_where_fetch_puts_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="diffjscc fetch kodak"):
        default_images(quick=False)
    assert Path(default_images(quick=True)).is_file()
    (tmp_path / "data" / "kodak").mkdir(parents=True)
    assert default_images(quick=False) == default_images(quick=True) == "data/kodak"
    with pytest.raises(ValueError, match="figure 'fig2' is not one of fig1, fig3"):
        make_experiment("fig2", Request(("x",)))  # type: ignore[arg-type]


def test_a_quick_run_writes_rows_figures_and_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    command = ["reproduce", "fig3", "--quick", "-o", "out"]
    first = CliRunner().invoke(app, command)
    assert first.exit_code == 0, first.output
    results = read_results(tmp_path / "out" / "fig3")
    # At 1/128 no BPG image fits, as the paper says.
    assert len(results.records) == 2 * 2 + 2
    assert {(absent.scheme, absent.nominal_rate) for absent in results.absent} == {
        ("bpg-ldpc, bpsk 2/3", "1/128"),
        ("bpg-capacity", "1/128"),
    }
    assert not any(row.outage for row in results.records)
    assert {cell.features for cell in results.distances} == {"squeezenet"}
    assert results.setup.figure == "fig3"
    assert any("FID" in reason for reason in results.setup.left_out)
    assert Image.open(tmp_path / "out" / "fig3" / "figures" / "fig3.png").width > 600
    assert (tmp_path / "out" / "fig3" / "figures" / "fig3.pdf").stat().st_size > 1000
    assert "grace_hopper" in (tmp_path / "out" / "report.html").read_text()
    before = (tmp_path / "out" / "fig3" / "rows.jsonl").read_bytes()
    again = CliRunner().invoke(app, command)
    assert again.exit_code == 0, again.output
    assert (tmp_path / "out" / "fig3" / "rows.jsonl").read_bytes() == before
    setup = json.loads((tmp_path / "out" / "fig3" / "setup.json").read_text())
    assert str(tmp_path) not in json.dumps(
        setup
    )  # results may be shared: no places of this machine

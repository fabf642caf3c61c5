"""The first DeepJSCC: its numbers, its graceful degradation, and the figure's command."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from diffjscc import AWGN, BasicJSCC, BasicJSCCConfig, Rayleigh, Scheme, load_image
from diffjscc.cli import app
from diffjscc.evaluation.results import read_results
from diffjscc.pretrained.offered import offered_rates
from diffjscc.training.codec_config import JSCCConfig
from diffjscc.training.config import load_config
from locations import ROOT

PHOTOGRAPHS = ROOT / "tests" / "photographs"


def crops(count: int) -> torch.Tensor:
    """Crops of 32x32 pixels of reduced photographs, float32 [count, 3, 32, 32]."""
    photographs = [
        torch.nn.functional.interpolate(load_image(path)[None], size=(96, 96), mode="area")
        for path in sorted(PHOTOGRAPHS.glob("*.webp"))
    ]
    generator = torch.Generator().manual_seed(0)
    found = []
    for number in range(count):
        top, left = torch.randint(65, (2,), generator=generator).tolist()
        photograph = photographs[number % len(photographs)]
        found.append(photograph[0, :, top : top + 32, left : left + 32])
    return torch.stack(found)


@pytest.mark.parametrize(("channels", "ratio"), [(8, Fraction(1, 12)), (16, Fraction(1, 6))])
def test_numbers_are_the_published_ones(channels: int, ratio: Fraction) -> None:
    codec = BasicJSCC(BasicJSCCConfig(channels=channels)).eval()
    assert codec.rates == (3 * ratio,)
    image = torch.rand(2, 3, 32, 32)
    csi = AWGN(7.0).sample_state(2).at_transmitter
    with torch.no_grad():
        symbols = codec.encode(image, csi, codec.rates[0])
    assert symbols.channel_uses == ratio * 3 * 32 * 32
    torch.testing.assert_close(symbols.values.abs().square().mean(1), torch.ones(2))
    weights = [p for p in codec.parameters() if p.ndim == 4]
    assert len(weights) == 10
    assert {tuple(p.shape[2:]) for p in weights} == {(5, 5)}


def test_neither_end_knows_the_snr() -> None:
    codec = BasicJSCC(BasicJSCCConfig(snr_range_db=(7, 7))).eval()
    image, rate = torch.rand(1, 3, 32, 32), codec.rates[0]
    states = [AWGN(snr_db).sample_state(1) for snr_db in (-10.0, 30.0)]
    with torch.no_grad():
        first, second = (codec.encode(image, state.at_transmitter, rate) for state in states)
        assert torch.equal(first.values, second.values)
        decoded = [codec.decode(first.received(first.values, state)) for state in states]
    assert torch.equal(*decoded)


def test_slow_fading_is_decoded_as_received() -> None:
    codec = BasicJSCC(BasicJSCCConfig(receiver="unequalised")).eval()
    image, rate = torch.rand(1, 3, 32, 32), codec.rates[0]
    state = Rayleigh(7.0).sample_state(1, torch.Generator().manual_seed(1))
    with torch.no_grad():
        symbols = codec.encode(image, state.at_transmitter, rate)
        faded = symbols.received(state.gain * symbols.values, state)
        clean = AWGN(7.0).sample_state(1)
        as_it_is = symbols.received(state.gain * symbols.values, clean)
        assert torch.equal(codec.decode(faded), codec.decode(as_it_is))
        equalised = BasicJSCC(BasicJSCCConfig()).eval()
        equalised.load_state_dict(codec.state_dict())
        assert not torch.allclose(equalised.decode(faded), codec.decode(faded), atol=1e-3)


def test_it_learns_and_degrades_by_degrees() -> None:
    torch.manual_seed(0)
    codec = BasicJSCC(BasicJSCCConfig(channels=16)).train()
    scheme = Scheme(codec, codec.rates[0])
    optimiser = torch.optim.Adam(codec.parameters(), lr=2e-3)
    images = crops(64)
    for step in range(120):
        batch = images[step * 16 % 64 :][:16]
        received = scheme.send(batch, AWGN(7.0), torch.Generator().manual_seed(step))
        loss = (codec.reconstruct(received) - batch).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    codec.eval()
    errors = []
    with torch.no_grad():
        for snr_db in (-5.0, 1.0, 7.0, 20.0):
            result = scheme(images, AWGN(snr_db), generator=torch.Generator().manual_seed(1))
            errors.append(float((result.image - images).square().mean()))
    assert errors == sorted(errors, reverse=True)
    flat = float((images - images.mean(dim=(2, 3), keepdim=True)).square().mean())
    assert errors[2] < 0.7 * flat


def test_the_shipped_config_is_the_figures(tmp_path: Path) -> None:
    config = load_config(JSCCConfig, "deepjscc-32-jscc", ["data.train=somewhere"])
    assert config.data.crop == 32
    assert config.codec["class"] == "BasicJSCC"
    folder = tmp_path / "codec"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config.codec))
    assert offered_rates(str(tmp_path)) == (Fraction(1, 4),)


def test_the_figure_is_one_command(tmp_path: Path) -> None:
    words = ["reproduce", "deepjscc", "--quick", "-o", str(tmp_path / "out")]
    places = ["--train", str(PHOTOGRAPHS), "--images", str(PHOTOGRAPHS)]
    done = CliRunner().invoke(app, [*words, *places])
    assert done.exit_code == 0, done.output
    for name, rate in (("1-12", "1/4"), ("1-6", "1/2")):
        folder = tmp_path / "out" / "deepjscc" / name
        results = read_results(folder)
        assert {record.nominal_rate for record in results.records} == {rate}
        assert {record.scheme for record in results.records} == {"trained at 1 dB"}
        assert all(record.width == record.height == 32 for record in results.records)
        assert (folder / "figures" / "deepjscc.png").is_file()
    assert (tmp_path / "out" / "report.html").is_file()
    again = CliRunner().invoke(app, [*words, *places])  # nothing is trained or sent twice
    assert again.exit_code == 0, again.output


def test_what_the_figure_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    runner = CliRunner()
    missing = runner.invoke(app, ["reproduce", "deepjscc", "-o", "out"])
    assert missing.exit_code == 2
    assert "diffjscc fetch cifar10" in missing.output.replace("\n", " ")
    other = runner.invoke(app, ["reproduce", "fig4", "--train", "x", "-o", "out"])
    assert other.exit_code == 2
    assert "--train x is for deepjscc" in other.output
    words = ["reproduce", "deepjscc", "--channel", "rician", "-o", "out"]
    assert "is over awgn or rayleigh" in runner.invoke(app, words).output
    assert not (tmp_path / "out").exists()

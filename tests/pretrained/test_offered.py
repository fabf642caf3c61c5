"""Rates of weights, said before anything of them is loaded or fetched."""

from fractions import Fraction
from pathlib import Path

import pytest
from typer.testing import CliRunner

from diffjscc import DiffJSCC, SwinJSCC
from diffjscc.cli import app
from diffjscc.codecs.swin import SwinJSCCConfig
from diffjscc.pretrained.codec import save_codec
from diffjscc.pretrained.offered import offered_rates
from diffjscc.pretrained.pretrained import load_codec
from toy_hub import Hub

WRONG = ["--rate", "1/7", "--refiner", "none"]


@pytest.fixture
def swin(tmp_path: Path) -> Path:
    """Weights of a small Swin codec, whose tensors are gone."""
    numbers = {
        f"{end}_{name}": (value,) * 2
        for end in ("encoder", "decoder")
        for name, value in (("widths", 8), ("depths", 1), ("heads", 2))
    }
    codec = SwinJSCC(SwinJSCCConfig(channels=4, window=2, **numbers))
    save_codec(codec, tmp_path / "swin")
    assert codec.rates == load_codec(tmp_path / "swin").rates == (Fraction(1, 8),)
    for path in (tmp_path / "swin").rglob("*.safetensors"):
        path.unlink()
    return tmp_path / "swin"


@pytest.fixture
def converted_alone(converted: Path, tmp_path: Path) -> Path:
    """A folder with the description of a converted codec and no tensors."""
    target = tmp_path / "converted/codec"
    target.mkdir(parents=True)
    (target / "config.json").write_bytes((converted / "codec/config.json").read_bytes())
    return target.parent


def test_rates_without_tensors(swin: Path, checkpoint: Path, converted: Path) -> None:
    assert offered_rates(str(swin)) == (Fraction(1, 8),)
    assert offered_rates(str(checkpoint)) == load_codec(converted).rates
    assert offered_rates("compact") == load_codec("compact").rates


def test_rates_of_a_hub_id_are_known_by_one_small_file(
    hub: type[Hub], converted: Path, converted_alone: Path, tmp_path: Path
) -> None:
    rates = load_codec(converted).rates
    assert offered_rates("someone/weights@v1") == rates  # of a released checkpoint
    hub.folder = converted_alone
    with pytest.raises(ValueError, match=r'1/7 is not one of .* \(weights "someone/weights@main"'):
        DiffJSCC.from_pretrained("someone/weights@main", "1/7")
    fetched = {path.name for path in (tmp_path / "cache").rglob("*") if path.is_symlink()}
    assert fetched == {"config.yaml", "config.json"}
    assert offered_rates("someone/nothing") is None
    assert offered_rates("someone/weights@v9") is None


def test_rates_are_checked_before_weights_are_loaded(
    swin: Path, checkpoint: Path, hub: type[Hub], tmp_path: Path
) -> None:
    image = tmp_path / "a.png"
    for weights in (swin, checkpoint, "someone/weights"):
        words = ["transmit", str(image), "--weights", str(weights), *WRONG, "-o", str(tmp_path)]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 2
        assert "rate 1/7 is not one of" in result.stderr
        assert f'(weights "{weights}")' in result.stderr.replace("\n", "")
        with pytest.raises(ValueError, match="rate 1/7 is not one of"):
            DiffJSCC.from_pretrained(weights, "1/7")
    assert not list((tmp_path / "cache").rglob("model.ckpt"))

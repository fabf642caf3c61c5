"""Weights on disk: what is saved loads again, and damage is named."""

import json
from pathlib import Path

import pytest
import torch

from diffjscc import AWGN, DiffJSCC
from diffjscc.pretrained.build import build_codec, describe_codec
from diffjscc.pretrained.diffjscc import choose_device
from diffjscc.pretrained.pretrained import WeightsError, load_codec, save_codec, weights_hash
from diffjscc.rate import parse_rate

SMALL = {"class": "CompactJSCC", "widths": [16, 24], "encoder_blocks": [1, 1]}
DESCRIPTIONS = {
    "compact": SMALL,
    "deepjscc": {"class": "DeepJSCC", "base_width": 8, "encoder_blocks": 1, "channels": 8},
    "swin": {"class": "SwinJSCC"},
}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_codec(build_codec(SMALL), tmp_path / "w")
    return tmp_path / "w"


@pytest.mark.parametrize("name", DESCRIPTIONS)
def test_what_is_saved_loads_again(name: str, tmp_path: Path) -> None:
    codec = build_codec(DESCRIPTIONS[name]).eval()
    save_codec(codec, tmp_path)
    loaded = load_codec(tmp_path)
    assert describe_codec(loaded) == describe_codec(codec)
    for key, value in codec.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    assert not any(p.requires_grad for p in loaded.parameters())


def test_half_precision_storage_halves_the_size_and_keeps_the_numbers(tmp_path: Path) -> None:
    codec = build_codec(SMALL)
    save_codec(codec, tmp_path / "single")
    save_codec(codec, tmp_path / "half", torch.float16)
    sizes = [
        sum(f.stat().st_size for f in (tmp_path / name).rglob("*.safetensors"))
        for name in ("single", "half")
    ]
    assert sizes[1] < 0.56 * sizes[0]
    loaded = load_codec(tmp_path / "half").state_dict()
    for key, value in codec.state_dict().items():
        assert loaded[key].dtype == torch.float32
        torch.testing.assert_close(loaded[key], value, rtol=1e-3, atol=1e-6)


def test_one_end_reads_one_file(weights: Path) -> None:
    decoder = next(weights.rglob("decoder-*.safetensors"))
    decoder.unlink()
    transmitter = DiffJSCC.from_pretrained(weights, "1/64", parts="transmitter")
    symbols = transmitter.encode(torch.rand(1, 3, 32, 32), 1.0)
    assert symbols.channel_uses == 4 * 4
    with pytest.raises(WeightsError, match="cannot be read"):
        DiffJSCC.from_pretrained(weights)


def test_scheme_round_trip(weights: Path, tmp_path: Path) -> None:
    scheme = DiffJSCC.from_pretrained(weights, "1/32", device="cpu")
    scheme.save_pretrained(tmp_path / "copy")
    copy = DiffJSCC.from_pretrained(tmp_path / "copy", "1/32", device="cpu")
    images = torch.rand(1, 3, 40, 24)
    one, other = (
        s(images, AWGN(3.0), torch.Generator().manual_seed(1)).image for s in (scheme, copy)
    )
    assert torch.equal(one, other)
    assert weights_hash(weights) == weights_hash(tmp_path / "copy")
    assert scheme.provenance == f"w@{weights_hash(weights)}"


def test_damage_is_named(weights: Path) -> None:
    file = next(weights.rglob("encoder-*.safetensors"))
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(WeightsError, match="is damaged"):
        load_codec(weights)


def test_another_architecture_is_named(weights: Path) -> None:
    config = weights / "codec" / "config.json"
    values = json.loads(config.read_text())
    config.write_text(json.dumps(values | {"widths": [16, 32]}))
    with pytest.raises(WeightsError, match="do not fit its config"):
        load_codec(weights)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"class": "CompactJSC"}, "did you mean 'CompactJSCC'"),
        ({"width": [1, 2]}, "no setting 'width'; did you mean 'widths'"),
        ({"kernel": "big"}, "CompactJSCC.kernel = 'big'"),
    ],
)
def test_bad_descriptions_are_named(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_codec(SMALL | change)


def test_unknown_weights_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match=r"neither bundled \(.*\) nor a folder"):
        DiffJSCC.from_pretrained("compakt")
    with pytest.raises(WeightsError, match=r"config\.json is missing"):
        DiffJSCC.from_pretrained(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="hub cannot be reached"):
        DiffJSCC.from_pretrained("nobody/nothing")


@pytest.mark.parametrize("text", ["1/128", 0.0078125])
def test_rates_are_parsed(text: str | float) -> None:
    assert parse_rate(text).denominator == 128


@pytest.mark.parametrize("text", ["abc", "0", "-1/16", "1/0", "nan", "inf"])
def test_bad_rates_are_named(text: str) -> None:
    with pytest.raises(ValueError, match="rate"):
        parse_rate(text)


def test_bad_devices_are_named() -> None:
    with pytest.raises(ValueError, match="device 'toaster' is unknown"):
        choose_device("toaster")

"""From a name, a config or an import string to a scheme."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import pytest
import torch

from diffjscc import AWGN
from diffjscc.choices import SchemeKind
from diffjscc.configuration import check
from diffjscc.schemes.channel import ChannelConfig
from diffjscc.schemes.config import SchemeConfig
from diffjscc.schemes.kinds import KINDS
from diffjscc.schemes.loader import SchemeLoader

PARTS = """
import torch
from diffjscc import AWGN, DiffJSCC, Reconstruction

calls = []

def make(rate="1/128", weights="compact"):
    calls.append(weights)
    return DiffJSCC.from_pretrained(weights, rate, refiner=None, device="cpu")

def not_a_scheme():
    return 5

class Grey:
    def __init__(self, level=0.5):
        self.level = level
    def refine(self, initial, received, generator=None):
        return Reconstruction(torch.full_like(initial, self.level), initial)

class Louder(AWGN):
    def __init__(self, snr_db, by=3.0):
        super().__init__(snr_db - by)

class Wrong:
    transmitter_csi = False
    def __init__(self, snr_db):
        self.channel = AWGN(snr_db)
    def sample_state(self, *args):
        return self.channel.sample_state(*args)
    def __call__(self, symbols, generator=None, state=None):
        return symbols.received(symbols.values[:, :-1], state)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a user's module in the current folder."""
    (tmp_path / "users_parts.py").write_text(PARTS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    yield "users_parts"
    sys.modules.pop("users_parts", None)


def scheme_config(**values: object) -> SchemeConfig:
    return check(SchemeConfig, values, "test")


def test_every_kind_is_in_the_table() -> None:
    assert set(KINDS) == set(get_args(SchemeKind))


def test_a_scheme_of_the_users_own(module: str) -> None:
    config = scheme_config(**SchemeConfig.named(f"{module}:make"))
    loader = SchemeLoader("cpu")
    scheme = loader.at(config, "1/64")
    assert str(scheme.rate) == "1/64"
    assert scheme.provenance.startswith("compact@")
    assert loader.at(config, "1/16").codec is scheme.codec  # loaded once
    with pytest.raises(ValueError, match=r"users_parts:make: rate 1/3 is not one of 1/128"):
        loader.at(config, "1/3")
    with pytest.raises(ValueError, match=r"returned int; it must return a diffjscc\.Scheme"):
        loader.at(scheme_config(kind="custom", factory=f"{module}:not_a_scheme"), "1/64")
    with pytest.raises(ValueError, match="could not be called"):
        loader.at(scheme_config(kind="custom", factory=f"{module}:make", args={"x": 1}), "1/64")


def test_a_refiner_of_the_users_own_behind_a_codec_alone(module: str) -> None:
    custom = {"kind": "custom", "factory": f"{module}:Grey", "args": {"level": 0.25}}
    config = scheme_config(kind="deepjscc", refiner=custom)
    assert config.name == "deepjscc + users_parts:Grey"
    scheme = SchemeLoader("cpu").at(config, "1/128")
    assert scheme.provenance.endswith(" + users_parts:Grey(level=0.25)")
    result = scheme(torch.rand(1, 3, 32, 48), AWGN(3.0), torch.Generator().manual_seed(0))
    assert bool((result.image == 0.25).all())
    assert check(SchemeConfig, config.model_dump(), "again") == config
    with pytest.raises(ValueError, match="diffjscc has a refiner of its own"):
        scheme_config(kind="diffjscc", refiner=custom)
    broken = custom | {"factory": f"{module}:Louder", "args": {"snr_db": 1.0}}
    config = scheme_config(kind="deepjscc", refiner=broken)
    with pytest.raises(ValueError, match="has no refine"):
        SchemeLoader("cpu").at(config, "1/128")


def test_a_channel_of_the_users_own(module: str) -> None:
    named = check(ChannelConfig, ChannelConfig.named(f"{module}:Louder"), "test")
    assert named.label == "users_parts:Louder"
    assert named.at(5.0).sample_state(2).snr_db.tolist() == [2.0, 2.0]
    config = {"name": "custom", "factory": f"{module}:Louder", "args": {"by": 1.0}}
    louder = check(ChannelConfig, config, "test")
    assert louder.label == "users_parts:Louder, by = 1.0"
    assert louder.at(5.0).sample_state(1).snr_db.tolist() == [4.0]
    wrong = check(ChannelConfig, ChannelConfig.named(f"{module}:Grey"), "test")
    with pytest.raises(ValueError, match="gave Grey, which has no transmitter_csi, sample_state"):
        wrong.at(3.0)
    short = check(ChannelConfig, ChannelConfig.named(f"{module}:Wrong"), "test").at(3.0)
    scheme = SchemeLoader("cpu").at(scheme_config(kind="deepjscc"), "1/128")
    with pytest.raises(ValueError, match=r"Wrong gave torch.complex64 \(1, 11\); .* \(1, 12\)"):
        scheme(torch.rand(1, 3, 32, 48), short)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"kind": "custom"}, "custom needs a factory"),
        ({"kind": "deepjscc", "factory": "a:b"}, "deepjscc takes no factory"),
        ({"kind": "custom", "factory": "a.b"}, "'a.b' is not an import string"),
        ({"kind": "deepjscc", "args": {"a": 1}}, "args are for a factory"),
        ({"kind": "deepjscc", "refiner": {"kind": "custom"}}, "custom_refiner.factory is missing"),
    ],
)
def test_settings_that_make_no_scheme(values: dict[str, object], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        check(SchemeConfig, values, "test")

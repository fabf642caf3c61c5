"""Training of a codec that conveys a texture map, of flat areas, and on more than one source."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from diffjscc import AWGN, Scheme
from diffjscc.codecs.compact import CompactJSCC
from diffjscc.layers.texture import texture_map
from diffjscc.pretrained.build import build_codec
from diffjscc.pretrained.pretrained import load_codec, save_codec
from diffjscc.training.codec_config import JSCCConfig
from diffjscc.training.codecs import start_from
from diffjscc.training.config import load_config
from diffjscc.training.images import open_images
from diffjscc.training.jscc import train
from diffjscc.training.losses import flat_colour
from diffjscc.training.optimiser import Optimiser

CODEC = {"class": "CompactJSCC", "widths": [16, 24], "encoder_blocks": [1, 1]}
CODEC |= {"decoder_blocks": [1, 1], "rate_channels": [4, 8]}


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of noise, from none to much, in two folders."""
    folder = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for number in range(8):
        noise = rng.normal(128, 4 * number, (64, 80, 1)).repeat(3, 2)
        place = folder / ("calm" if number < 4 else "rough")
        place.mkdir(exist_ok=True)
        pixels = noise.clip(0, 255).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{number}.png")
    return folder


def config_of(images: Path, folder: Path, **more: object) -> JSCCConfig:
    config = {
        "codec": CODEC | {"texture": True},
        "data": {"train": str(images / "rough"), "further": str(images / "calm"), "crop": 32},
        "augmentation": {"grey": 0.5, "gradient": 0.1},
        "channel": {"snr_db": [10, 20]},
        "loss": {"name": "log-mse", "texture": 1.0, "flat_colour": 1.0},
        "optimiser": {"learning_rate": 3e-3, "clip": 1.0},
        "run": {"iterations": 120, "batch": 8, "log_every": 10, "ema": 0.5},
        **more,
    }
    path = folder / "toy.yaml"
    path.write_text(yaml.safe_dump(config))
    return load_config(JSCCConfig, str(path))


def test_the_map_is_learnt_and_received(images: Path, tmp_path: Path) -> None:
    weights = train(config_of(images, tmp_path), tmp_path / "run")
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert {"texture", "flat colour"} <= log[0].keys()
    assert log[-1]["texture"] < 0.5 * log[0]["texture"]
    codec = load_codec(str(weights))
    assert isinstance(codec, CompactJSCC)
    sent = [open_images(config_of(images, tmp_path).data)[0][n] for n in range(8)]
    originals = torch.from_numpy(np.stack(sent)).permute(0, 3, 1, 2).float() / 255
    received = Scheme(codec, codec.rates[0]).send(
        originals, AWGN(15.0), torch.Generator().manual_seed(0)
    )
    _, _, texture = codec.attempt_with_texture(received)
    wanted = texture_map(originals).mean(dim=(1, 2, 3))
    assert texture is not None
    found = texture.mean(dim=(1, 2, 3))
    assert torch.corrcoef(torch.stack((found, wanted)))[0, 1].item() > 0.9


def test_training_starts_from_a_codec_without_the_map(tmp_path: Path) -> None:
    plain, textured = build_codec(CODEC), build_codec(CODEC | {"texture": True})
    save_codec(plain, tmp_path)
    start_from(textured, str(tmp_path))
    state = textured.state_dict()
    for name, value in plain.state_dict().items():
        assert torch.equal(state[name], value), name
    save_codec(textured, tmp_path)
    with pytest.raises(ValueError, match="texture"):
        start_from(plain, str(tmp_path))


def test_further_images_count_as_often_as_asked(images: Path, tmp_path: Path) -> None:
    data = {"train": str(images / "rough"), "further": str(images / "calm"), "further_crops": 3}
    source, _ = open_images(config_of(images, tmp_path, data=data).data)
    assert len(source) == 4 + 3 * 4
    assert np.array_equal(source[4], source[8])
    assert source.sha256(4) == source.sha256(12)
    assert source.caption(5) is None
    alone, _ = open_images(config_of(images, tmp_path, data={"train": data["train"]}).data)
    assert alone.fingerprint != source.fingerprint
    assert len(alone) == 4


def test_colour_errors_count_where_the_original_is_flat() -> None:
    flat = torch.full((1, 3, 64, 64), 0.5)
    rough = flat + 0.3 * torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    tint = torch.tensor([0.02, 0.0, -0.02])[:, None, None]
    brighter = torch.full((3, 1, 1), 0.02)
    assert flat_colour(flat + tint, flat).item() == pytest.approx(0.0163, abs=0.001)
    assert flat_colour(flat + brighter, flat).item() < 0.0011
    assert flat_colour(rough + tint, rough).item() < 0.001


@pytest.mark.parametrize("name", ["compact-texture-jscc", "compact-joint-jscc"])
def test_the_shipped_configs_fit_the_codec(name: str) -> None:
    config = load_config(JSCCConfig, name)
    codec = build_codec(config.codec)
    Optimiser(codec, config.optimiser)
    assert codec.config.texture
    assert config.augmentation.defocus > 0

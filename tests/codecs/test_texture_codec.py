"""CompactJSCC with a texture map in its symbols: at no further channel uses, for any receiver."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from diffjscc import AWGN, Reconstruction, Scheme
from diffjscc.codecs.compact import CompactConfig, CompactJSCC
from diffjscc.layers import banding
from diffjscc.layers.texture import texture_map
from diffjscc.pretrained.pretrained import load_codec, save_codec
from diffjscc.protocols import TextureCodec
from diffjscc.symbols import Generators, Received

PLAIN = CompactConfig(widths=(16, 24), encoder_blocks=(1, 2), decoder_blocks=(2, 1))
TEXTURED = replace(PLAIN, texture=True)
IMAGES = torch.rand(2, 3, 40, 56, generator=torch.Generator().manual_seed(0))


def make(config: CompactConfig) -> CompactJSCC:
    """A codec with all its paths open, which new ones keep closed."""
    torch.manual_seed(0)
    codec = CompactJSCC(config).eval().requires_grad_(False)
    for name, parameter in codec.named_parameters():
        draw = torch.Generator().manual_seed(len(name))  # equal layers, equal numbers
        parameter.add_(0.02 * torch.randn(parameter.shape, generator=draw))
    return codec


def received(codec: CompactJSCC, rate: int = 0) -> Received:
    scheme = Scheme(codec, codec.rates[rate])
    return scheme.send(IMAGES, AWGN(5.0), torch.Generator().manual_seed(0))


@pytest.mark.parametrize("rate", range(4))
def test_the_map_costs_no_channel_uses(rate: int) -> None:
    codec = make(TEXTURED)
    own = received(codec, rate)
    images, outage, texture = codec.attempt_with_texture(own)
    assert not outage.any()
    assert texture is not None
    assert texture.shape == (2, 1, 3, 4)
    assert own.channel_uses == received(make(PLAIN), rate).channel_uses
    assert torch.equal(images, codec.decode(own))


def test_the_symbols_depend_on_the_texture() -> None:
    codec = make(TEXTURED)
    assert codec.encoder is not None
    assert codec.encoder.texture is not None
    for layer in (codec.encoder.texture.features, codec.encoder.texture.gains):
        before = received(codec).values
        torch.nn.init.zeros_(layer.weight)
        assert not torch.allclose(received(codec).values, before, atol=1e-4)


def test_the_maps_mean_is_the_originals_whatever_the_network_guesses() -> None:
    codec = make(TEXTURED)
    images = torch.rand(3, 3, 256, 320, generator=torch.Generator().manual_seed(2))
    images = 0.5 + (images - 0.5) * torch.tensor([0.02, 0.2, 1.0])[:, None, None, None]
    scheme = Scheme(codec, codec.rates[0])
    sent = scheme.send(images, AWGN(15.0), torch.Generator().manual_seed(0))
    power = sent.values.abs().square().mean(1)  # 1, and the noise's
    torch.testing.assert_close(power, torch.full((3,), 1.03), atol=0.03, rtol=0)
    _, _, texture = codec.attempt_with_texture(sent)
    assert texture is not None
    expected = texture_map(images).mean(dim=(1, 2, 3))
    torch.testing.assert_close(texture.mean(dim=(1, 2, 3)), expected, atol=0.2, rtol=0)


def test_bands_give_the_map_of_the_whole_image(monkeypatch: pytest.MonkeyPatch) -> None:
    codec = make(TEXTURED)
    scheme = Scheme(codec, codec.rates[0])
    image = torch.rand(1, 3, 720, 992, generator=torch.Generator().manual_seed(1))
    whole = scheme.send(image, AWGN(5.0), torch.Generator().manual_seed(0))
    _, _, texture = codec.attempt_with_texture(whole)
    monkeypatch.setattr(banding, "LARGEST_WHOLE", 0)
    monkeypatch.setattr(banding, "BAND", 300)
    tiled = scheme.send(image, AWGN(5.0), torch.Generator().manual_seed(0))
    torch.testing.assert_close(tiled.values, whole.values, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(codec.attempt_with_texture(whole)[2], texture, atol=1e-4, rtol=1e-4)


class Recorder:
    """A refiner that keeps the maps it is given."""

    def __init__(self) -> None:
        self.maps: list[Tensor | None] = []

    def refine(
        self, initial: Tensor, received: Received, generator: Generators = None
    ) -> Reconstruction:
        self.maps.append(received.texture)
        return Reconstruction(initial, initial)


def test_the_refiner_gets_the_map_that_the_codec_decoded() -> None:
    recorder = Recorder()
    for config in (TEXTURED, PLAIN):
        codec = make(config)
        assert isinstance(codec, TextureCodec)
        own = received(codec)
        Scheme(codec, codec.rates[0], recorder).decode(own)
        assert own.texture is None
    first, second = recorder.maps
    assert first is not None
    codec = make(TEXTURED)
    torch.testing.assert_close(first, codec.attempt_with_texture(received(codec))[2])
    assert second is None


class Broken(CompactJSCC):
    """A codec whose maps are not what they should be."""

    wrong = torch.zeros(2, 1, 3, 4)

    def attempt_with_texture(self, received: Received) -> tuple[Tensor, Tensor, Tensor | None]:
        return *self.attempt(received), self.wrong


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(2, 1, 4, 4), r"\(2, 1, 3, 4\)"),
        (torch.zeros(2, 1, 3, 4, dtype=torch.int64), "floating"),
        (torch.full((2, 1, 3, 4), torch.nan), "NaN"),
    ],
)
def test_maps_that_cannot_be_are_refused(wrong: Tensor, message: str) -> None:
    codec = Broken(PLAIN).eval().requires_grad_(False)
    scheme, codec.wrong = Scheme(codec, codec.rates[0]), torch.zeros(2, 1, 3, 4)
    own = scheme.send(IMAGES, AWGN(5.0), torch.Generator().manual_seed(0))
    scheme.decode(own)
    codec.wrong = wrong
    with pytest.raises(ValueError, match=message):
        scheme.decode(own)


def test_codecs_with_and_without_are_saved_and_loaded(tmp_path: Path) -> None:
    for config in (TEXTURED, PLAIN):
        codec = make(config)
        save_codec(codec, tmp_path)
        loaded = load_codec(str(tmp_path))
        assert loaded.config == config
        assert loaded.state_dict().keys() == codec.state_dict().keys()
    assert not any("texture" in name for name in make(PLAIN).state_dict())

"""Files of WITT's and SwinJSCC's authors: read, converted, and the same images as theirs."""

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
import torch
from huggingface_hub import constants
from torch import Tensor
from typer.testing import CliRunner

from diffjscc import AWGN, DiffJSCC, Rayleigh, Received
from diffjscc.cli import app
from diffjscc.codecs.side_information import USES
from diffjscc.codecs.witt import OCTAVES, WITT
from diffjscc.pretrained.convert.published import Training, convert_published
from diffjscc.pretrained.offered import offered_rates
from diffjscc.pretrained.pretrained import load_codec
from diffjscc.pretrained.storage import WeightsError
from diffjscc.schemes.config import SchemeConfig
from diffjscc.schemes.loader import SchemeLoader
from published_swin import HEAD, RATES, WIDTHS, Reference, State, miniature

ADAPTATIONS = ("none", "snr", "rate", "snr+rate")
NAMES = {
    "none": "SwinJSCC_w_o_SAandRA_AWGN_HRimage_snr10_psnr_C96.model",
    "snr": "WITT_AWGN_DIV2K_random_snr_psnr_C96.model",
    "rate": "SwinJSCC_w_RA_AWGN_HRimage_cbr_psnr_snr10.model",
    "snr+rate": "pretrained_SwinJSCC_w_SAandRA_small_AWGN_HRimage_cbr_psnr_snr.model",
}


def state_of(adaptation: str) -> State:
    return miniature("rate" not in adaptation, adaptation == "snr+rate")


def written(folder: Path, adaptation: str, state: State | None = None) -> Path:
    path = folder / NAMES[adaptation]
    torch.save(state_of(adaptation) if state is None else state, path)
    return path


def converted(folder: Path, adaptation: str) -> WITT:
    codec = load_codec(convert_published(written(folder, adaptation), folder / "weights"))
    assert isinstance(codec, WITT)
    if codec.config.rate_channels:  # the published ones are more than this has
        codec.config = replace(codec.config, rate_channels=RATES)
    return codec


def quantised(amplitude: float) -> float:
    low, high = OCTAVES
    step = round((math.log2(amplitude) - low) / (high - low) * 127)
    return float(2 ** (low + step * (high - low) / 127))


@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_images_are_those_of_the_published_networks(adaptation: str, tmp_path: Path) -> None:
    codec, reference = converted(tmp_path, adaptation), Reference(state_of(adaptation))
    snr_db, image = 10.0, torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(3))
    for index, rate in enumerate(codec.rates):
        sent = codec.channels[index]
        latent, mask = reference.encode(image[0], snr_db, adaptation, sent)
        channel = AWGN(snr_db)
        csi = channel.sample_state(1)
        with torch.no_grad():
            symbols = codec.encode(image, csi.at_transmitter, rate)
        chosen = torch.arange(HEAD) if mask is None else mask.nonzero().flatten()
        amplitude = float(Reference.power(latent, mask).sqrt())
        plain = latent[..., chosen].permute(2, 0, 1) / amplitude
        half = sent // 2
        expected = torch.complex(plain[:half], plain[half:]).flatten()
        beside = USES * codec.words
        torch.testing.assert_close(symbols.values[0, :-beside], expected, atol=2e-5, rtol=1e-4)
        power = symbols.values.abs().square()
        torch.testing.assert_close(power.mean(1), torch.ones(1))
        assert symbols.uses_by_kind == {
            "image": half * 16,
            "padding": 0,
            "signalling": beside,
        }
        # The same noise in both, as each arranges its numbers.
        noise = Reference.deviation(snr_db) * torch.randn(
            sent, 4, 4, generator=torch.Generator().manual_seed(1)
        )
        complex_noise = torch.complex(noise[:half], noise[half:]).flatten()
        values = symbols.values.clone()
        values[0, :-beside] += complex_noise
        with torch.no_grad():
            ours = codec.reconstruct(
                Received(values, symbols.image_size, rate, csi, uses_by_kind=symbols.uses_by_kind)
            )
        exact = quantised(amplitude)
        assert exact / amplitude == pytest.approx(1, abs=0.034)
        received = torch.zeros_like(latent)
        received[..., chosen] = exact * (plain + noise).permute(1, 2, 0)
        theirs = reference.decode(received, snr_db, adaptation)
        torch.testing.assert_close(ours[0], theirs, atol=1e-4, rtol=1e-4)


def test_their_snr_is_ours() -> None:
    """Es/N0 of complex symbols: noise of each real dimension has half of N0."""
    noise_power = float(AWGN(7.0).sample_state(1).noise_power)
    assert 2 * Reference.deviation(7.0) ** 2 == pytest.approx(noise_power, rel=1e-6)
    latent = torch.randn(4, 4, HEAD)
    assert float(Reference.power(latent, None)) == pytest.approx(
        2 * float(latent.square().mean()), rel=1e-6
    )


def test_images_of_other_sizes_are_those_of_the_constants_of_that_size(tmp_path: Path) -> None:
    codec = converted(tmp_path, "snr")
    image = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(4))
    latent, _ = Reference(miniature(side=24)).encode(image[0], 4.0, "snr")
    with torch.no_grad():
        ours = codec.analyse(image, AWGN(4.0).sample_state(1), 0)
    torch.testing.assert_close(ours[0].permute(1, 2, 0), latent, atol=2e-5, rtol=1e-4)


def test_fast_fading_is_derotated_and_not_equalised(tmp_path: Path) -> None:
    path = written(tmp_path, "snr")
    folder = convert_published(path, tmp_path / "faded", Training(channel="rayleigh"))
    codec = cast("WITT", load_codec(folder))
    assert codec.config.receiver == "derotated"
    image, rate = torch.rand(1, 3, 16, 16), codec.rates[0]
    csi = AWGN(7.0).sample_state(1)
    with torch.no_grad():
        symbols = codec.encode(image, csi.at_transmitter, rate)
        gain = torch.randn(1, symbols.channel_uses, dtype=torch.complex64)
        faded = symbols.received(gain * symbols.values, replace(csi, gain=gain))
        strong = symbols.received(gain.abs() * symbols.values, csi)
        torch.testing.assert_close(codec.decode(faded), codec.decode(strong), atol=1e-4, rtol=1e-4)
        block = DiffJSCC(codec, rate)(image, Rayleigh(7.0), generator=torch.Generator())
    assert torch.isfinite(block.image).all()


@pytest.mark.parametrize("adaptation", ADAPTATIONS)
def test_a_file_loads_by_its_name(
    adaptation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_ASSETS_CACHE", str(tmp_path / "assets"))
    (tmp_path / "files").mkdir()
    path = written(tmp_path / "files", adaptation)
    monkeypatch.chdir(tmp_path)  # files/NAME could be a hub id
    named = f"files/{path.name}"
    assert offered_rates(named) is None
    assert SchemeLoader.commit(SchemeConfig(kind="deepjscc", weights=named)) is None
    scheme = DiffJSCC.from_pretrained(named, device="cpu")
    assert scheme.provenance.startswith(f"{path.name}@")
    codec = cast("WITT", scheme.codec)
    assert codec.config.adaptation == adaptation
    single = adaptation in ("none", "rate")
    assert codec.snr_range_db == ((10.0, 10.0) if single else (1.0, 13.0))
    assert codec.config.encoder_widths == WIDTHS
    assert codec.config.window == 2
    image = torch.rand(2, 3, 30, 17)
    with torch.no_grad():
        result = scheme(image, AWGN(10.0), generator=torch.Generator().manual_seed(0))
    assert result.image.shape == image.shape
    scheme.save_pretrained(tmp_path / "copy")
    again = DiffJSCC.from_pretrained(tmp_path / "copy", device="cpu")
    with torch.no_grad():
        same = again(image, AWGN(10.0), generator=torch.Generator().manual_seed(0))
    assert torch.equal(same.image, result.image)


def test_wrong_words_of_side_information_leave_an_image(tmp_path: Path) -> None:
    codec = converted(tmp_path, "snr+rate")
    image, rate = torch.rand(1, 3, 16, 16), codec.rates[0]
    csi = AWGN(7.0).sample_state(1)
    with torch.no_grad():
        symbols = codec.encode(image, csi.at_transmitter, rate)
        for seed in range(8):
            values = symbols.values.clone()
            noise = torch.Generator().manual_seed(seed)
            beside = USES * codec.words
            values[:, -beside:] = torch.randn(1, beside, dtype=torch.complex64, generator=noise)
            decoded = codec.decode(symbols.received(values, csi))
            assert torch.isfinite(decoded).all()


def changed(state: State, **tensors: Tensor | None) -> State:
    new = dict(state)
    for key, value in tensors.items():
        name = key.replace("__", ".")
        if value is None:
            del new[name]
        else:
            new[name] = value
    return new


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"encoder__norm__bias": None}, r"encoder\.norm\.bias"),
        ({"encoder__extra__weight": torch.ones(3)}, r"encoder\.extra\.weight"),
        ({"encoder__head_list__weight": torch.ones(6, 5)}, "holds no|not"),
        ({"decoder__layers__1__blocks__0__norm1__weight": None}, "differ in number"),
        ({"encoder__layers__0__blocks__0__mlp__fc1__weight": torch.ones(7, 8)}, "not"),
    ],
)
def test_every_tensor_is_used_once(
    change: dict[str, Tensor | None], message: str, tmp_path: Path
) -> None:
    path = written(tmp_path, "snr", changed(state_of("snr"), **change))
    with pytest.raises(WeightsError, match=message):
        convert_published(path, tmp_path / "weights")
    assert not (tmp_path / "weights").exists()


def test_what_a_name_does_not_say_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "codec.model"
    torch.save(state_of("snr"), path)
    runner, target = CliRunner(), tmp_path / "weights"
    refused = runner.invoke(app, ["convert", str(path), str(target)])
    assert refused.exit_code == 2
    assert "--snr-adaptive or --no-snr-adaptive" in refused.output.replace("\n", " ")
    words = ["--no-snr-adaptive", "--trained-channel", "rayleigh", "--trained-snr", "3", "9"]
    done = runner.invoke(app, ["convert", str(path), str(target), *words])
    assert done.exit_code == 0, done.output
    card = json.loads((target / "card.json").read_text())
    assert card["adaptation"] == "none"
    assert card["snr_range_db"] == [3.0, 9.0]
    assert card["receiver"] == "derotated"
    beside = runner.invoke(app, ["convert", str(tmp_path), str(tmp_path / "w"), *words])
    assert beside.exit_code == 2
    assert "is for files" in beside.output


def test_a_published_codec_stands_in_front_of_the_bundled_receiver(tmp_path: Path) -> None:
    folder = convert_published(written(tmp_path, "snr"), tmp_path / "weights")
    settings = {
        "kind": "diffjscc",
        "codec": str(folder),
        "refiner": {"num_inference_steps": 4, "full_strength": True},
    }
    scheme = SchemeLoader("cpu").at(SchemeConfig.model_validate(settings), "3/16")
    assert isinstance(scheme.codec, WITT)
    assert "behind the codec of weights@" in scheme.provenance
    with torch.no_grad():
        result = scheme(torch.rand(1, 3, 64, 64), AWGN(7.0), generator=torch.Generator())
    assert not torch.equal(result.image, result.initial)

"""A rate for each image: how it is chosen, signalled strongly, and counted."""

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner, Result

from diffjscc import AWGN, Scheme
from diffjscc.channels.noise import complex_normal
from diffjscc.cli import app
from diffjscc.codecs.adaptive import AdaptiveCodec
from diffjscc.codecs.compact import CompactConfig, CompactJSCC
from diffjscc.codecs.content import FEATURES, content_features
from diffjscc.codecs.rate_policy import RatePolicy, RatePredictor, Simulation
from diffjscc.codecs.signalling import read_signal, signal_length, signalled, words
from diffjscc.evaluation.results import read_results
from diffjscc.pretrained.rate_policy import read_rate_policy, save_rate_policy
from diffjscc.schemes.config import SchemeConfig
from diffjscc.symbols import ChannelState

RATES = tuple(Fraction(1, n) for n in (128, 64, 32, 16))
SHOWN = torch.tensor([float(rate) for rate in RATES]).double()


def transmitter(*snrs_db: float) -> ChannelState:
    return ChannelState(torch.ones(len(snrs_db), 1).cfloat(), torch.tensor(snrs_db))


def blurred(count: int, seed: int = 0, side: int = 64) -> Tensor:
    """Images from plain to rich in detail."""
    rng = np.random.default_rng(seed)
    images = []
    for number in range(count):
        cells = 2 + number % 16
        coarse = Image.fromarray(rng.integers(0, 256, (cells, cells, 3)).astype(np.uint8))
        images.append(np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC)))
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float() / 255


def true_psnr(images: Tensor, snr_db: float) -> Tensor:
    """PSNR [B, rates] that the predictor can learn: detail costs, and rates gain the more."""
    detail = content_features(images)[:, 0].double()
    octaves = torch.arange(len(RATES)).double()
    gain = 1.5 + 0.2 * (detail + 5)
    return 20 - detail[:, None] + 0.3 * snr_db + gain[:, None] * octaves


@pytest.fixture(scope="module")
def predictor() -> RatePredictor:
    images = blurred(96)
    snrs = np.linspace(-5, 20, len(images))
    psnr = np.stack(
        [true_psnr(image[None], s)[0].numpy() for image, s in zip(images, snrs, strict=True)]
    )
    return RatePredictor.fit(RATES, content_features(images).double().numpy(), snrs, psnr)


@pytest.fixture
def codec() -> CompactJSCC:
    config = CompactConfig(
        widths=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1), condition_width=8
    )
    return CompactJSCC(config).eval()


@pytest.mark.parametrize("choices", [2, 3, 4, 7])
def test_words_are_as_far_apart_as_a_simplex_allows(choices: int) -> None:
    known = words(choices)
    order = len(known)
    assert order >= choices
    products = known @ known.T
    assert torch.equal(products.diagonal(), torch.full((order,), order - 1.0))
    assert bool((products[~torch.eye(order, dtype=torch.bool)] == -1).all())


@pytest.mark.parametrize("snr_db", [-5.0, 1.0, 7.0])
def test_signals_arrive_at_their_snr_and_are_no_stronger_than_needed(snr_db: float) -> None:
    length, number = signal_length(4, snr_db), 20_000
    sent = torch.randint(4, (number,))
    symbols = torch.stack([signalled(choice, 4, length) for choice in range(4)])[sent]
    assert torch.allclose(symbols.abs(), torch.ones(number, length))

    def errors(snr_db: float) -> int:
        noise = complex_normal((number, length), None, "cpu") * 10 ** (-snr_db / 20)
        return int((read_signal(symbols + noise, 4) != sent).sum())

    assert errors(snr_db) == 0
    assert errors(snr_db - 7) > 0


def test_one_rate_needs_no_signal() -> None:
    assert signal_length(1, 0.0) == 0
    assert read_signal(torch.zeros(2, 0).cfloat(), 1).tolist() == [0, 0]


@pytest.mark.parametrize("estimate", ["predict", "simulate"])
def test_every_channel_use_is_counted_and_power_is_one(
    codec: CompactJSCC, predictor: RatePredictor, estimate: str
) -> None:
    known = predictor if estimate == "predict" else Simulation(codec)
    adaptive = AdaptiveCodec(codec, RatePolicy(known, predictor), (Fraction(1, 48),))
    scheme = Scheme(adaptive, "1/48")
    for image in blurred(6, seed=1):
        received = scheme.send(image, AWGN(10.0), torch.Generator().manual_seed(0))
        length = signal_length(4, 10.0)
        assert received.uses_by_kind["signalling"] == length
        assert sum(received.uses_by_kind.values()) == received.channel_uses
        chosen = [
            r for r in RATES if codec.channel_uses(r, (64, 64)) + length == received.channel_uses
        ]
        assert len(chosen) == 1
        plain = Scheme(codec, chosen[0])
        sent = plain.encode(image, 10.0).values
        assert torch.allclose(scheme.encode(image, 10.0).values[:, length:], sent, atol=1e-5)
        decoded = scheme.decode(received)
        assert decoded.outage is not None
        assert not bool(decoded.outage.any())
        own = plain.decode(received.span(slice(length, None), chosen[0]))
        assert torch.equal(decoded.image, own.image)


def test_a_misread_rate_is_an_outage(codec: CompactJSCC, predictor: RatePredictor) -> None:
    policy = RatePolicy(predictor, predictor, target_psnr=0.0)
    scheme = Scheme(AdaptiveCodec(codec, policy, (RATES[-1],)), RATES[-1])
    received = scheme.send(blurred(1), AWGN(10.0))
    length = received.uses_by_kind["signalling"]
    values = received.values.clone()
    values[:, :length] = signalled(2, 4, length)
    decoded = scheme.decode(replace(received, values=values))
    assert decoded.outage is not None
    assert bool(decoded.outage.all())
    assert float(decoded.image.std(dim=(2, 3)).max()) < 1e-6


def test_the_regression_finds_what_is_linear(predictor: RatePredictor) -> None:
    images = blurred(16, seed=3)
    for snr_db in (0.0, 12.0):
        found = predictor(images, transmitter(*[snr_db] * 16))
        assert float((found - true_psnr(images, snr_db)).abs().mean()) < 0.2
    assert max(predictor.errors_db) < 0.2


@pytest.mark.parametrize("budget", [Fraction(3, 256), Fraction(3, 128), Fraction(3, 64)])
def test_a_mean_budget_is_kept_and_beats_time_sharing(
    predictor: RatePredictor, budget: Fraction
) -> None:
    images = blurred(96, seed=5)
    chosen = RatePolicy(predictor, predictor).choose(images, transmitter(*[7.0] * 96), budget)
    mean = float(SHOWN[chosen].mean())
    assert mean == pytest.approx(float(budget), rel=0.25)
    psnr = true_psnr(images, 7.0)
    reached = float(psnr[torch.arange(96), chosen].mean())
    shared = float(np.interp(mean, SHOWN.numpy(), psnr.mean(0).numpy()))
    assert reached > shared + 0.02


def test_a_target_takes_the_lowest_rate_that_reaches_it(predictor: RatePredictor) -> None:
    images, csi = blurred(32, seed=7), transmitter(*[7.0] * 32)
    target = float(predictor(images, csi).median())
    for highest in (RATES[1], RATES[3]):
        chosen = RatePolicy(predictor, predictor, target).choose(images, csi, highest)
        for choice, psnr in zip(chosen, predictor(images, csi), strict=True):
            assert RATES[choice] <= highest
            assert choice == 0 or psnr[choice - 1] < target
            assert psnr[choice] >= target or RATES[choice] == highest


def test_images_of_several_rates_go_one_at_a_time(
    codec: CompactJSCC, predictor: RatePredictor
) -> None:
    scheme = Scheme(
        AdaptiveCodec(codec, RatePolicy(predictor, predictor), (Fraction(3, 128),)), "3/128"
    )
    with pytest.raises(ValueError, match="send them one at a time"):
        scheme.encode(blurred(16, seed=9), 7.0)


def test_a_table_is_kept_and_a_damaged_one_has_words(
    predictor: RatePredictor, tmp_path: Path
) -> None:
    file = tmp_path / "rate_policy.json"
    save_rate_policy(predictor, file)
    again = read_rate_policy(file)
    images, csi = blurred(4, seed=2), transmitter(1, 1, 1, 1)
    assert torch.allclose(again(images, csi), predictor(images, csi), atol=1e-3)
    with pytest.raises(ValueError, match="diffjscc calibrate rates"):
        read_rate_policy(tmp_path / "none.json")
    damages: list[Callable[[dict[str, list[object]]], object]] = [
        lambda table: table.pop("centre"),
        lambda table: table["centre"].pop(),
        lambda table: table["coefficients"].append([1.0]),
        lambda table: table.update(scale=[float("nan")] * FEATURES),
        lambda table: table.update(rates=["many"]),
    ]
    for damage in damages:
        table = json.loads(file.read_text())
        damage(table)
        broken = tmp_path / "broken.json"
        broken.write_text(json.dumps(table))
        with pytest.raises(ValueError, match="broken"):
            read_rate_policy(broken)


def test_policies_of_other_rates_and_kinds_are_refused(
    codec: CompactJSCC, predictor: RatePredictor
) -> None:
    policy = RatePolicy(predictor, predictor)
    with pytest.raises(ValueError, match="outside 1/128 to 1/16"):
        AdaptiveCodec(codec, policy, (Fraction(1, 8),))
    other = replace(predictor, rates=(*RATES[:3], Fraction(1, 8)))
    with pytest.raises(ValueError, match="calibrate rates"):
        AdaptiveCodec(codec, RatePolicy(other, other), (Fraction(1, 32),))
    with pytest.raises(ValueError, match="rate_policy is for neural codecs"):
        SchemeConfig.model_validate({"kind": "bpg-ldpc", "rate_policy": {}})


def test_calibrate_and_sweep_from_the_command_line(tmp_path: Path) -> None:
    for number, image in enumerate(blurred(10, side=32)):
        levels = (image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)
        for place in ("photographs", "sent")[: 2 if number % 3 == 0 else 1]:
            (tmp_path / place).mkdir(exist_ok=True)
            Image.fromarray(levels).save(tmp_path / place / f"{number}.png")
    table = tmp_path / "table.json"
    words = ["calibrate", "rates", str(tmp_path / "photographs"), "--count", "9"]
    made = CliRunner().invoke(app, [*words, "-o", str(table), "--device", "cpu"])
    assert made.exit_code == 0, made.output
    assert "PSNR is predicted within" in made.output
    config = tmp_path / "sweep.yaml"
    config.write_text(
        "schemes:\n"
        f"  - {{kind: deepjscc, rate_policy: {{table: '{table}'}}}}\n"
        "  - {kind: deepjscc, rate_policy: {target_psnr: 30}}\n"
        "rates: ['3/128']\nsnrs_db: [7]\nmetrics: [psnr]\nfeatures: []\ndevice: cpu\nshown: 0\n"
    )
    output = str(tmp_path / "results")
    words = ["evaluate", str(tmp_path / "sent"), "--config", str(config), "-o", output]
    swept = CliRunner().invoke(app, words)
    assert swept.exit_code == 0, swept.output
    records = read_results(tmp_path / "results").records
    assert {one.scheme for one in records} == {
        "deepjscc, rate per image",
        "deepjscc, rate per image for 30 dB",
    }
    assert len(records) == 8
    for record in records:
        length = record.uses_by_kind["signalling"]
        assert length == signal_length(4, 7.0)
        assert record.channel_uses - length in [int(1024 * rate) for rate in RATES]


def transmit(folder: Path, *words: str) -> Result:
    image = folder / "image.png"
    Image.new("RGB", (48, 32), (90, 120, 60)).save(image)
    command = ["transmit", str(image), "-o", str(folder / "sent"), "--device", "cpu", *words]
    return CliRunner().invoke(app, command)


def test_transmit_chooses_a_rate(tmp_path: Path) -> None:
    record = tmp_path / "record.json"
    words = ["--scheme", "deepjscc", "--rate", "1/16", "--snr", "7", "--json", str(record)]
    sent = transmit(tmp_path, *words, "--target-psnr", "20")
    assert sent.exit_code == 0, sent.output
    (one,) = json.loads(record.read_text())
    assert one["uses_by_kind"]["signalling"] == signal_length(4, 7.0)
    assert one["uses_by_kind"]["image"] == 48 * 32 // 128  # one colour needs no more
    assert one["nominal_rate"] == "1/16"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rate-policy", "predict"], "are for schemes"),
        (["--scheme", "jpeg-ldpc", "--target-psnr", "30"], "no effect on jpeg-ldpc"),
        (["--scheme", "deepjscc", "--rate", "1/8", "--target-psnr", "30"], "outside 1/128 to 1/16"),
        (["--scheme", "deepjscc", "--target-psnr", "-3"], "target_psnr"),
    ],
)
def test_policies_without_effect_have_words(tmp_path: Path, words: list[str], said: str) -> None:
    refused = transmit(tmp_path, *words)
    assert refused.exit_code == 2
    assert said in " ".join(refused.output.split())
    assert not (tmp_path / "sent").exists()

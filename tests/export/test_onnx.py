"""ONNX files: they compute what PyTorch does, without PyTorch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from diffjscc import AWGN, CompactJSCC, DiffJSCC
from diffjscc.cli import app
from diffjscc.codecs.compact import CompactConfig
from diffjscc.codecs.deepjscc import DeepJSCC, DeepJSCCConfig
from diffjscc.codecs.swin import SwinJSCC, SwinJSCCConfig
from diffjscc.export import onnx_files
from diffjscc.export.graphs import UnknownCodecError, codec_graphs
from diffjscc.export.onnx_files import ExportError, export_onnx
from diffjscc.refiners.latents import decode
from locations import ROOT
from toy_refiner import make_control, make_refiner

ort = pytest.importorskip("onnxruntime", reason="the export needs the extra [onnx]")

SMALL = CompactConfig(
    rate_channels=(4, 8),
    widths=(8, 12),
    encoder_blocks=(1, 1),
    decoder_blocks=(1, 1),
    condition_width=8,
    texture=True,
)


def stirred(codec: torch.nn.Module) -> torch.nn.Module:
    """A network whose new layers are not zero."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in codec.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))
    return codec.eval()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Small weights of random numbers, with a receiver."""
    folder = tmp_path_factory.mktemp("weights") / "small"
    codec, refiner = stirred(CompactJSCC(SMALL)), make_refiner()
    distilled = make_control(refiner.denoiser.unet)
    distilled.register_to_config(distilled_steps=1)
    refiner.denoiser.distilled = stirred(distilled)
    DiffJSCC(codec, codec.rates[0], refiner).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def files(weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("files") / "onnx"
    result = CliRunner().invoke(app, ["export", "onnx", str(weights), "-o", str(folder)])
    assert result.exit_code == 0, result.output
    assert "6 networks are in" in result.output
    return folder


def run(files: Path, name: str, **inputs: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(files / f"{name}.onnx")
    found: np.ndarray = session.run(None, inputs)[0]
    return found


def close(found: np.ndarray, wanted: torch.Tensor) -> bool:
    error = np.abs(found - wanted.numpy()).max()
    return bool(error <= 1e-4 * float(wanted.square().mean().sqrt()))


@pytest.mark.parametrize("size", [(1, 16, 16), (1, 256, 272), (3, 32, 112)])
@pytest.mark.parametrize("rate_index", [0, 1])
def test_the_codec_computes_what_pytorch_does(
    weights: Path, files: Path, size: tuple[int, int, int], rate_index: int
) -> None:
    scheme = DiffJSCC.from_pretrained(weights, refiner=None, device="cpu")
    rate = scheme.codec.rates[rate_index]
    batch, height, width = size
    images = torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(2))
    snr_db = torch.linspace(-3, 17, batch)
    sent = scheme.at_rate(rate).encode(images, snr_db)
    given = {"snr_db": snr_db.numpy(), "rate_index": np.array(rate_index)}
    latent = run(files, "codec_encoder", images=images.numpy(), **given)
    own = latent[:, : 4 * (rate_index + 1)].reshape(batch, 2, -1)
    values = own[:, 0] + 1j * own[:, 1]
    values /= np.sqrt((np.abs(values) ** 2).mean(1, keepdims=True))
    assert np.abs(values - sent.values.numpy()).max() < 1e-4
    received = AWGN(snr_db)(sent, torch.Generator().manual_seed(3))
    noisy = received.values.numpy()
    pairs = np.stack((noisy.real, noisy.imag), 1).reshape(batch, -1, height // 16, width // 16)
    latent = np.zeros((batch, 8, height // 16, width // 16), np.float32)
    latent[:, : pairs.shape[1]] = pairs
    decoded = run(files, "codec_decoder", latent=latent, **given)
    with torch.no_grad():
        assert close(decoded, scheme.codec.reconstruct(received))


def test_the_receiver_computes_what_pytorch_does(weights: Path, files: Path) -> None:
    refiner = DiffJSCC.from_pretrained(weights, device="cpu").refiner
    images = torch.rand(3, 3, 24, 40)
    with torch.no_grad():
        latent = refiner.posterior(images).mean
        decoded = decode(refiner.vae, latent, refiner.config.tile)
        step, snr_db = torch.tensor([3, 500, 999]), torch.tensor([0.0, 7.0, 14.0])
        inputs = (latent, step, latent.flip(0), snr_db, None)
        noise = {
            (name, scale): refiner.denoiser(*inputs, control_scale=scale, distilled=distilled)
            for name, distilled in (("denoiser", False), ("distilled_denoiser", True))
            for scale in (0.0, 1.0)
        }
    assert close(run(files, "vae_encoder", images=images.numpy()), latent)
    assert close(run(files, "vae_decoder", latent=latent.numpy()), decoded)
    for (name, scale), wanted in noise.items():
        found = run(
            files,
            name,
            latent=latent.numpy(),
            step=step.numpy(),
            condition=latent.flip(0).numpy(),
            snr_db=snr_db.numpy(),
            control_scale=np.array(scale, np.float32),
        )
        assert close(found, wanted)


def test_files_say_what_they_are(weights: Path, files: Path) -> None:
    scheme = DiffJSCC.from_pretrained(weights, device="cpu")
    for path in files.glob("*.onnx"):
        facts = ort.InferenceSession(path).get_modelmeta().custom_metadata_map
        assert facts["weights"] == scheme.provenance
        assert facts["pixel_range"] == "0 1"
        low, high = map(float, facts["snr_range_db"].split())
        assert low < high
        if path.stem.startswith("codec"):
            assert facts["rates"] == "1/128 1/64"
            assert facts["channels"] == "4 8"
            assert facts["size_multiple"] == "16"
    assert facts["size_multiple"]
    assert not list(files.parent.glob(".*"))


def test_the_example_transmits_without_pytorch(weights: Path, files: Path, tmp_path: Path) -> None:
    """Its pixels are those of PyTorch's codec for the same noise."""
    rows, columns = np.mgrid[:50, :70] / 80
    pixels = (255 * np.stack((rows, columns, rows * columns), 2)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    program = (
        "import runpy, sys; sys.modules['torch'] = None; sys.argv = sys.argv[1:];"
        "runpy.run_path(sys.argv[0], run_name='__main__');"
        "assert not [name for name in sys.modules if name.startswith(('diffjscc', 'torch.'))]"
    )
    script = ROOT / "examples" / "transmit_onnx.py"
    words = [files, tmp_path / "photo.png", tmp_path / "out.png", "10", "1/64"]
    done = subprocess.run(
        [sys.executable, "-c", program, script, *words], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = np.asarray(Image.open(tmp_path / "out.png"), dtype=int)
    scheme = DiffJSCC.from_pretrained(weights, "1/64", refiner=None, device="cpu")
    sent = scheme.encode(torch.from_numpy(pixels.copy()).permute(2, 0, 1), 10.0)
    noise = np.random.default_rng(0).normal(size=(2, sent.channel_uses)) * np.sqrt(0.1 / 2)
    received = AWGN(10.0)(sent, torch.Generator().manual_seed(0))
    values = sent.values + torch.from_numpy(noise[0] + 1j * noise[1]).to(torch.complex64)
    object.__setattr__(received, "values", values)
    wanted = scheme.decode(received).image[0].permute(1, 2, 0).mul(255).round().numpy()
    assert found.shape == pixels.shape
    assert np.abs(found - wanted).max() <= 1


def deep(**settings: object) -> DeepJSCC:
    sizes = {"base_width": 4, "encoder_width": 8, "decoder_width": 8, "downsamplings": 2}
    blocks = {"encoder_blocks": 1, "decoder_blocks": 1}
    return stirred(DeepJSCC(DeepJSCCConfig(**sizes, **blocks, **settings)))


def test_deepjscc_is_exported_too(tmp_path: Path) -> None:
    codec = deep()
    DiffJSCC(codec, codec.rates[0]).save_pretrained(tmp_path / "weights")
    paths = export_onnx(str(tmp_path / "weights"), tmp_path / "onnx")
    assert [path.name for path in paths] == ["codec_encoder.onnx", "codec_decoder.onnx"]
    images = torch.rand(1, 3, 24, 32)
    latent = run(
        tmp_path / "onnx",
        "codec_encoder",
        images=images.numpy(),
        snr_db=np.array([5.0], np.float32),
    )
    with torch.no_grad():
        assert close(latent, codec.encoder(images, torch.tensor([[5.0]])))


def refused(words: str, *arguments: object) -> None:
    result = CliRunner().invoke(app, ["export", "onnx", *map(str, arguments)])
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.split())


def test_what_cannot_be_exported_is_refused_in_words(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused("no-such-weights", "no-such-weights", "-o", tmp_path / "a")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    refused("exists already", weights, "-o", tmp_path / "full")
    assert (tmp_path / "full" / "mine.txt").read_text() == "mine"
    gains = deep(csi="snr+gain")
    DiffJSCC(gains, gains.rates[0]).save_pretrained(tmp_path / "gains")
    refused("snr+gain", tmp_path / "gains", "-o", tmp_path / "b")
    swin = SwinJSCC(SwinJSCCConfig())
    with pytest.raises(UnknownCodecError, match="SwinJSCC cannot be exported; CompactJSCC"):
        codec_graphs(swin)
    monkeypatch.setattr(onnx_files, "PACKAGES", ("onnx", "no_such_package"))
    refused("pip install 'diffjscc[onnx]'", weights, "-o", tmp_path / "c")
    assert not [path for path in tmp_path.iterdir() if path.name in "abc"]
    assert not list(tmp_path.glob(".*"))


def test_a_difference_from_pytorch_is_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codec = deep()
    DiffJSCC(codec, codec.rates[0]).save_pretrained(tmp_path / "weights")
    monkeypatch.setattr(onnx_files, "TOLERANCE", 0.0)
    with pytest.raises(ExportError, match=r"codec_encoder.onnx differs from PyTorch: latent by"):
        export_onnx(str(tmp_path / "weights"), tmp_path / "onnx")
    assert [path.name for path in tmp_path.iterdir()] == ["weights"]

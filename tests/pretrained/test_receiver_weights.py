"""The diffusion receiver on disk: what is saved samples the same again, and damage is named."""

import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from diffjscc import AWGN, DiffJSCC
from diffjscc.cli.information import components
from diffjscc.pretrained.build import build_codec
from diffjscc.pretrained.networks import Network, save_network
from diffjscc.pretrained.pretrained import open_weights
from diffjscc.pretrained.receiver import has_refiner, load_refiner, save_refiner
from diffjscc.pretrained.storage import WeightsError, read_json, weights_hash, write_json
from diffjscc.refiners.captions import FixedCaption
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.control import ControlModule
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.guidance import GuidanceConfig
from diffjscc.refiners.latents import ConditionEncoder
from diffjscc.refiners.sampling import SamplerConfig
from diffjscc.refiners.vae import CompactVAE
from toy_hub import Hub
from toy_refiner import generators, make_refiner, make_unet, networks, receive

CODEC = {"class": "CompactJSCC", "widths": [16, 24], "encoder_blocks": [1, 1]}
SAMPLING = DiffusionConfig(
    sampler=SamplerConfig("unipc", 4, "initial", ((0.05, 0.9), (0.2, 0.5), (1.0, 0.2))),
    latent_guidance=GuidanceConfig(30.0, 900, 100, 2, "sample"),
    colour_fix="adain",
    control_scale=0.75,
    geometry="released",
    tile=64,
)


@pytest.fixture(scope="module")
def refiner() -> ControlledDiffusion:
    return make_refiner(text=True).to("cpu")


@pytest.fixture(scope="module")
def saved(refiner: ControlledDiffusion, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of a codec and a refiner; not to be changed."""
    folder = tmp_path_factory.mktemp("saved") / "toy"
    codec = build_codec(CODEC).eval()
    DiffJSCC(codec, codec.rates[0], refiner).save_pretrained(folder)
    return folder


@pytest.fixture
def weights(saved: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return shutil.copytree(saved, tmp_path / "toy")


def sampled(refiner: ControlledDiffusion) -> Tensor:
    """An image that all parts of a refiner have a hand in."""
    initial = torch.rand(1, 3, 20, 36, generator=generators(1)[0])
    return refiner.refine(initial, receive([4.0]), generators(2)).image


def edit(path: Path, **changes: object) -> None:
    write_json(path, read_json(path) | changes)


# What comes back


@pytest.mark.parametrize("text", [False, True])
def test_images_are_the_same_to_the_last_bit(text: bool, tmp_path: Path) -> None:
    refiner = make_refiner(text).to("cpu")
    if text:
        vae = refiner.vae
        kept = {k: v for k, v in vae.config.items() if k in ("block_out_channels",)}
        refiner.condition_encoder = ConditionEncoder(
            **kept, down_block_types=("DownEncoderBlock2D",) * 2, norm_num_groups=8
        ).eval()
        refiner.condition_encoder.to(memory_format=torch.channels_last)
        refiner.captioner = FixedCaption("cat")
    save_refiner(refiner, tmp_path)
    loaded = load_refiner(tmp_path)
    loaded.captioner = refiner.captioner
    assert torch.equal(sampled(loaded), sampled(refiner))
    assert networks(loaded).keys() == networks(refiner).keys()
    for network in networks(loaded).values():
        assert not network.training
        assert {p.device.type for p in network.parameters()} == {"cpu"}
        if network is not loaded.denoiser.control:
            assert not any(p.requires_grad for p in network.parameters())


def test_the_compact_vae_comes_back_too(refiner: ControlledDiffusion, tmp_path: Path) -> None:
    torch.manual_seed(0)
    vae = CompactVAE(
        latent_channels=4, widths=(8, 16), encoder_blocks=(1, 1), decoder_blocks=(1, 1, 1)
    )
    vae.encoder(torch.rand(2, 3, 32, 32))
    vae.quant_conv(torch.randn(2, 4, 2, 2))  # in training: leaves statistics in buffers
    parts = refiner.denoiser
    own = ControlledDiffusion(vae, parts.unet, parts.control, text=refiner.text).to("cpu")
    own.config = refiner.config
    save_refiner(own, tmp_path)
    loaded = load_refiner(tmp_path)
    assert isinstance(loaded.vae, CompactVAE)
    assert torch.equal(sampled(loaded), sampled(own))


def test_sampling_settings_are_kept(tmp_path: Path) -> None:
    refiner = make_refiner()
    refiner.config = SAMPLING
    save_refiner(refiner, tmp_path)
    assert load_refiner(tmp_path).config == SAMPLING
    # What is not said is the paper's.
    description = read_json(tmp_path / "refiner.json")
    facts = {k: v for k, v in description.items() if k not in DiffusionConfig.__dataclass_fields__}
    write_json(tmp_path / "refiner.json", facts | {"sampler": {"num_inference_steps": 7}})
    assert load_refiner(tmp_path).config == DiffusionConfig(
        sampler=SamplerConfig(num_inference_steps=7)
    )


def test_half_precision_storage_keeps_the_image(
    refiner: ControlledDiffusion, saved: Path, tmp_path: Path
) -> None:
    save_refiner(refiner, tmp_path, torch.float16)
    size = {
        folder: sum(f.stat().st_size for f in (folder / "unet").glob("*.safetensors"))
        for folder in (saved, tmp_path)
    }
    assert size[tmp_path] < 0.6 * size[saved]
    loaded = load_refiner(tmp_path)
    for network in networks(loaded).values():
        assert {p.dtype for p in network.parameters()} == {torch.float32}
    difference = (sampled(loaded) - sampled(refiner)).abs()
    assert 0 < float(difference.max()) < 0.02
    half = load_refiner(tmp_path, dtype=torch.bfloat16)
    for network in networks(half).values():
        assert {p.dtype for p in network.parameters()} == {torch.bfloat16}
    assert torch.isfinite(sampled(half)).all()


def test_a_vocabulary_travels_with_the_weights(saved: Path, weights: Path) -> None:
    loaded = load_refiner(saved)
    assert loaded.text is not None
    assert loaded.text.tokens(["cat"])[0, :4].tolist() == [49406, 2, 49407, 0]
    shutil.rmtree(weights / "tokenizer")
    without = load_refiner(weights)
    assert without.text is not None
    assert torch.equal(sampled(without), sampled(loaded))
    with pytest.raises(ValueError, match="have no vocabulary"):
        without.text.tokens(["cat"])


def test_weights_are_in_memory_once_and_not_in_their_file(weights: Path) -> None:
    loaded = load_refiner(weights)
    before = sampled(loaded)
    places = {
        p.untyped_storage().data_ptr()
        for network in networks(loaded).values()
        for p in network.parameters()
    }
    assert len(places) == sum(len(list(n.parameters())) for n in networks(loaded).values())
    for file in weights.rglob("*.safetensors"):
        file.write_bytes(bytes(file.stat().st_size))
    assert torch.equal(sampled(loaded), before)


# Schemes


def test_schemes_come_back_whole(saved: Path, tmp_path: Path) -> None:
    scheme = DiffJSCC.from_pretrained(saved, "1/64", device="cpu")
    scheme.save_pretrained(tmp_path / "toy")
    copy = DiffJSCC.from_pretrained(tmp_path / "toy", "1/64", device="cpu")
    assert isinstance(copy.refiner, ControlledDiffusion)
    images = torch.rand(1, 3, 24, 40)
    one, other = (s(images, AWGN(3.0), torch.Generator().manual_seed(1)) for s in (scheme, copy))
    assert torch.equal(one.image, other.image)
    assert not torch.equal(one.image, one.initial)
    assert copy.provenance == scheme.provenance == f"toy@{weights_hash(saved)}"


def test_what_is_loaded_is_what_was_asked_for(refiner: ControlledDiffusion, weights: Path) -> None:
    codec_alone = f"toy@{weights_hash(weights, ['codec'])}"
    for file in (weights / "unet").glob("*.safetensors"):
        file.write_bytes(b"damaged")
    for scheme in (
        DiffJSCC.from_pretrained(weights, parts="transmitter", device="cpu"),
        DiffJSCC.from_pretrained(weights, refiner=None, device="cpu"),
    ):
        assert scheme.refiner is None
        assert scheme.provenance == codec_alone
    own = DiffJSCC.from_pretrained(weights, refiner=refiner, parts="receiver", device="cpu")
    assert own.refiner is refiner
    assert own.provenance == codec_alone
    with pytest.raises(WeightsError, match=r"unet.*is damaged"):
        DiffJSCC.from_pretrained(weights, parts="receiver", device="cpu")
    with pytest.raises(ValueError, match="'diffusion' is neither"):
        DiffJSCC.from_pretrained(weights, refiner="diffusion", device="cpu")  # type: ignore[arg-type]


def test_the_hash_covers_every_network(saved: Path, tmp_path: Path) -> None:
    hashes = {weights_hash(saved)}
    for name in ("unet", "control", "vae", "text_encoder"):
        other = load_refiner(saved)
        with torch.no_grad():
            next(networks(other)[name].parameters()).add_(1e-3)
        folder = shutil.copytree(saved, tmp_path / name)
        save_refiner(other, folder)
        hashes.add(weights_hash(folder))
    assert len(hashes) == 5


def test_a_folder_never_keeps_another_schemes_refiner(saved: Path, weights: Path) -> None:
    codec_alone = DiffJSCC.from_pretrained(saved, refiner=None, device="cpu")
    with pytest.raises(ValueError, match="holds a refiner"):
        codec_alone.save_pretrained(weights)
    save_refiner(make_refiner(), weights)
    left = {path.name for path in weights.iterdir()}
    assert left == {"codec", "unet", "vae", "control", "scheduler", "refiner.json"}
    assert len(list((weights / "unet").glob("*.safetensors"))) == 1
    assert load_refiner(weights).text is None


def test_components_are_told(saved: Path) -> None:
    assert components(saved) == {"codec": "CompactJSCC", "refiner": "ControlledDiffusion"}
    assert components(open_weights("compact").folder)["codec"] == "CompactJSCC"


def test_our_own_weights_come_from_the_hub_too(hub: type[Hub], saved: Path, tmp_path: Path) -> None:
    hub.folder = saved
    scheme = DiffJSCC.from_pretrained("someone/weights", device="cpu")
    assert isinstance(scheme.refiner, ControlledDiffusion)
    assert scheme.refiner.text is not None
    assert scheme.refiner.text.tokens(["cat"])[0, 1] == 2
    assert not (tmp_path / "assets").exists()


# Damage


@pytest.mark.parametrize("name", ["unet", "control", "vae", "text_encoder"])
def test_damaged_tensors_are_named(weights: Path, name: str) -> None:
    (file,) = (weights / name).glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(WeightsError, match=rf"{name}.*is damaged"):
        load_refiner(weights)
    file.unlink()
    with pytest.raises(WeightsError, match=f"{file.name} cannot be read"):
        load_refiner(weights)


@pytest.mark.parametrize("name", ["unet", "control", "vae", "text_encoder", "scheduler"])
def test_missing_folders_are_named(weights: Path, name: str) -> None:
    shutil.rmtree(weights / name)
    with pytest.raises(WeightsError, match=f"toy lacks {name}/, which"):
        load_refiner(weights)


def test_a_control_module_of_another_prior_is_named(weights: Path) -> None:
    shutil.rmtree(weights / "control")
    other = ControlModule.for_prior(make_unet(text=False))
    save_network(Network("control", other), weights, torch.float32)
    with pytest.raises(WeightsError, match="made for another prior: its down_block_types"):
        load_refiner(weights)


def test_tensors_of_another_architecture_are_listed(weights: Path) -> None:
    config = weights / "unet/config.json"
    edit(config, layers_per_block=2)
    with pytest.raises(WeightsError, match=r"(?s)unet do not fit.*missing:.*resnets\.1\.conv1"):
        load_refiner(weights)


@pytest.mark.parametrize(
    ("file", "changes", "message"),
    [
        ("unet/config.json", {"_class_name": "hostile.UNet"}, "class 'hostile.UNet'; UNet2DCond"),
        ("control/config.json", {"_class_name": "ControlNetModel"}, "ControlModule is needed"),
        ("text_encoder/config.json", {"architectures": ["hostile.CLIP"]}, "CLIPTextModel is"),
        ("scheduler/scheduler_config.json", {"_class_name": "DDIM"}, "DDPMScheduler is needed"),
        ("refiner.json", {"class": "hostile.Refiner"}, "class 'hostile.Refiner'"),
        ("unet/config.json", {"layer_per_block": 1}, "did you mean 'layers_per_block'"),
        ("unet/config.json", {"block_out_channels": "wide"}, "settings that cannot be"),
        ("unet/config.json", {"down_block_types": ["hostile.Block"] * 2}, "settings that cannot"),
        ("text_encoder/config.json", {"hidden_size": 9}, "settings that cannot be"),
        ("text_encoder/config.json", {"hidden_act": "hostile.act"}, "settings that cannot be"),
        ("scheduler/scheduler_config.json", {"beta_schedule": "x"}, "settings that cannot be"),
        ("scheduler/scheduler_config.json", {"prediction_type": "sample"}, "predict noise"),
        ("refiner.json", {"colour": "none"}, "no setting 'colour'; did you mean 'colour_fix'"),
        ("refiner.json", {"colour_fix": "sepia"}, r"colour_fix = 'sepia'"),
        (
            "refiner.json",
            {"sampler": {"name": "ddpm", "num_inference_step": 5}},
            "did you mean 'num_inference_steps'",
        ),
        ("refiner.json", {"sampler": {"num_inference_steps": 0}}, "num_inference_steps is 0"),
        ("refiner.json", {"sampler": "ddpm"}, "sampler = 'ddpm'"),
        ("refiner.json", {"tile": 1}, "tile is 1"),
        ("refiner.json", {"snr_range_db": [3, "x"]}, "snr_range_db.1 = 'x'"),
        ("refiner.json", {"snr_range_db": [3, 1]}, "snr_range_db is 3.0 to 1.0"),
        ("refiner.json", {"snr_scale": 1}, "says that snr_scale is 1.0, but .* say 100.0"),
        ("refiner.json", {"text_encoder": False}, None),
    ],
)
def test_settings_that_cannot_be_are_named(
    weights: Path, file: str, changes: dict[str, Any], message: str | None
) -> None:
    edit(weights / file, **changes)
    if message is None:  # a prior that reads text samples without any, too
        assert load_refiner(weights).text is None
        return
    with pytest.raises(WeightsError, match=message):
        load_refiner(weights)


def test_settings_that_are_missing_are_named(weights: Path) -> None:
    path = weights / "refiner.json"
    values = read_json(path)
    del values["condition_encoder"]
    write_json(path, values)
    with pytest.raises(WeightsError, match="condition_encoder is missing"):
        load_refiner(weights)
    path.unlink()
    assert not has_refiner(weights)
    with pytest.raises(WeightsError, match=r"refiner\.json is missing"):
        load_refiner(weights)


@pytest.mark.parametrize("index", ["[]", '{"weight_map": []}', '{"weight_map": {}}', "{"])
def test_a_damaged_index_is_named(weights: Path, index: str) -> None:
    path = weights / "vae/diffusion_pytorch_model.safetensors.index.json"
    path.write_text(index)
    with pytest.raises(WeightsError, match=r"vae.diffusion_pytorch_model.*json"):
        load_refiner(weights)


def test_nothing_that_a_file_names_is_imported(
    weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "hostile_module.py").write_text("class Hostile: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    auto_map = {"AutoModel": "hostile_module.Hostile", "AutoTokenizer": ["hostile_module.Hostile"]}
    edit(weights / "text_encoder/config.json", auto_map=auto_map, attn_implementation="a/kernel")
    edit(weights / "tokenizer/tokenizer_config.json", auto_map=auto_map)
    load_refiner(weights)
    edit(weights / "vae/config.json", _class_name="hostile_module.Hostile")
    with pytest.raises(WeightsError, match=r"hostile_module\.Hostile"):
        load_refiner(weights)
    assert "hostile_module" not in sys.modules

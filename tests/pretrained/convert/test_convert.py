"""Released checkpoints: what they become, that they come back the same, and what is refused."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextModel

from diffjscc.codecs.deepjscc import DeepJSCC
from diffjscc.codecs.swin import SwinJSCC
from diffjscc.data.files import sha256_of
from diffjscc.pretrained.convert.config import check_config
from diffjscc.pretrained.convert.keys import SCHEDULE
from diffjscc.pretrained.convert.plan import Plan, schedule_buffers
from diffjscc.pretrained.convert.released import convert_released
from diffjscc.pretrained.pretrained import load_codec
from diffjscc.pretrained.storage import WeightsError, read_json, read_shards, write_shards
from diffjscc.refiners.control import ControlModule, Denoiser
from diffjscc.refiners.latents import ConditionEncoder
from recordings import recorded_numbers, recorded_tensors
from released_checkpoint import write_checkpoint


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


def checkpoint_state(folder: Path) -> dict[str, Tensor]:
    return torch.load(folder / "model.ckpt", weights_only=True)["state_dict"]


def differing(a: dict[str, Tensor], b: dict[str, Tensor]) -> list[str]:
    """Names that are in one of two states alone, or whose tensors differ by a bit."""
    return [
        key
        for key in sorted(a.keys() | b.keys())
        if key not in a or key not in b or a[key].dtype != b[key].dtype or not a[key].equal(b[key])
    ]


def full_size(config: dict[str, Any]) -> dict[str, Any]:
    """The settings of the checkpoint at 1/128 cpp, from the miniature's."""
    params = config["params"]
    for name in ("control_stage_config", "unet_config"):
        params[name]["params"] |= {
            "model_channels": 320,
            "channel_mult": [1, 2, 4, 4],
            "num_head_channels": 64,
            "context_dim": 1024,
        }
    params["first_stage_config"]["params"]["ddconfig"] |= {"ch": 128, "ch_mult": [1, 2, 4, 4]}
    params["preprocess_config"]["params"] |= {
        "ngf": 64,
        "max_ngf_E": 384,
        "max_ngf_D": 384,
        "n_blocks_E": 4,
        "n_blocks_D": 4,
    }
    del config["text_tiny"]
    return config


# What a checkpoint becomes


@torch.no_grad()
def test_converted_networks_give_the_recorded_numbers(converted: Path) -> None:
    control_io, vae_io, text_io = (
        recorded_tensors(f"cldm_mini.{name}.io") for name in ("control", "vae", "text")
    )
    unet = UNet2DConditionModel.from_pretrained(converted / "unet")
    control = ControlModule.from_pretrained(converted / "control")
    inputs = [control_io[name] for name in ("zt", "t", "hint", "snr_db", "context")]
    inputs[3] = inputs[3][:, 0]
    denoiser = Denoiser(unet, control).eval()
    close(denoiser(*inputs), control_io["eps"])
    close(denoiser(*inputs, control_scale=0.0), control_io["eps_no_control"])

    images = vae_io["image_u8"].float() / 255 * 2 - 1
    vae = AutoencoderKL.from_pretrained(converted / "vae").eval()
    close(vae.encode(images).latent_dist.parameters[:, :4], vae_io["mean"])
    close(vae.decode(vae_io["z"] / vae.config.scaling_factor).sample, vae_io["decoded"])
    encoder = ConditionEncoder.from_pretrained(converted / "condition_encoder").eval()
    condition = encoder(images)[:, :4] * encoder.config.scaling_factor
    close(condition, vae_io["cond_latent"])

    text = CLIPTextModel.from_pretrained(converted / "text_encoder").eval()
    features = text(input_ids=text_io["token_ids"]).last_hidden_state
    close(features, text_io["penultimate_ln_final"])


def test_converted_folder_says_what_it_is(checkpoint: Path, converted: Path) -> None:
    codec = load_codec(converted)
    assert isinstance(codec, DeepJSCC)
    assert codec.config.snr_range_db == (0.0, 14.0)
    assert codec.config.csi == "snr"
    scheduler = DDPMScheduler.from_pretrained(converted / "scheduler")
    assert scheduler.config.beta_schedule == "scaled_linear"
    assert scheduler.config.clip_sample is False
    refiner = read_json(converted / "refiner.json")
    assert refiner["snr_scale"] == 100
    assert refiner["clamp_snr"] is False
    assert refiner["scaling_factor"] == 0.18215

    card = read_json(converted / "card.json")
    for name in ("config.yaml", "model.ckpt"):
        assert (
            card["source_sha256"][name]
            == hashlib.sha256((checkpoint / name).read_bytes()).hexdigest()
        )
    written = {path.relative_to(converted).as_posix() for path in converted.rglob("*.*")}
    assert card["sha256"].keys() == written - {"card.json"}
    for name, digest in card["sha256"].items():
        assert sha256_of(converted / name) == digest


def test_settings_reach_the_control_module_and_the_codec(settings: dict[str, Any]) -> None:
    params = settings["params"]
    params["control_stage_config"]["params"]["min_snr"] = -5
    params["preprocess_config"]["params"] |= {"SNR_low": 2, "SNR_high": 11, "channel": "Rayleigh"}
    plan = Plan(check_config(settings, Path("config.yaml")))
    (control,) = (n.model for n in plan.networks if n.folder == "control")
    assert control.config.min_snr == -5
    assert tuple(control.config.snr_range_db) == (2, 11)
    assert plan.codec.config.csi == "snr+gain"
    assert plan.codec.config.snr_range_db == (2, 11)


def test_tables_cover_a_full_size_checkpoint(settings: dict[str, Any]) -> None:
    full = recorded_numbers("keys_cldm_cnn_full")
    plan = Plan(check_config(full_size(settings), Path("config.yaml")))

    needed = {key: value["shape"] for key, value in full.items() if key not in SCHEDULE}
    assert {key: list(value.shape) for key, value in plan.released().items()} == needed
    moves = [move for table in plan.tables.values() for move in table]
    consumed = [move.released for move in moves] + list(plan.unused)
    assert len(consumed) == len(set(consumed)) == 1896 - 13

    ours = {"codec": dict(plan.codec.state_dict())}
    ours |= {network.folder: network.tensors for network in plan.networks}
    for folder, table in plan.tables.items():
        produced = [name for move in table for name in move.ours]
        assert sorted(produced) == sorted(ours[folder]), folder
        for move in table:
            parts = move.to_ours(torch.empty(needed[move.released], device="meta"))
            for name, part in parts.items():
                assert part.shape == ours[folder][name].shape, name
    counts = recorded_numbers("param_counts")
    unet = sum(value.numel() for value in ours["unet"].values())
    assert unet == counts["model.diffusion_model"]["params"]


def test_large_components_are_sharded(converted: Path, tmp_path: Path) -> None:
    tensors = read_shards(converted / "vae", "diffusion_pytorch_model")
    (tmp_path / "config.json").write_bytes((converted / "vae/config.json").read_bytes())
    sizes: list[int] = []
    write_shards(
        tensors,
        tmp_path,
        "diffusion_pytorch_model",
        advance=sizes.append,
        shard_bytes=1_000_000,
    )
    files = list(tmp_path.glob("*.safetensors"))
    assert len(files) == len(sizes) >= 5
    assert max(path.stat().st_size for path in files) < 1_100_000
    assert sum(sizes) == sum(value.nbytes for value in tensors.values())
    assert not differing(read_shards(tmp_path, "diffusion_pytorch_model"), tensors)
    loaded = AutoencoderKL.from_pretrained(tmp_path)
    assert not differing(dict(loaded.state_dict()), tensors)

    content = bytearray(files[0].read_bytes())
    content[-1] ^= 1
    files[0].write_bytes(content)
    with pytest.raises(WeightsError, match="damaged"):
        read_shards(tmp_path, "diffusion_pytorch_model")


# The way back


def test_converting_back_gives_the_same_tensors(checkpoint: Path, converted: Path) -> None:
    back = convert_released(converted, checkpoint.parent / "back", to="released")
    assert not differing(checkpoint_state(checkpoint), checkpoint_state(back))
    settings = [
        yaml.safe_load((folder / "config.yaml").read_text()) for folder in (checkpoint, back)
    ]
    assert settings[0] == settings[1]


def test_schedule_is_the_recorded_one(settings: dict[str, Any]) -> None:
    buffers = schedule_buffers(check_config(settings, Path("config.yaml")))
    schedule = recorded_tensors("schedule")
    assert list(buffers) == list(SCHEDULE)
    for name in ("betas", "alphas_cumprod"):
        assert buffers[name].equal(schedule[f"steps1000.{name}"].float())


def test_only_what_was_converted_converts_back(converted: Path, tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    with pytest.raises(WeightsError, match="only weights that were converted"):
        convert_released(tmp_path / "own", tmp_path / "back", to="released")
    with pytest.raises(ValueError, match="must be one of diffjscc, released"):
        convert_released(converted, tmp_path / "back", to="onnx")  # type: ignore[arg-type]
    assert not (tmp_path / "back").exists()


def test_condition_encoder_is_shared_where_it_is_the_vaes(
    settings: dict[str, Any], state: dict[str, Tensor], tmp_path: Path
) -> None:
    for key in state:
        if key.startswith("cond_encoder."):
            state[key] = state[key.replace("cond_encoder", "first_stage_model")].clone()
    source = write_checkpoint(tmp_path / "source", settings, state)
    ours = convert_released(source, tmp_path / "ours")
    assert read_json(ours / "refiner.json")["condition_encoder"] == "vae"
    assert not (ours / "condition_encoder").exists()
    back = convert_released(ours, tmp_path / "back", to="released")
    assert not differing(checkpoint_state(back), state)

    # One bit, one weight: a copy no longer.
    state["cond_encoder.quant_conv.bias"] = state["cond_encoder.quant_conv.bias"] + 2**-10
    source = write_checkpoint(tmp_path / "source", settings, state)
    apart = convert_released(source, tmp_path / "apart")
    assert read_json(apart / "refiner.json")["condition_encoder"] == "condition_encoder"
    kept = read_shards(apart / "condition_encoder", "diffusion_pytorch_model")
    assert kept["quant_conv.bias"].equal(state["cond_encoder.quant_conv.bias"])


@pytest.mark.parametrize("channel", ["AWGN", "Rayleigh"])
def test_swin_codec_converts_both_ways(
    channel: str, settings: dict[str, Any], state: dict[str, Tensor], tmp_path: Path
) -> None:
    params = recorded_numbers("jscc_configs")["jscc_swin_tiny_w2"]
    params |= {"SNR_low": 0, "SNR_high": 14, "channel": channel}
    settings["params"]["preprocess_config"] = {
        "target": "model.deepjscc_swin.DeepJSCC_SWIN",
        "params": params,
    }
    state = {key: v for key, v in state.items() if not key.startswith("preprocess_model.")}
    weights = recorded_tensors("jscc_swin_tiny_w2.weights")
    state |= {f"preprocess_model.{key}": value for key, value in weights.items()}
    source = write_checkpoint(tmp_path / "source", settings, state)
    ours = convert_released(source, tmp_path / "ours")
    codec = load_codec(ours)
    assert isinstance(codec, SwinJSCC)
    assert codec.config.window == 2
    assert codec.config.receiver == ("unequalised" if channel == "Rayleigh" else "equalised")
    back = convert_released(ours, tmp_path / "back", to="released")
    floats = {key: v.float() if v.is_floating_point() else v for key, v in state.items()}
    assert not differing(checkpoint_state(back), floats)

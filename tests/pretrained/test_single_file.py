"""Priors in one file, against the same networks out of the released layout, part for part."""

from pathlib import Path

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from torch import Tensor

from diffjscc.pretrained.convert.keys import TEXT, UNET, VAE
from diffjscc.pretrained.networks import load_network
from diffjscc.pretrained.single_file import SingleFile
from diffjscc.pretrained.storage import WeightsError, as_float32
from diffjscc.training.frozen import has_text, load_prior, load_scheduler, load_vae
from released_checkpoint import released_state

EPSILON = {"modelspec.prediction_type": "epsilon"}


def prior_state() -> dict[str, Tensor]:
    """The prior of the miniature checkpoint, with what training leaves beside it."""
    state = {
        key: value for key, value in released_state().items() if key.startswith((UNET, VAE, TEXT))
    }
    return state | {"model_ema.num_updates": torch.tensor(7), "betas": torch.rand(1000)}


def write(path: Path, state: dict[str, Tensor], metadata: dict[str, str] | None = None) -> str:
    if path.suffix == ".ckpt":
        extra = {key: int(value) for key, value in (metadata or {}).items()}
        torch.save({"state_dict": state, "epoch": 3, **extra}, path)
    else:
        save_file({key: value.contiguous() for key, value in state.items()}, path, metadata)
    return str(path)


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)


@pytest.mark.parametrize("suffix", ["safetensors", "ckpt"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_one_file_is_the_prior_of_the_released_layout(
    suffix: str,
    dtype: torch.dtype,
    converted: Path,
    tmp_path: Path,
    recwarn: pytest.WarningsRecorder,
) -> None:
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in prior_state().items()}
    metadata = {"global_step": "875000"} if suffix == "ckpt" else EPSILON
    source = write(tmp_path / f"v2-1_512-ema-pruned.{suffix}", state, metadata)
    prior = load_prior(source)
    assert has_text(source)
    assert prior.text is not None
    parts = {"unet": prior.unet, "vae": prior.vae, "text_encoder": prior.text.encoder}
    for name, network in parts.items():
        expected = load_network(converted, name, as_float32).state_dict()
        found = network.state_dict()
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert found[key].dtype == value.dtype, key
            assert torch.equal(found[key], value), key  # the numbers fit into float16
        assert not any(parameter.requires_grad for parameter in network.parameters())
    assert prior.vae.config.scaling_factor == 0.18215
    assert prior.scheduler.config.prediction_type == "epsilon"
    assert prior.scheduler.config.beta_schedule == "scaled_linear"
    assert load_vae(source).config.latent_channels == prior.unet.config.in_channels == 4
    latent = torch.randn(1, 4, 16, 16)
    prior.unet(latent, 7, prior.text.features(prior.text.tokens([""])))


V_PREDICTION = {
    "prediction.safetensors": {"modelspec.prediction_type": "v"},
    "architecture.safetensors": {"modelspec.architecture": "stable-diffusion-v2-768-v"},
    "steps.ckpt": {"global_step": "110000"},
    "v2-1_768-ema-pruned.safetensors": None,
    "v2-1_768-nonema-pruned.ckpt": None,
    "my-v-pred.safetensors": None,
    "MY-VPRED.safetensors": {"format": "pt"},
}


@pytest.mark.parametrize("name", V_PREDICTION)
def test_a_file_that_predicts_v_is_refused(name: str, tmp_path: Path) -> None:
    source = write(tmp_path / name, prior_state(), V_PREDICTION[name])
    with pytest.raises(WeightsError, match=r"'v_prediction'.*2\.1-base, which predicts noise"):
        load_scheduler(source)
    with pytest.raises(WeightsError, match="'v_prediction'"):
        load_prior(source)
    # A setting counts for more than a name, but for less than what the file says.
    if V_PREDICTION[name] in (None, {"format": "pt"}):
        assert load_scheduler(source, "epsilon").config.prediction_type == "epsilon"
    else:
        with pytest.raises(WeightsError, match="'v_prediction'"):
            load_scheduler(source, "epsilon")


def test_where_nothing_says_it_the_user_must(tmp_path: Path) -> None:
    source = write(tmp_path / "model.safetensors", prior_state())
    with pytest.raises(WeightsError, match="set prior_prediction=epsilon if it is"):
        load_scheduler(source)
    assert load_scheduler(source, "epsilon").config.prediction_type == "epsilon"
    with pytest.raises(WeightsError, match=r"'v_prediction' \(by prior_prediction\)"):
        load_scheduler(source, "v_prediction")


def without(part: str) -> dict[str, Tensor]:
    return {key: value for key, value in prior_state().items() if not key.startswith(part)}


def test_other_models_are_named(tmp_path: Path) -> None:
    for part, word in ((UNET, "UNet"), (VAE, "VAE"), (TEXT, "OpenCLIP text encoder")):
        source = write(tmp_path / "part.safetensors", without(part), EPSILON)
        with pytest.raises(WeightsError, match=f"has no {word}"):
            load_prior(source)
    more = {f"{UNET}label_emb.0.0.weight": torch.zeros(8, 8)}  # as Stable Diffusion XL has it
    source = write(tmp_path / "more.safetensors", prior_state() | more, EPSILON)
    with pytest.raises(WeightsError, match="unet is not that of Stable Diffusion 2"):
        SingleFile.open(source).network("unet")
    key = f"{UNET}out.2.weight"
    cut = {k: v for k, v in prior_state().items() if k != key}
    source = write(tmp_path / "cut.safetensors", cut, EPSILON)
    with pytest.raises(WeightsError, match="unet is not that of Stable Diffusion 2"):
        SingleFile.open(source).network("unet")


def test_files_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="does not exist"):
        load_scheduler(str(tmp_path / "nowhere.safetensors"))
    (tmp_path / "a.bin").write_bytes(b"1")
    with pytest.raises(WeightsError, match=r"is \.safetensors or \.ckpt"):
        load_scheduler(str(tmp_path / "a.bin"))
    for name in ("a.safetensors", "a.ckpt"):
        for content in (b"", b"<html>Not Found</html>", b"\xff" * 64):
            (tmp_path / name).write_bytes(content)
            with pytest.raises(WeightsError, match="fetch it again"):
                load_scheduler(str(tmp_path / name))

"""The checkpoint from which an interrupted training run resumes bit for bit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import IO, Any, cast

import torch
import yaml
from torch import nn

from diffjscc.configuration import as_yaml
from diffjscc.data.files import atomic_write
from diffjscc.data.saved import load_saved
from diffjscc.pretrained.storage import compare
from diffjscc.training.config import StageConfig
from diffjscc.training.ema import EMA
from diffjscc.training.finite import REMEDIES, NotFiniteError, first_not_finite
from diffjscc.training.optimiser import Optimiser

# Settings that may change when a run is resumed: they alter its length, its reports or the memory
# that it takes, and nothing else.
CHANGEABLE = {
    "run.iterations",
    "run.checkpoint_every",
    "run.log_every",
    "run.skip_nonfinite",
    "run.validate_every",
    "data.packed",
    "data.validation",
    "data.validation_images",
    "discriminators.optimiser.tail",
    "latents",
    "memory.accumulate",
    "memory.gradient_checkpointing",
    "optimiser.tail",
    "precompute.blip2",
    "precompute.folder",
    "sampled.folder",
    "sampler.name",
    "sampler.num_inference_steps",
}


# Settings that say where the images are; they may change while the images stay the same.
PLACES = {"data.args", "data.split", "data.train"}


@dataclass
class Progress:
    """Progress of a run.

    Attributes:
        step: iterations done.
        owed: whether the validation after that iteration has not been made.
        skipped: iterations passed over, see `RunConfig.skip_nonfinite`.
        left_out: numbers of the images that could not be read.
    """

    step: int = 0
    owed: bool = False
    skipped: list[int] = field(default_factory=list)
    left_out: list[int] = field(default_factory=list)


class Checkpoint:
    """The state of a training run, in memory and in one file.

    Args:
        path: the file.
        model: everything that training changes.
        optimisers: of its parameters.
        ema: average of its weights.
        config: the run's settings.
        images: identity of the images, see `identity`.
    """

    def __init__(
        self,
        path: Path,
        model: nn.Module,
        optimisers: Sequence[Optimiser],
        ema: EMA,
        config: StageConfig,
        images: str,
    ) -> None:
        self.path, self.model, self.optimisers = path, model, optimisers
        self.ema, self.config, self.images = ema, config, images

    def save(self, progress: Progress) -> None:
        """Write, atomically, all that the iterations to come depend on.

        Raises:
            NotFiniteError: weights that hold NaN or infinite values.
            OSError: the file cannot be written; the one before it stays.
        """
        model = self.model.state_dict()
        bad = first_not_finite(model) or first_not_finite(self.ema.state)
        if bad is not None:
            raise NotFiniteError(
                f"{bad} holds NaN or infinite values after iteration {progress.step}; "
                f"{kept(self.path)}; {REMEDIES}"
            )
        state = {
            **asdict(progress),
            "model": model,
            "ema": self.ema.state,
            "optimisers": [optimiser.state_dict() for optimiser in self.optimisers],
            "config": as_yaml(self.config),
            "images": self.images,
        }
        with atomic_write(self.path) as temporary:
            _save(state, temporary)

    def restore(self) -> Progress:
        """Load the file, if there is one.

        Returns:
            How far the run has come; nowhere without a file.

        Raises:
            ValueError: the file is damaged, or belongs to a run with other settings or images.
            OSError: it cannot be read.
        """
        if not self.path.exists():
            return Progress()
        device = next(self.model.parameters()).device
        try:
            state: dict[str, Any] = load_saved(self.path, device)
            before, images = _flatten(yaml.safe_load(state["config"])), state.get("images")
            known = {f.name: state[f.name] for f in fields(Progress) if f.name in state}
            progress = Progress(**known)
            if not isinstance(progress.step, int):
                raise TypeError(f"step is {progress.step!r}")
        except OSError:
            raise
        except Exception as error:  # torch and YAML raise all kinds of errors
            raise self._damaged(error) from error
        self._check_settings(before, images)
        try:
            self.model.load_state_dict(state["model"])
            for optimiser, own in zip(self.optimisers, state["optimisers"], strict=True):
                optimiser.load_state_dict(own)
            compare(self.ema.state, state["ema"], str(self.path))
            self.ema.state = state["ema"]
        except Exception as error:  # as above
            raise self._damaged(error) from error
        return progress

    def _damaged(self, error: Exception) -> ValueError:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        return ValueError(
            f"{self.path} is damaged, or of other networks than this config's ({first}); put a "
            "copy of it back, or remove it to train from the beginning"
        )

    def _check_settings(self, before: dict[str, Any], images: object) -> None:
        """Raise ValueError if the run was started with other settings or images."""
        now = _flatten(yaml.safe_load(as_yaml(self.config)))
        may = CHANGEABLE | (PLACES if images is not None else set())
        changed = [
            f"{key}: {before.get(key)} then, {now.get(key)} now"
            for key in sorted(before.keys() | now.keys())
            if before.get(key) != now.get(key)
            and not any(key == name or key.startswith(f"{name}.") for name in may)
        ]
        elsewhere = (
            "choose another output folder, or start from its weights with --init (train decoder: "
            "with weights=)"
        )
        if changed:
            raise ValueError(
                f"{self.path} belongs to a run with other settings ({'; '.join(changed)}); "
                f"{elsewhere}"
            )
        if images not in (None, self.images):
            raise ValueError(
                f"{self.path} belongs to a run on other images: data.train has been given others, "
                "or some were added, removed, renamed or changed; bring back those that it was "
                f"started with, {elsewhere}"
            )


def kept(path: Path) -> str:
    """Say whether a checkpoint is there to go on from."""
    if path.exists():
        return f"the last good checkpoint stays in {path}"
    return "there is no checkpoint yet"


def _save(state: dict[str, Any], path: Path) -> None:
    """Write a state; where torch hides why it cannot, raise the OSError behind it."""
    with path.open("wb") as file:
        writer = _Writer(file)
        try:
            torch.save(state, cast("IO[bytes]", writer))
        except RuntimeError as error:
            if writer.error is not None:
                raise writer.error from error
            raise


class _Writer:
    """A file for torch, which remembers the error that torch replaces by its own."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def _flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat |= _flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat

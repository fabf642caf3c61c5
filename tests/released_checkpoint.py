"""A miniature checkpoint in the released layout, drawn from the recipe of its recording."""

from __future__ import annotations

import hashlib
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from torch import Tensor

from recordings import recorded_numbers


def released_config() -> dict[str, Any]:
    """What the miniature checkpoint's config.yaml says."""
    config: dict[str, Any] = recorded_numbers("cldm_mini.config")
    return config


def released_state() -> dict[str, Tensor]:
    """The miniature checkpoint's tensors under their released names; drawn once a process."""
    return dict(_drawn())


@cache
def _drawn() -> dict[str, Tensor]:
    return draw(recorded_numbers("cldm_mini.recipe"))


def draw(recipe: dict[str, Any]) -> dict[str, Tensor]:
    """Every tensor that a recipe lists; the drawn ones must have the recipe's SHA-256."""
    digest, state = hashlib.sha256(), {}
    buffers = schedule_buffers()
    for key, shape, rule, mean, std in recipe["tensors"]:
        if rule == "keep":
            state[key] = buffers[key]
        elif rule == "int":
            state[key] = torch.full(shape, mean, dtype=torch.int64)
        else:
            seed = zlib.crc32(key.encode()) ^ recipe["base_seed"]
            values = np.random.RandomState(seed).standard_normal(int(np.prod(shape)))
            values = mean + std * values
            if rule == "normal_floor":
                values = np.maximum(values, 0.25)
            stored = values.astype(np.float16).astype(np.float32)
            digest.update(stored.tobytes())
            state[key] = torch.from_numpy(stored).reshape(shape)
    expected = recipe["sha256_of_float32_bytes_in_listed_order_of_normal_entries"]
    if digest.hexdigest() != expected:
        raise RuntimeError("the drawn tensors are not the recipe's; its algorithm has changed")
    return state


def schedule_buffers() -> dict[str, Tensor]:
    """The 13 top-level buffers: beta = linspace(√0.00085, √0.012, 1000)² and what follows."""
    beta = np.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=np.float64) ** 2
    after = np.cumprod(1 - beta)
    before = np.append(1.0, after[:-1])
    variance = beta * (1 - before) / (1 - after)
    buffers = {
        "betas": beta,
        "alphas_cumprod": after,
        "alphas_cumprod_prev": before,
        "sqrt_alphas_cumprod": np.sqrt(after),
        "sqrt_one_minus_alphas_cumprod": np.sqrt(1 - after),
        "log_one_minus_alphas_cumprod": np.log(1 - after),
        "sqrt_recip_alphas_cumprod": np.sqrt(1 / after),
        "sqrt_recipm1_alphas_cumprod": np.sqrt(1 / after - 1),
        "posterior_variance": variance,
        "posterior_log_variance_clipped": np.log(np.maximum(variance, 1e-20)),
        "posterior_mean_coef1": beta * np.sqrt(before) / (1 - after),
        "posterior_mean_coef2": (1 - before) * np.sqrt(1 - beta) / (1 - after),
        "logvar": np.zeros(1000),
    }
    return {key: torch.from_numpy(value.astype(np.float32)) for key, value in buffers.items()}


def write_checkpoint(
    folder: Path, config: dict[str, Any], state: dict[str, Tensor], **extra: Any
) -> Path:
    """Write model.ckpt and config.yaml as Lightning does; `extra` lies beside the state."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {"epoch": 3, "global_step": 25000, "state_dict": state, **extra}
    torch.save(content, folder / "model.ckpt")
    text = yaml.safe_dump(config, sort_keys=False)
    (folder / "config.yaml").write_text(text, encoding="utf-8")
    return folder


def released_checkpoint(folder: Path) -> Path:
    """The miniature checkpoint as a folder that `convert_released` takes."""
    return write_checkpoint(folder, released_config(), released_state())

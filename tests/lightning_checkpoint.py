"""A checkpoint as PyTorch Lightning 1.4 writes it: much more than weights."""

import argparse
import enum
import functools
import zipfile
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn


class EarlyStopping:
    """A callback; Lightning 1.4 keeps callbacks' state by their classes."""


class Mode(enum.Enum):
    LOWEST = "min"


class AttributeDict(dict[str, Any]):
    """Lightning's settings."""


class Container:
    """Settings with a state of their own, as omegaconf's."""

    def __init__(self) -> None:
        self.content = {"lr": 1e-4}

    def __setstate__(self, state: dict[str, Any]) -> None:
        raise AssertionError("state was given to an object of the file")


def lightning(state: dict[str, Any]) -> dict[str, Any]:
    """A checkpoint as Lightning 1.4 writes it, with everything but weights that it may hold."""
    network = nn.Linear(64, 64)
    optimiser = torch.optim.AdamW(network.parameters())
    network(torch.ones(64)).sum().backward()
    optimiser.step()
    return {
        "epoch": np.int64(3),
        "global_step": 25000,
        "pytorch-lightning_version": "1.4.2",
        "callbacks": {EarlyStopping: {"best": torch.tensor(0.1), "mode": Mode.LOWEST}},
        "optimizer_states": [optimiser.state_dict()],
        "lr_schedulers": [{"lr_lambdas": [functools.partial(max, 1.0)], "last": deque([1, 2])}],
        "hparams_name": "args",
        "hyper_parameters": AttributeDict(a=Container(), b=argparse.Namespace(c={1, 2})),
        "arrays": [np.arange(4.0), np.float32(2.5), frozenset([1]), torch.Size([3]), torch.float16],
        (1, (2, 3)): complex(1, 2),
        "state_dict": state,
    }


def sparse(path: Path, members: dict[str, bytes | int]) -> None:
    """A zip file of stored members; a number stands for as many zeros, which take no space."""
    with path.open("wb") as file:
        archive = zipfile.ZipFile(file, "w")
        for name, content in members.items():
            if isinstance(content, bytes):
                archive.writestr(name, content)
                continue
            info = zipfile.ZipInfo(name)
            with archive.open(info, "w", force_zip64=True) as target:
                target.write(b"")
            file.seek(content, 1)
            info.file_size = info.compress_size = content
            archive.start_dir = file.tell()
        archive.close()

"""Gradients of a training run, as its checkpoint keeps them."""

from pathlib import Path

import torch
from torch import Tensor

# A rate that changes no weight in float32, so that runs differ by nothing but rounding of the sums.
STANDSTILL = "optimiser.learning_rate=1e-12"


def mean_gradients(run: Path) -> dict[str, Tensor]:
    """Running means of the gradients of each optimiser's parameters."""
    state = torch.load(run / "checkpoint.pt", weights_only=True)
    means = {
        f"optimiser {i}, part {j}, parameter {number}": kept.get(
            "exp_avg", kept.get("momentum_buffer")
        )
        for i, optimiser in enumerate(state["optimisers"])
        for j, part in enumerate(optimiser)
        for number, kept in part["state"].items()
    }
    assert means
    return means


def assert_same_gradients(one: Path, two: Path) -> None:
    """The same batches, hence the same gradients but for the order of their sums in float32.

    A sum of n terms rounded in another order moves by at most n·2^-24 of its largest partial sum;
    1e-5 of the largest gradient allows 170 roundings of full size.
    """
    expected, found = mean_gradients(one), mean_gradients(two)
    assert expected.keys() == found.keys()
    largest = max(values.abs().max().item() for values in expected.values())
    assert largest > 0
    for name, values in expected.items():
        error = (found[name] - values).abs().max().item()
        assert error <= 1e-5 * largest, (name, error / largest)

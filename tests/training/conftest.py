"""What the tests of every stage share."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from torch import nn

from diffjscc.training.ema import EMA


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other processes train on the CPU, whatever the machine has."""
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")


@pytest.fixture
def interrupted(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], AbstractContextManager[None]]:
    """A context that ends a training within an iteration, as a kill would."""
    update = EMA.update

    @contextmanager
    def at(iteration: int) -> Iterator[None]:
        def killed(self: EMA, model: nn.Module, step: int) -> None:
            if step == iteration:
                raise KeyboardInterrupt
            update(self, model, step)

        with monkeypatch.context() as patch:
            patch.setattr(EMA, "update", killed)
            with pytest.raises(KeyboardInterrupt):
                yield

    return at

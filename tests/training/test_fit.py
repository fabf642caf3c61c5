"""Parts of the training loop."""

import pytest
import torch
from torch import nn

from diffjscc.training.ema import EMA, swap_weights
from diffjscc.training.log import RunningMean


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def test_other_weights_stay_no_longer_than_their_block() -> None:
    model = network()
    model[1].eval()  # as a frozen part is
    own = {name: value.clone() for name, value in model.state_dict().items()}
    other = {name: value + 1 for name, value in own.items()}

    def evaluate() -> None:
        with swap_weights(model, other):
            assert torch.equal(model[0].weight, other["0.weight"])
            assert not model[0].training
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate()
    for name, value in model.state_dict().items():
        assert torch.equal(value, own[name]), name
    assert [module.training for module in model] == [True, False]
    assert model.training


def test_the_average_has_a_short_memory_at_first() -> None:
    model = network()
    ema = EMA(model, decay=0.9)
    start = model[0].weight.detach().clone()
    with torch.no_grad():
        model[0].weight.add_(1)
    model[1].num_batches_tracked.add_(5)
    ema.update(model, step=0)
    torch.testing.assert_close(ema.state["0.weight"], start + 9 / 11)
    assert ema.state["1.num_batches_tracked"] == 5
    ema.update(model, step=1000)
    torch.testing.assert_close(ema.state["0.weight"], start + 9 / 11 + 0.1 * 2 / 11)


def test_means_are_of_the_iterations_that_have_the_loss() -> None:
    means = RunningMean()
    means.add({"loss": torch.tensor(1.0)})
    means.add({"loss": torch.tensor(3.0), "adversarial": torch.tensor(5.0)})
    assert means.report() == {"loss": 2, "adversarial": 5}
    assert means.report() == {}

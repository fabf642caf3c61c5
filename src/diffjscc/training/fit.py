"""The training loop of every stage.

Batches are functions of (seed, iteration), so a run that was killed resumes bit for bit, and N
processes train on the batches that one would.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Protocol, TypeVar

import torch
from accelerate import Accelerator
from rich.progress import Progress
from torch import Tensor, nn

from diffjscc.configuration import as_yaml
from diffjscc.data.crops import prefetch
from diffjscc.refiners.devices import check_build
from diffjscc.training.checkpoint import Checkpoint
from diffjscc.training.config import StageConfig
from diffjscc.training.ema import EMA, swap_weights
from diffjscc.training.log import Log, RunningMean
from diffjscc.training.optimiser import Optimiser, ParameterGroup, learning_rate_at

Batch = TypeVar("Batch")
Validation = Callable[[Log, int], None]  # logs metrics of held-out images after an iteration


class Stage(Protocol[Batch]):
    """One stage of training: networks, batches, losses, validation and export.

    Attributes:
        config: settings of the stage.
        module: computes the losses; wrapped for data parallelism and mixed precision.
        trained: all weights that training changes, in training mode; they are averaged,
            checkpointed and exported.
        groups: parameters of `trained`, by optimiser; the first one's learning rate is logged.
    """

    config: StageConfig
    module: nn.Module
    trained: nn.Module
    groups: Sequence[ParameterGroup]

    def batches_at(self, step: int, process: int, processes: int) -> Sequence[Batch]:
        """One process's part of an iteration's batch, split further where memory is short.

        Called in a background thread, ahead of time.
        """
        ...

    def losses(self, module: nn.Module, batch: Batch, step: int) -> dict[str, Tensor]:
        """Losses of one element of `batches_at`, scalars by name; "loss" is minimised.

        Args:
            module: `self.module`, wrapped.
            batch: on the CPU.
            step: number of the iteration, from 0.
        """
        ...

    def metrics(self) -> dict[str, float]:
        """Further metrics of the training images since the last call, by name."""
        return {}

    def validation(self) -> Validation | None:
        """Make the validation, in the main process only; None where there is none."""
        return None

    def save(self, folder: Path) -> None:
        """Export the weights that `trained` holds."""
        ...


def start(config: StageConfig, accumulate: int = 1) -> Accelerator:
    """Join the processes of a run.

    Args:
        config: batch size and precision.
        accumulate: parts that each process computes its share of a batch in.

    Raises:
        ValueError: the batch cannot be shared out equally, or torch was not built for the GPU.
    """
    accelerator = Accelerator(mixed_precision=config.run.precision)
    check_build(accelerator.device)
    processes = accelerator.num_processes
    if config.run.batch % (processes * accumulate):
        parts = "" if accumulate == 1 else f" with memory.accumulate={accumulate}"
        raise ValueError(
            f"run.batch is {config.run.batch}; {processes} processes{parts} need a multiple of "
            f"{processes * accumulate}"
        )
    return accelerator


def fit(stage: Stage[Batch], accelerator: Accelerator, output: Path) -> Path:
    """Train a stage, or resume its training, in a folder.

    Args:
        stage: what is trained.
        accelerator: of this process.
        output: gets `checkpoint.pt`, `log.jsonl`, `tensorboard/`, `config.yaml` and `weights/`.

    Returns:
        The folder of the exported, averaged weights.

    Raises:
        ValueError: the folder holds a run with other settings, or a setting does not fit.
    """
    run, main = stage.config.run, accelerator.is_main_process
    share = accelerator.process_index, accelerator.num_processes
    output.mkdir(parents=True, exist_ok=True)
    optimisers = [Optimiser(group.network, group.config) for group in stage.groups]
    ema = EMA(stage.trained, run.ema)
    checkpoint = Checkpoint(output / "checkpoint.pt", stage.trained, optimisers, ema, stage.config)
    begin, last = checkpoint.restore(), run.iterations
    module = accelerator.prepare(stage.module)
    log = Log(output, begin, as_yaml(stage.config)) if main else None
    validate = stage.validation() if main else None
    means = RunningMean()
    with Progress(disable=not main) as progress:
        task = progress.add_task("training", total=last, completed=begin)
        read = prefetch(lambda step: stage.batches_at(step, *share), begin, last - begin)
        for step, batches in enumerate(read, begin):
            losses = backward(stage, module, batches, step, accelerator)
            for group, optimiser in zip(stage.groups, optimisers, strict=True):
                if group.config.clip is not None:
                    accelerator.clip_grad_norm_(group.clipped.parameters(), group.config.clip)
                optimiser.step(learning_rate_at(step, last, group.config))
            ema.update(stage.trained, step)

            done = step + 1
            progress.update(task, completed=done)
            if log is None:
                continue
            means.add(losses)
            if done % run.log_every == 0:
                rate = learning_rate_at(step, last, stage.groups[0].config)
                log.numbers(done, {"learning rate": rate} | means.report() | stage.metrics())
            if done == last or done % run.checkpoint_every == 0:
                checkpoint.save(done)
            if validate is not None and (done == last or done % run.validate_every == 0):
                with swap_weights(stage.trained, ema.state):
                    validate(log, done)
    if log is not None:
        log.close()
        with swap_weights(stage.trained, ema.state):
            stage.save(output / "weights")
    leave(accelerator)
    return output / "weights"


def backward(
    stage: Stage[Batch],
    module: nn.Module,
    batches: Sequence[Batch],
    step: int,
    accelerator: Accelerator,
) -> dict[str, Tensor]:
    """Accumulate the gradient of one iteration.

    Returns:
        Losses by name, means over `batches`, without gradients.
    """
    parts = []
    for number, batch in enumerate(batches, 1):
        # Processes exchange their gradients once, after the last part.
        exchange = nullcontext() if number == len(batches) else accelerator.no_sync(module)
        with exchange:
            losses = stage.losses(module, batch, step)
            accelerator.backward(losses["loss"] / len(batches))
        parts.append({name: loss.detach() for name, loss in losses.items()})
    return {name: torch.stack([part[name] for part in parts]).mean() for name in parts[0]}


def leave(accelerator: Accelerator) -> None:
    """End a training; of several processes each leaves by itself.

    Gloo's thread takes Python's lock to let go of the last sums that processes exchanged, and torch
    holds that lock while it waits for the thread. Right after an iteration the one may wait for the
    other for ever; asleep, this thread lends the lock.
    """
    if accelerator.num_processes > 1:
        time.sleep(0.5)
    accelerator.end_training()

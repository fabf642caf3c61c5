"""The training loop of every stage.

Batches are functions of (seed, iteration), so a run that was killed resumes bit for bit, and N
processes train on the batches that one would.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Generic

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, InitProcessGroupKwargs
from accelerate.utils import gather_object
from torch import Tensor, nn

from diffjscc.configuration import as_yaml
from diffjscc.data.crops import prefetch
from diffjscc.data.readable import report_left_out
from diffjscc.refiners.devices import check_build
from diffjscc.training.checkpoint import Checkpoint, kept
from diffjscc.training.config import StageConfig
from diffjscc.training.ema import EMA, swap_weights
from diffjscc.training.finite import (
    GRADIENT,
    REMEDIES,
    NotFiniteError,
    copy_buffers,
    is_finite,
    offenders,
    restore_buffers,
)
from diffjscc.training.interruption import SAVED, Interrupted, Interruption, listening
from diffjscc.training.log import Log, RunningMean
from diffjscc.training.optimiser import Optimiser, learning_rate_at
from diffjscc.training.processes import PATIENCE, alone_in, largest, let_go
from diffjscc.training.progress import TrainingBar
from diffjscc.training.stage import Batch, Stage

RELAYED = 5.0  # seconds in which a launcher passes a signal on
LISTED = 8  # names in a message
NUMERIC = re.compile(r"\b(nan|inf|infinite|finite)\b", re.IGNORECASE)


def start(config: StageConfig, accumulate: int = 1, partial: bool = False) -> Accelerator:
    """Join the processes of a run.

    Args:
        config: batch size and precision.
        accumulate: parts that each process computes its share of a batch in.
        partial: whether some weights may be without a gradient in some iterations.

    Raises:
        ValueError: the batch cannot be shared out equally, or torch was not built for the GPU.
    """
    accelerator = Accelerator(
        mixed_precision=config.run.precision,
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=PATIENCE),
            DistributedDataParallelKwargs(find_unused_parameters=partial),
        ],
    )
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
        ValueError: another run trains in the folder, it holds a run with other settings, or a
            setting does not fit.
        NotFiniteError: the loss, the gradient or a weight is not finite; the checkpoint stays.
        Interrupted: a signal asked to stop, and the state after the last iteration is saved.
        OSError: something could not be written; the checkpoint stays.
    """
    output.mkdir(parents=True, exist_ok=True)
    # Ctrl-C reaches every process, and once more from the one that launched them.
    patience = RELAYED if accelerator.num_processes > 1 else 0.0
    with alone_in(output, accelerator), listening(patience) as interruption:
        _Run(stage, accelerator, output, interruption).train()
    if accelerator.is_main_process:
        report_left_out(stage.readable())
    let_go()
    accelerator.end_training()
    return output / "weights"


class _Run(Generic[Batch]):
    """One run of a stage, from its checkpoint to its last iteration."""

    def __init__(
        self,
        stage: Stage[Batch],
        accelerator: Accelerator,
        output: Path,
        interruption: Interruption,
    ) -> None:
        self.stage, self.accelerator, self.output = stage, accelerator, output
        self.run, self.interruption = stage.config.run, interruption
        self.optimisers = [Optimiser(group.network, group.config) for group in stage.groups]
        self.ema = EMA(stage.trained, self.run.ema)
        self.checkpoint = Checkpoint(
            output / "checkpoint.pt",
            stage.trained,
            self.optimisers,
            self.ema,
            stage.config,
            stage.identity,
        )
        self.progress = self.checkpoint.restore()
        self.begin = self.progress.step
        readable = stage.readable()
        if readable is not None:
            readable.left_out.update(self.progress.left_out)
        self.module = accelerator.prepare(stage.module)
        main = accelerator.is_main_process
        self.log = Log(output, self.progress.step, as_yaml(stage.config)) if main else None
        self.validate = stage.validation() if main else None
        self.means = RunningMean()

    def train(self) -> None:
        """Go through the iterations that are left, then export the averaged weights."""
        begin, last = self.begin, self.run.iterations
        share = self.accelerator.process_index, self.accelerator.num_processes
        if self.progress.owed and not self._validate(begin):
            raise Interrupted(self.interruption.asked, SAVED)
        self.progress.owed = False
        bar = TrainingBar(begin, last, shown=self.log is not None)
        read = prefetch(lambda step: self.stage.batches_at(step, *share), begin, last - begin)
        with bar, closing(read):
            for step, batches in enumerate(read, begin):
                losses = self._iterate(step, batches)
                bar.show(step + 1, losses)
        if self.log is not None:
            self.log.close()
            self._export()

    def _iterate(self, step: int, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Iteration `step`, with its reports and its checkpoint."""
        stage, accelerator, done = self.stage, self.accelerator, step + 1
        buffers = copy_buffers(stage.trained)
        try:
            losses = backward(stage, self.module, batches, step, accelerator)
        except ValueError as error:
            raise self._explained(error, step) from error
        bad = not is_finite(losses, stage.trained)
        skip, asked = largest((int(bad), self.interruption.asked), accelerator)
        if skip:
            restore_buffers(stage.trained, buffers)
            self._pass_over(step, losses if bad else {})
            losses = {}
        else:
            self._move(step)
            self.means.add(losses)

        self.progress.step = done
        self._report(done)
        if done == self.run.iterations or done % self.run.validate_every == 0:
            self.progress.owed = bool(asked) or not self._validate(done)
            (asked,) = largest((self.interruption.asked,), accelerator)
        if asked or done == self.run.iterations or done % self.run.checkpoint_every == 0:
            self._save()
        if asked:
            raise Interrupted(
                asked,
                f"{self.checkpoint.path} holds all {done} of {self.run.iterations} iterations so "
                "far; the same command goes on from there",
            )
        return losses

    def _explained(self, error: ValueError, step: int) -> ValueError:
        """Say where an iteration failed; what fails in the first one is a setting's fault."""
        numeric = NUMERIC.search(str(error)) is not None
        if step == self.begin and not numeric:
            return error
        where = f"in iteration {step + 1} ({listed(self._names(step))})"
        text = f"{error}; this is {where}; {kept(self.checkpoint.path)}"
        return NotFiniteError(f"{text}; {REMEDIES}") if numeric else ValueError(text)

    def _names(self, step: int) -> Sequence[str]:
        """Names of this process's images in iteration `step`."""
        accelerator = self.accelerator
        return self.stage.names_at(step, accelerator.process_index, accelerator.num_processes)

    def _move(self, step: int) -> None:
        """Change the weights by the gradient of iteration `step`."""
        for group, optimiser in zip(self.stage.groups, self.optimisers, strict=True):
            if group.config.clip is not None:
                self.accelerator.clip_grad_norm_(group.clipped.parameters(), group.config.clip)
            optimiser.step(learning_rate_at(step, self.run.iterations, group.config))
        self.ema.update(self.stage.trained, step)

    def _pass_over(self, step: int, losses: dict[str, Tensor]) -> None:
        """Leave the weights as they are; raise NotFiniteError where no more may be passed over.

        Args:
            step: number of the iteration.
            losses: of this process's part, if it is not finite; else none.
        """
        self.stage.trained.zero_grad()
        parts = gather_object([(offenders(losses), self._names(step))] if losses else [])
        # Where one process's loss is not finite, the gradients of all are not.
        causes = [part for part in parts if part[0] != GRADIENT] or parts
        names = [name for _, own in causes for name in own]
        what = f"{causes[0][0]} in iteration {step + 1} ({listed(names)})"
        self.progress.skipped.append(step)
        if len(self.progress.skipped) > self.run.skip_nonfinite:
            weights = self.output / "weights"
            if self.log is not None and step > 0 and not weights.exists():
                self._export()
            self.accelerator.wait_for_everyone()
            there = f", averaged weights are in {weights}" if weights.exists() else ""
            raise NotFiniteError(
                f"{what}; {kept(self.checkpoint.path)}{there}; {REMEDIES}; run.skip_nonfinite=10 "
                "passes over as many such batches"
            )
        if self.log is not None:
            count = len(self.progress.skipped)
            self.log.numbers(step + 1, {"skipped batches": count})
            warnings.warn(
                f"{what}: passed over, {count} of at most {self.run.skip_nonfinite}", stacklevel=2
            )

    def _report(self, done: int) -> None:
        """Log the means of the iterations since the last report."""
        if self.log is not None and done % self.run.log_every == 0:
            group = self.stage.groups[0].config
            rate = learning_rate_at(done - 1, self.run.iterations, group)
            numbers = self.means.report() | self.stage.metrics()
            self.log.numbers(done, {"learning rate": rate} | numbers)

    def _validate(self, done: int) -> bool:
        """Validate the averaged weights; return whether no signal cut it short."""
        if self.validate is None or self.log is None:
            return True
        # Others wait for this process after an iteration; alone it need not finish.
        self.interruption.at_once = self.accelerator.num_processes == 1
        try:
            with swap_weights(self.stage.trained, self.ema.state):
                self.validate(self.log, done)
        except Interrupted:
            return False
        finally:
            self.interruption.at_once = False
        return True

    def _save(self) -> None:
        """Write the checkpoint, with what all processes know."""
        readable = self.stage.readable()
        if readable is not None:
            known = gather_object([readable.left_out.copy()])
            self.progress.left_out = sorted(set().union(*known))
            readable.left_out.update(self.progress.left_out)
        if self.log is not None:
            self.checkpoint.save(self.progress)

    def _export(self) -> None:
        """Write the averaged weights."""
        with swap_weights(self.stage.trained, self.ema.state):
            self.stage.save(self.output / "weights")


def listed(names: Sequence[str]) -> str:
    """Join names, at most `LISTED` of them."""
    more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
    return f"{', '.join(names[:LISTED])}{more}"


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

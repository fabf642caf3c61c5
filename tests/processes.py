"""Processes of the command line, forked from one that has imported everything already."""

import multiprocessing
import os
import sys
from multiprocessing.process import BaseProcess
from pathlib import Path

import torch
from torch.distributed import TCPStore

_SERVER = multiprocessing.get_context(
    "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() else "spawn"
)
_IMPORTED = [
    *("diffjscc.cli", "diffjscc.evaluation.sweep", "diffjscc.metrics.evaluator"),
    *("diffjscc.training.jscc", "diffjscc.training.control", "diffjscc.training.decoder"),
    *("torch.utils.tensorboard", "torch.distributed.nn"),
]
"""What takes seconds to import, which is done once for all processes."""


class Started:
    """`diffjscc WORDS` in processes of one thread each, and what they say in all."""

    def __init__(
        self,
        *words: object,
        processes: int = 1,
        folder: Path | None = None,
        said: Path,
    ) -> None:
        """Start them in `folder`; several find each other as those of `torchrun` do."""
        if _SERVER.get_start_method() == "forkserver":
            _SERVER.set_forkserver_preload(_IMPORTED)
        own = dict(os.environ)
        if processes > 1:
            self._store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
            own |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(self._store.port)}
            own |= {"WORLD_SIZE": str(processes), "LOCAL_WORLD_SIZE": str(processes)}
            own |= {"TORCHELASTIC_USE_AGENT_STORE": "True", "TORCHELASTIC_RESTART_COUNT": "0"}
        self._said = said
        self.processes: list[BaseProcess] = []
        for rank in range(processes):
            places = {"RANK": str(rank), "LOCAL_RANK": str(rank)} if processes > 1 else {}
            given = ([str(word) for word in words], own | places, folder or Path.cwd(), said)
            self.processes.append(_SERVER.Process(target=_command, args=given, daemon=True))
            self.processes[-1].start()

    @property
    def said(self) -> str:
        """What they said so far."""
        return self._said.read_text(encoding="utf-8") if self._said.exists() else ""

    def wait(self, seconds: float = 300) -> list[int | None]:
        """Exit codes."""
        for process in self.processes:
            process.join(seconds)
        codes = [process.exitcode for process in self.processes]
        self.kill()
        return codes

    def kill(self) -> None:
        """End them as `kill -9` does."""
        for process in self.processes:
            process.kill()
            process.join()


def run(*words: object, processes: int = 1, folder: Path | None = None, said: Path) -> None:
    """Run `diffjscc WORDS`, which must succeed."""
    started = Started(*words, processes=processes, folder=folder, said=said)
    assert started.wait() == [0] * processes, started.said[-3000:]


def _command(words: list[str], environment: dict[str, str], folder: Path, said: Path) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    descriptor = os.open(said, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    torch.set_num_threads(1)
    from diffjscc.cli import main  # noqa: PLC0415

    sys.argv = ["diffjscc", *words]
    main()

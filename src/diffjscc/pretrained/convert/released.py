"""Released checkpoints to our folders of weights, and back, tensor for tensor.

    WEIGHTS/
      card.json              source of the conversion, SHA-256 of every file
      refiner.json           settings of the receiver beside the networks' own configs
      codec/                 see `codec`
      unet/ vae/ control/ text_encoder/      see `networks`
      condition_encoder/     only if it is not the VAE's own encoder
      scheduler/             diffusers' config of the noise schedule
      released/              config.yaml's settings, and tensors that nothing uses

Every released tensor is used once and every tensor of ours is made once; anything else is an
error that lists the names.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import torch
import yaml
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from diffjscc.choices import WeightsFormat
from diffjscc.data.files import new_folder, sha256_of
from diffjscc.pretrained.codec import read_codec, save_codec
from diffjscc.pretrained.convert.checkpoint import find_released, read_config, state_tensors
from diffjscc.pretrained.convert.checkpoint_file import open_checkpoint
from diffjscc.pretrained.convert.components import Component, save_scheduler
from diffjscc.pretrained.convert.config import check_config
from diffjscc.pretrained.convert.keys import CONDITION_ENCODER, VAE, Move
from diffjscc.pretrained.convert.plan import Plan, schedule_buffers
from diffjscc.pretrained.sources import CHECKPOINT_NAME, CONFIG_NAME, find_folder
from diffjscc.pretrained.storage import (
    WeightsError,
    compare,
    read_json,
    read_shards,
    read_tensors,
    write_json,
    write_shards,
    write_tensors,
)
from diffjscc.version import __version__

_SHARD_BYTES = 1_000_000_000  # about twice of this are in memory at a time

Advance = Callable[[int], None]


def convert_released(
    source: str | Path, destination: str | Path, to: WeightsFormat = "diffjscc"
) -> Path:
    """Convert a released checkpoint to our format, or one in our format back.

    Args:
        source: a folder or hub id with `config.yaml` and `model.ckpt`; with `to` "released", a
            folder or hub id of weights that were converted before.
        destination: the folder to write. It appears once it is complete.
        to: the format to write.

    Returns:
        `destination`.

    Raises:
        WeightsError: files that are missing, damaged, hostile or of another architecture.
        FileExistsError: `destination` holds something already.
        OSError: it cannot be written, or the disk has too little space.
    """
    if to not in get_args(WeightsFormat):
        raise ValueError(f"to is {to!r}; it must be one of {', '.join(get_args(WeightsFormat))}")
    target = Path(destination)
    with new_folder(target) as folder:
        if to == "diffjscc":
            _convert(source, folder)
        else:
            _convert_back(source, folder)
    return target


def _convert(source: str | Path, folder: Path) -> None:
    files = find_released(source)
    settings = read_config(files.config)
    plan = Plan(check_config(settings, files.config))
    checkpoint = open_checkpoint(files.checkpoint)
    state = state_tensors(checkpoint)
    plan.check(state, str(files.checkpoint))
    size = sum(value.nbytes for value in plan.released().values())
    _check_space(folder, size)
    # Everything is written, then read again for its checksum, as is the source.
    read = sum(path.stat().st_size for path in (files.config, files.checkpoint))
    with _progress(2 * size + read) as advance:

        def advance_and_forget(count: int) -> None:
            advance(count)
            checkpoint.forget()

        codec_state = _moved(plan.tables["codec"], state)
        plan.codec.load_state_dict(codec_state, assign=True)
        save_codec(plan.codec, folder)
        shared = _same_encoder(plan.tables["condition_encoder"], state)
        for network in plan.networks:
            if not (shared and network.folder == "condition_encoder"):
                _write(network, state, folder, advance_and_forget)
        save_scheduler(plan.config, folder / "scheduler")
        write_json(folder / "refiner.json", plan.refiner(shared))
        _write_unused(plan, settings, state, folder, shared)
        paths = sorted(path for path in folder.rglob("*") if path.is_file())
        card = {
            "converted_from": files.name,
            "revision": files.revision,
            "converted_with": f"diffjscc {__version__}",
            "source_sha256": _checksums([files.config, files.checkpoint], None, advance),
            "sha256": _checksums(paths, folder, advance),
        }
    write_json(folder / "card.json", card)


def _checksums(paths: Iterable[Path], folder: Path | None, advance: Advance) -> dict[str, str]:
    """Compute the SHA-256 of files, by their names or by their paths within `folder`."""
    sums = {}
    for path in paths:
        name = path.name if folder is None else path.relative_to(folder).as_posix()
        sums[name] = sha256_of(path)
        advance(path.stat().st_size)
    return sums


def _write(network: Component, state: Mapping[str, Tensor], folder: Path, advance: Advance) -> None:
    """Write one component folder."""
    target = folder / network.folder
    target.mkdir()
    network.save_config(target)
    write_shards(
        _moved(network.table, state),
        target,
        network.stem,
        advance=advance,
        shard_bytes=_SHARD_BYTES,
    )


def _write_unused(
    plan: Plan, settings: dict[str, Any], state: Mapping[str, Tensor], folder: Path, shared: bool
) -> None:
    """Write settings and tensors that only the conversion back needs."""
    target = folder / "released"
    target.mkdir()
    kept = {key: state[key] for key in [*plan.unused, *sorted(plan.optional & state.keys())]}
    name = write_tensors(kept, target, "unused", torch.float32)
    record = {"config": settings, "unused": name, "condition_encoder_shared": shared}
    write_json(target / "config.json", record)


def _moved(table: Iterable[Move], state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return our tensors by name, from the released ones."""
    return {
        key: value for move in table for key, value in move.to_ours(state[move.released]).items()
    }


def _same_encoder(table: Iterable[Move], state: Mapping[str, Tensor]) -> bool:
    """Return whether the condition encoder is the VAE's encoder, to the last bit."""
    return all(torch.equal(state[move.released], state[_in_vae(move.released)]) for move in table)


def _in_vae(key: str) -> str:
    """Return the VAE's counterpart of a released key of the condition encoder."""
    return VAE + key.removeprefix(CONDITION_ENCODER)


def _convert_back(source: str | Path, folder: Path) -> None:
    weights = find_folder(source)
    record_path = weights / "released" / "config.json"
    if not record_path.exists():
        raise WeightsError(
            f"{source} has no released/config.json: only weights that were converted from a "
            "released checkpoint can be converted back"
        )
    record = read_json(record_path)
    plan = Plan(check_config(record.get("config", {}), record_path))
    state = schedule_buffers(plan.config)
    state |= read_tensors(weights / "released" / Path(str(record.get("unused"))).name)
    codec = dict(read_codec(weights).state_dict())
    compare(dict(plan.codec.state_dict()), codec, str(weights / "codec"))
    state |= {move.released: move.to_released(codec) for move in plan.tables["codec"]}
    with _progress(sum(value.nbytes for value in plan.released().values())) as advance:
        for network in plan.networks:
            if network.folder == "condition_encoder" and record.get("condition_encoder_shared"):
                table = plan.tables["condition_encoder"]
                state |= {move.released: state[_in_vae(move.released)] for move in table}
                continue
            tensors = network.named(read_shards(weights / network.folder, network.stem))
            compare(network.tensors, tensors, str(weights / network.folder))
            state |= {move.released: move.to_released(tensors) for move in network.table}
            advance(sum(value.nbytes for value in tensors.values()))
        plan.check(state, str(weights))
        _check_space(folder, sum(value.nbytes for value in state.values()))
        torch.save({"state_dict": state}, folder / CHECKPOINT_NAME)
    text = yaml.safe_dump(record["config"], sort_keys=False)
    (folder / CONFIG_NAME).write_text(text, encoding="utf-8")


def _check_space(folder: Path, size: int) -> None:
    free = shutil.disk_usage(folder).free
    if free < size:
        raise OSError(
            f"the conversion needs {size / 1e9:.1f} GB beside {folder.parent} and {free / 1e9:.1f} "
            "GB are free; free some space or write elsewhere"
        )


@contextlib.contextmanager
def _progress(size: int) -> Iterator[Advance]:
    """Show a progress bar over bytes."""
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("converting", total=size)
        yield lambda count: progress.advance(task, count)

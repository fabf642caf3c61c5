"""Tensors and JSON on disk, checked by hashes when they are read.

    FOLDER/<stem>-<hash>.safetensors             one file of tensors, or
    FOLDER/<stem>.safetensors.index.json         the file of each tensor, where there are several
    FOLDER/<stem>-<hash>.safetensors …           of at most 2 GB unless a tensor is larger

The hash in a file's name is the start of its SHA-256 and is checked when the file is read. Files
with an index are what diffusers and transformers call shards.

A file whose metadata says `{"quantisation": "int8 rows"}` holds large tensors in 8 bits: int8
NAME [N, ...] with float32 NAME.row_scale [N] beside it stand for NAME[i] * NAME.row_scale[i]. The
scale of a row is its largest absolute value / 127, so no number is off by more than half of it.
Quantised are floating-point tensors of 2 or more dimensions and 1024 or more numbers; others are
float16, integers are as they were. Reading gives the tensors under their own names, rows as
float32; diffusers and transformers would take the bare integers for the weights.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from diffjscc.data.files import atomic_write, remove_abandoned, sha256_of, temporary_path
from diffjscc.pretrained.quantisation import dequantised, in_words, quantised

SHARD_BYTES = 2_000_000_000
_INT8_ROWS = "int8 rows"
_HASH = re.compile(r"-([0-9a-f]{8})$")
_LISTED = 60  # keys of each kind in an error message


class WeightsError(ValueError):
    """Weights that are missing, damaged or of another architecture."""


class MismatchError(WeightsError):
    """Tensors that are not those of the architecture.

    Attributes:
        missing: names that the architecture needs and the file lacks.
        unexpected: names that the architecture lacks.
        misshapen: names of another shape or type.
    """

    def __init__(
        self, where: str, missing: Iterable[str], unexpected: Iterable[str], misshapen: list[str]
    ) -> None:
        self.missing, self.unexpected = sorted(missing), sorted(unexpected)
        self.misshapen = [line.split(" ", 1)[0] for line in misshapen]
        lines = [f"the tensors of {where} do not fit its config"]
        kinds = (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("misshapen", misshapen),
        )
        for kind, names in kinds:
            if names:
                more = [f"… and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
                listed = "\n    ".join([*names[:_LISTED], *more])
                lines.append(f"  {len(names)} {kind}:\n    {listed}")
        super().__init__("\n".join(lines))


def compare(expected: Mapping[str, Tensor], state: Mapping[str, Tensor], where: str) -> None:
    """Raise MismatchError unless `state` has the names, shapes and kinds of `expected`."""
    misshapen = []
    for key in sorted(expected.keys() & state.keys()):
        meant, found = expected[key], state[key]
        # Numbers are stored as float32, which would not hold these exactly.
        fits = found.dtype != torch.float64 and found.layout == torch.strided
        same_kind = found.is_floating_point() == meant.is_floating_point()
        if not (fits and same_kind and found.shape == meant.shape):
            misshapen.append(f"{key} is {in_words(found)}, not {in_words(meant)}")
    missing, unexpected = expected.keys() - state.keys(), state.keys() - expected.keys()
    if missing or unexpected or misshapen:
        raise MismatchError(where, missing, unexpected, misshapen)


def has_refiner(folder: Path) -> bool:
    """Return whether a folder of weights has a refiner beside its codec."""
    return (folder / "refiner.json").is_file()


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        WeightsError: missing, unreadable, or not an object.
    """
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{path} is missing; this is not a folder of weights") from error
    except (OSError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from error
    if not isinstance(value, dict):
        raise WeightsError(f"{path} holds {type(value).__name__}; an object is needed")
    return value


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object atomically."""
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")


def write_table(path: Path, value: dict[str, Any]) -> None:
    """Write a JSON object of measurements atomically, with numbers of six digits."""
    write_json(path, {name: _rounded(one) for name, one in value.items()})


def _rounded(value: object) -> object:
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {name: _rounded(one) for name, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value


def write_tensors(
    state: Mapping[str, Tensor],
    folder: Path,
    stem: str,
    dtype: torch.dtype,
    metadata: dict[str, str] | None = None,
) -> str:
    """Write `folder`/`stem`-<hash>.safetensors and return its name.

    Args:
        state: tensors by name.
        folder: an existing folder.
        stem: start of the file's name.
        dtype: type on disk of floating-point tensors; int8: see the module.
        metadata: further metadata of the file.

    Raises:
        ValueError: they cannot be stored as `dtype`.
        OSError: it cannot be written.
    """
    return _write(_encoded(state, dtype), folder, stem, dtype, metadata)


def _write(
    stored: dict[str, Tensor],
    folder: Path,
    stem: str,
    dtype: torch.dtype,
    metadata: dict[str, str] | None,
) -> str:
    """Write encoded tensors as `write_tensors` does."""
    notes = (metadata or {}) | ({"quantisation": _INT8_ROWS} if dtype == torch.int8 else {})
    remove_abandoned(folder / f"{stem}.safetensors")
    unfinished = temporary_path(folder / f"{stem}.safetensors")
    try:
        save_file(stored, unfinished, notes or None)
        unfinished.chmod(folder.stat().st_mode & 0o666)  # safetensors gives its owner alone access
        name = f"{stem}-{sha256_of(unfinished)[:8]}.safetensors"
        unfinished.replace(folder / name)
    except SafetensorError as error:
        raise OSError(f"{folder / stem} cannot be written: {error}") from error
    finally:
        unfinished.unlink(missing_ok=True)
    return name


def _encoded(state: Mapping[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Convert tensors to their types on disk."""
    if dtype not in (torch.float32, torch.float16, torch.bfloat16, torch.int8):
        raise ValueError(
            f"weights cannot be stored as {dtype}; give torch.float32, torch.float16, "
            "torch.bfloat16 or torch.int8"
        )
    encoded: dict[str, Tensor] = {}
    for name, value in state.items():
        if dtype == torch.int8:
            encoded |= quantised(name, value)
        else:
            encoded[name] = value.to(dtype) if value.is_floating_point() else value
    return {name: value.cpu().contiguous() for name, value in encoded.items()}


def as_float32(tensor: Tensor) -> Tensor:
    """Convert a floating-point tensor to float32; integers stay."""
    return tensor.float() if tensor.is_floating_point() else tensor


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a file that `write_tensors` wrote; floating-point tensors come as float32.

    Raises:
        WeightsError: missing, damaged, or not what its name's hash says.
    """
    return {name: as_float32(value) for name, value in open_tensors(path).items()}


def open_tensors(path: Path) -> dict[str, Tensor]:
    """Map the tensors of a safetensors file, which are read when they are used.

    Quantised tensors are read at once and become float32.

    Raises:
        WeightsError: missing, damaged, or not what the hash says, if its name has one.
    """
    try:
        expected, digest = _HASH.search(path.stem), sha256_of(path)
        if expected and not digest.startswith(expected[1]):
            raise WeightsError(
                f"{path} is damaged: its SHA-256 starts with {digest[:8]}; fetch or "
                "convert it again"
            )
        with safe_open(path, "pt") as file:
            stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            quantisation = (file.metadata() or {}).get("quantisation")
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {error.strerror}") from error
    except SafetensorError as error:
        raise WeightsError(f"{path} is not a safetensors file: {error}") from error
    if quantisation not in (None, _INT8_ROWS):
        raise WeightsError(
            f"{path} is quantised as {quantisation!r}, and only {_INT8_ROWS!r} is known; a newer "
            "diffjscc may read it"
        )
    try:
        return stored if quantisation is None else dequantised(stored)
    except ValueError as error:
        raise WeightsError(f"{path}: {error}; fetch or convert it again") from error


def write_shards(
    tensors: Mapping[str, Tensor],
    folder: Path,
    stem: str,
    *,
    dtype: torch.dtype = torch.float32,
    advance: Callable[[int], None] | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write tensors and their index; only one shard's worth is in memory at a time.

    Shards that were there before and are not of these tensors are removed.

    Args:
        tensors: by their names on disk.
        folder: an existing folder.
        stem: see the module.
        dtype: type on disk of floating-point tensors; int8: see the module.
        advance: called with the bytes of every shard that was written.
        shard_bytes: largest size of a file, unless a single tensor is larger, counted in the
            tensors' own types.

    Raises:
        ValueError: they cannot be stored as `dtype`.
        OSError: a file could not be written.
    """
    from huggingface_hub import split_torch_state_dict_into_shards  # noqa: PLC0415 - slow

    plan = split_torch_state_dict_into_shards(dict(tensors), max_shard_size=shard_bytes)
    files: dict[str, str] = {}
    total = 0
    for keys in plan.filename_to_tensors.values():
        shard = _encoded({key: tensors[key] for key in keys}, dtype)
        name = _write(shard, folder, stem, dtype, {"format": "pt"})
        files.update(dict.fromkeys(shard, name))
        size = sum(value.nbytes for value in shard.values())
        total += size
        del shard  # before the next one is made
        if advance is not None:
            advance(size)
    index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(files.items()))}
    write_json(folder / f"{stem}.safetensors.index.json", index)
    remove_stale(folder, files.values())


def read_shards(folder: Path, stem: str) -> dict[str, Tensor]:
    """Map the tensors of a component's folder, in shards or in one file.

    Raises:
        WeightsError: missing or damaged files.
    """
    index = folder / f"{stem}.safetensors.index.json"
    names = {f"{stem}.safetensors"}
    if index.exists():
        files = read_json(index).get("weight_map")
        if not isinstance(files, dict) or not files:
            raise WeightsError(f"{index} names no files; fetch it again")
        names = set(map(str, files.values()))
    tensors: dict[str, Tensor] = {}
    for name in sorted(names):
        tensors |= open_tensors(folder / Path(name).name)
    return tensors


def has_hashes(folder: Path) -> bool:
    """Return whether this package wrote a component's folder: its file names have hashes."""
    return any(_HASH.search(path.stem) for path in folder.glob("*.safetensors"))


def remove_stale(folder: Path, current: Iterable[str]) -> None:
    """Remove the safetensors files of a folder that are not among the current ones."""
    kept = set(current)
    for path in folder.glob("*.safetensors"):
        if path.name not in kept and not path.name.startswith("."):  # somebody is writing those
            path.unlink()


def weights_hash(folder: Path, components: Collection[str] | None = None) -> str:
    """Combine the hashes in the file names of a folder of weights into one hash.

    Args:
        folder: the folder of weights.
        components: component folders to include; all if None.
    """
    paths = (path.relative_to(folder) for path in folder.rglob("*.safetensors"))
    names = sorted(
        path.name
        for path in paths
        if (components is None or path.parts[0] in components) and not path.name.startswith(".")
    )
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]

"""Sources of weights and checkpoints: the package, a folder, or the hub."""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from diffjscc.paths import expanded
from diffjscc.pretrained.hub_ids import MIRRORS, RELEASED_IDS, is_hub_id
from diffjscc.pretrained.storage import WeightsError

_SHOWN = 60  # characters of a revision in an error
BUNDLED = resources.files("diffjscc.pretrained") / "weights"

# The two files of a checkpoint that the paper's authors released.
CONFIG_NAME, CHECKPOINT_NAME = "config.yaml", "model.ckpt"


def split_revision(source: str) -> tuple[str, str | None]:
    """Split a hub id into its name and its revision (branch, tag or commit), or None without one.

    Raises:
        WeightsError: nothing follows the @.
    """
    name, at, revision = source.partition("@")
    if at and not revision:
        raise WeightsError(f"{source!r} names no revision after the @; add one or remove the @")
    if at:
        check_revision(revision)
    return name, revision or None


def check_revision(revision: str) -> None:
    """Raise WeightsError for a text that no branch, tag or commit can have as its name."""
    if not re.fullmatch(r"\w[\w./+-]{0,199}", revision) or ".." in revision:
        shown = revision if len(revision) <= _SHOWN else f"{revision[:_SHOWN]}…"
        raise WeightsError(
            f"revision {shown!r} is no name of a branch, tag or commit; correct it, or leave it out"
        )


def with_revision(source: object, revision: str) -> str:
    """Write a revision (branch, tag or commit) after the @ of a hub id.

    Raises:
        WeightsError: the source is no hub id, or names a revision itself.
    """
    name = str(source)
    if not is_hub_id(name) or Path(name).is_dir():
        raise WeightsError(f"revision {revision!r} is for hub ids, and {name!r} is none; remove it")
    if "@" in name:
        raise WeightsError(f"{name} names a revision itself; remove revision {revision!r} or it")
    check_revision(revision)
    return f"{name}@{revision}"


def commit_of(folder: Path) -> str | None:
    """Return the commit of a folder in the hub's cache; None for any other folder."""
    return folder.name if folder.parent.name == "snapshots" else None


def bundled_weights() -> list[str]:
    """Return the names of the weights that come with the package."""
    return sorted(entry.name for entry in BUNDLED.iterdir() if entry.is_dir())


def find_folder(source: str | Path) -> Path:
    """Find the folder of bundled weights by name, a local folder, or a hub id (downloaded once).

    A hub id may name a revision: "owner/name@revision". Of a released checkpoint on the hub,
    everything but the tensors is downloaded.

    Raises:
        WeightsError: there is no such folder, and no such hub id or no network.
    """
    name = expanded(source)
    if name in bundled_weights():
        return Path(str(BUNDLED / name))
    if Path(name).is_dir():
        return Path(name)
    if not is_hub_id(name):
        raise WeightsError(
            f"weights {name!r} are neither bundled ({', '.join(bundled_weights())}) nor a folder"
        )
    name, revision = split_revision(name)
    from diffjscc.pretrained.fetching import fetch_weights  # noqa: PLC0415 - slow

    return fetch_weights(name, revision)


def gone(name: str) -> str:
    """Describe a hub id that does not exist, with its known mirrors."""
    if name in MIRRORS:
        return f"{name} is gone from the hub; a mirror is {' or '.join(MIRRORS[name])}"
    if name in RELEASED_IDS:
        prior = " or ".join(mirror for mirrors in MIRRORS.values() for mirror in mirrors)
        return (
            f"{name} is gone from the hub; give the folder or the hub id of a copy of its "
            f"{CONFIG_NAME} and {CHECKPOINT_NAME}, or train on a Stable Diffusion mirror: {prior}"
        )
    return (
        f"{name} is no folder, and the hub has none of that name, or hides it (log in by `hf auth "
        f"login`); bundled weights are {', '.join(bundled_weights())}, released checkpoints are "
        f"{', '.join(RELEASED_IDS)}"
    )

"""Sources of weights and checkpoints: the package, a folder, or the hub."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import resources
from pathlib import Path

from huggingface_hub import hf_hub_download, snapshot_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from diffjscc.data.hub import hub_or_cache
from diffjscc.paths import expanded
from diffjscc.pretrained.hub_ids import MIRRORS, RELEASED_IDS, is_hub_id
from diffjscc.pretrained.storage import WeightsError

BUNDLED = resources.files("diffjscc.pretrained") / "weights"

# The two files of a checkpoint that the paper's authors released.
CONFIG_NAME, CHECKPOINT_NAME = "config.yaml", "model.ckpt"
# Files fetched of a hub id before its kind is known.
_FETCHED = ["*.json", "*.safetensors", "tokenizer/*.txt", CONFIG_NAME]


class NoSuchFileError(WeightsError):
    """A hub id has no file of that name."""


def split_revision(source: str) -> tuple[str, str | None]:
    """Split a hub id into its name and its revision (branch, tag or commit), or None without one.

    Raises:
        WeightsError: nothing follows the @.
    """
    name, at, revision = source.partition("@")
    if at and not revision:
        raise WeightsError(f"{source!r} names no revision after the @; add one or remove the @")
    return name, revision or None


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
    with _explained(name, "the weights", revision):
        return Path(snapshot_download(name, revision=revision, allow_patterns=_FETCHED))


def download(name: str, file: str, revision: str | None = None) -> Path:
    """Fetch one file of a hub id, from the cache if it is there.

    Args:
        name: the hub id.
        file: the file's name there.
        revision: branch, tag or commit; the newest if None.

    Raises:
        WeightsError: it cannot be fetched; says whether the id, the file or the network is
            missing.
    """
    with _explained(name, file, revision):
        return Path(hf_hub_download(name, file, revision=revision))


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
        f"{name} is no folder, and the hub has none of that name; bundled weights are "
        f"{', '.join(bundled_weights())}, released checkpoints are {', '.join(RELEASED_IDS)}"
    )


@contextmanager
def _explained(name: str, file: str, revision: str | None) -> Iterator[None]:
    """Turn the hub's errors into a WeightsError that says what is missing."""
    try:
        with hub_or_cache():
            yield
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise WeightsError(
            f"{name} is not in the local cache and the hub cannot be reached; connect to the "
            "network, set HF_ENDPOINT to a mirror or https_proxy to a proxy, or give a folder that "
            "holds the files"
        ) from error
    except GatedRepoError as error:
        raise WeightsError(
            f"{name} asks for its terms to be accepted; do so on the hub and log in with `hf auth "
            "login`"
        ) from error
    except RevisionNotFoundError as error:
        raise WeightsError(
            f"{name} has no revision {revision!r}; give one of its branches, tags or commits "
            "after the @, or remove the @ for the newest"
        ) from error
    except RepositoryNotFoundError as error:
        raise WeightsError(gone(name)) from error
    except EntryNotFoundError as error:
        raise NoSuchFileError(
            f"{name} has no {file}; a released checkpoint has {CONFIG_NAME} and "
            f"{CHECKPOINT_NAME}, such as {RELEASED_IDS[0]}"
        ) from error
    except HFValidationError as error:
        raise WeightsError(f"{name!r} is no hub id: {error}") from error
    except (HfHubHTTPError, HTTPError, OSError) as error:
        raise WeightsError(
            f"{file} of {name} could not be fetched ({type(error).__name__}: {error}); run the "
            "command again to continue where it stopped"
        ) from error

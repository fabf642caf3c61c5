"""Files of hub ids."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
from diffjscc.pretrained.hub_ids import RELEASED_IDS
from diffjscc.pretrained.sources import CHECKPOINT_NAME, CONFIG_NAME, gone
from diffjscc.pretrained.storage import WeightsError

# Files fetched of a hub id before its kind is known.
_FETCHED = ["*.json", "*.safetensors", "tokenizer/*.txt", CONFIG_NAME]


class NoSuchFileError(WeightsError):
    """A hub id has no file of that name."""


def fetch_weights(name: str, revision: str | None = None) -> Path:
    """Fetch a hub id's files, but for the tensors of a released checkpoint; return their folder.

    Args:
        name: the hub id.
        revision: branch, tag or commit; the newest if None.

    Raises:
        WeightsError: as `fetch_file`.
    """
    with _explained(name, "the weights", revision):
        return Path(snapshot_download(name, revision=revision, allow_patterns=_FETCHED))


def fetch_file(name: str, file: str, revision: str | None = None) -> Path:
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


@contextmanager
def _explained(name: str, file: str, revision: str | None) -> Iterator[None]:
    """Turn the hub's errors into a WeightsError that says what is missing."""
    try:
        with hub_or_cache():
            yield
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        if _status(error) in (401, 403):
            raise WeightsError(f"{name} was not read: {refusal(error)}") from error
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
        raise WeightsError(
            f"{name!r} is no hub id; it is owner/name, of letters, digits, - _ and ."
        ) from error
    except (HfHubHTTPError, HTTPError, OSError) as error:
        if _status(error) in (401, 403):
            raise WeightsError(f"{name} was not read: {refusal(error)}") from error
        raise WeightsError(
            f"{file} of {name} could not be fetched ({type(error).__name__}: {error}); run the "
            "command again to continue where it stopped"
        ) from error


def refusal(error: Exception) -> str:
    """Say why the hub refuses a request, and the way out."""
    status = _status(error)
    if status == 401:
        return "the hub does not accept the token; log in again by `hf auth login`"
    if status == 403:
        return (
            "the token has no right to; give one that has (`hf auth login`), or ask the owner for "
            "access"
        )
    if status == 404:
        return "the hub knows no such thing; check the name"
    first = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return f"the hub answered {status} ({first}); try again later"


def _status(error: BaseException | None) -> int | None:
    """Status of the hub's answer that an error, or the one behind it, is about."""
    while error is not None:
        if isinstance(
            status := getattr(getattr(error, "response", None), "status_code", None), int
        ):
            return status
        error = error.__cause__
    return None

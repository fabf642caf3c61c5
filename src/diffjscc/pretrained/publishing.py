"""Upload of a folder of weights to the hub, in one commit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import (
    CommitOperationAdd,
    CommitOperationDelete,
    HfApi,
    constants,
    get_token,
)
from huggingface_hub.errors import (
    HfHubHTTPError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from diffjscc.data.download import is_offline
from diffjscc.data.folders import visible_files
from diffjscc.pretrained.fetching import refusal
from diffjscc.pretrained.sources import check_revision
from diffjscc.pretrained.storage import WeightsError


@dataclass(frozen=True)
class Upload:
    """Destination and manner of an upload.

    Attributes:
        repo_id: hub id, "owner/name"; made if it does not exist.
        message: of the commit.
        private: whether a new repository is private; None leaves it to its owner's settings.
        token: of the hub; None takes that of `hf auth login` or HF_TOKEN.
        revision: branch to commit to; it must exist, unless it is the main one.
        create_pr: whether to propose the commit in place of making it.
    """

    repo_id: str
    message: str
    private: bool | None = None
    token: str | None = None
    revision: str | None = None
    create_pr: bool = False

    def check(self) -> None:
        """Raise WeightsError where no upload can succeed."""
        if self.repo_id.count("/") != 1 or "@" in self.repo_id:
            raise WeightsError(
                f"{self.repo_id!r} is no hub id to write to; give owner/name, and a branch as "
                "revision"
            )
        if self.revision is not None:
            check_revision(self.revision)
        if self.token is not None and not re.fullmatch("[!-~]+", self.token):
            raise WeightsError("the token is empty, or has characters that no token has; copy it")
        if is_offline() or constants.HF_HUB_OFFLINE:
            raise WeightsError("HF_HUB_OFFLINE is set; unset it to write to the hub")
        if self.token is None and get_token() is None:
            raise WeightsError(
                "there is no token to write to the hub with; log in by `hf auth login`, set "
                "HF_TOKEN, or give token="
            )

    def send(self, folder: Path, beside: Mapping[str, bytes]) -> str:
        """Upload all files of a folder; weights that are there and not among them are removed.

        Args:
            folder: of the weights; hidden files in it are passed over.
            beside: further files, or other contents of files, by their names.

        Returns:
            Address of the commit, or of the proposal.

        Raises:
            WeightsError: the token, the name, the branch or the network is not what it has to be.
        """
        self.check()
        api = HfApi(endpoint=constants.ENDPOINT, token=self.token, library_name="diffjscc")
        with self._explained():
            api.create_repo(self.repo_id, private=self.private, exist_ok=True)
            files: dict[str, Path | bytes] = {name: folder / name for name in visible_files(folder)}
            files |= beside
            start = None if self.create_pr else self.revision
            there = api.list_repo_files(self.repo_id, revision=start)
            stale = [name for name in there if name.endswith(".safetensors") and name not in files]
            operations: list[Any] = [CommitOperationDelete(path_in_repo=name) for name in stale]
            operations += [CommitOperationAdd(name, files[name]) for name in sorted(files)]
            commit = api.create_commit(
                self.repo_id,
                operations,
                commit_message=self.message,
                revision=self.revision,
                create_pr=self.create_pr,
            )
        return str(commit.pr_url or commit.commit_url)

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the hub's errors into a WeightsError that says what is wrong."""
        name = self.repo_id
        try:
            yield
        except HFValidationError as error:
            raise WeightsError(
                f"{name!r} is no hub id; it is owner/name, of letters, digits, - _ and ."
            ) from error
        except RevisionNotFoundError as error:
            raise WeightsError(
                f"{name} has no branch {self.revision!r}; make it on the hub, or leave revision out"
            ) from error
        except RepositoryNotFoundError as error:
            raise WeightsError(
                f"the hub has no {name}, or hides it from this token; check the name, or give the "
                "token of somebody who may write there"
            ) from error
        except HfHubHTTPError as error:
            raise WeightsError(f"{name} was not written: {refusal(error)}") from error
        except OfflineModeIsEnabled as error:
            raise WeightsError("HF_HUB_OFFLINE is set; unset it to write to the hub") from error
        except (HTTPError, OSError) as error:
            raise WeightsError(
                f"the hub cannot be reached ({type(error).__name__}: {error}); nothing was "
                "written: connect to the network, set HF_ENDPOINT to a mirror or https_proxy to a "
                "proxy, and try again"
            ) from error

"""Versions of the code that computed a record."""

from __future__ import annotations

import platform
import shutil
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("diffjscc", "torch", "diffusers", "numpy", "pillow", "av")


@cache
def source_commit() -> str | None:
    """Commit of the source tree that this package runs from; None where it is installed."""
    git = shutil.which("git")
    if git is None:
        return None
    here = Path(__file__)

    def ask(*words: str) -> str | None:
        command = [git, "-C", str(here.parent), *words]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        return result.stdout.strip() if result.returncode == 0 else None

    # A virtual environment may lie within some other repository, which does not track it.
    if ask("ls-files", "--error-unmatch", here.name) is None:
        return None
    commit = ask("rev-parse", "HEAD")
    changed = ask("status", "--porcelain", "--untracked-files=no")
    return f"{commit}, changed" if commit and changed else commit


@cache
def library_versions() -> str:
    """List versions of the libraries that compute, as "python 3.11.7, diffjscc 0.1.0, …"."""
    found = [f"python {platform.python_version()}"]
    for name in LIBRARIES:
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:  # run from a source tree that is not installed
            continue
    return ", ".join(found)

"""The workflow of a release: what it checks before anything is published."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from diffjscc import __version__
from locations import ROOT

WORKFLOW = ROOT / ".github" / "workflows" / "release.yml"


@pytest.fixture(scope="module")
def jobs() -> dict[str, Any]:
    return yaml.safe_load(WORKFLOW.read_text(encoding="utf-8"))["jobs"]


def test_what_is_published_was_tried_and_no_token_is_stored(jobs: dict[str, Any]) -> None:
    build, publish = jobs["build"], jobs["publish"]
    assert any(".ci/packages" in step.get("run", "") for step in build["steps"])
    assert publish["needs"] == "build"
    assert publish["permissions"] == {"id-token": "write"}
    assert "ref_type == 'tag'" in publish["if"]
    assert "secrets" not in WORKFLOW.read_text(encoding="utf-8")
    (dist,) = {
        step["with"]["path"]
        for job in jobs.values()
        for step in job["steps"]
        if "artifact" in step.get("uses", "")
    }
    assert dist == "dist/"


@pytest.mark.parametrize(
    ("tag", "entry", "said"),
    [
        (f"v{__version__}", f"## [{__version__}]", ""),
        (f"v{__version__}", f"## {__version__} - 2026", ""),
        ("v9.9.9", "## [9.9.9]", f"the tag is v9.9.9 and the version {__version__}"),
        (f"v{__version__}", "## [Unreleased]", f"CHANGELOG.md has no entry {__version__}"),
    ],
)
def test_the_tag_names_the_version(
    tag: str, entry: str, said: str, jobs: dict[str, Any], tmp_path: Path
) -> None:
    (check,) = [step["run"] for step in jobs["build"]["steps"] if "GITHUB_REF_NAME" in str(step)]
    (tmp_path / "src" / "diffjscc").mkdir(parents=True)
    shutil.copy(ROOT / "src" / "diffjscc" / "version.py", tmp_path / "src" / "diffjscc")
    (tmp_path / "CHANGELOG.md").write_text(f"# Changelog\n\n{entry}\n")
    ran = subprocess.run(
        ["bash", "-e", "-c", check],
        cwd=tmp_path,
        env=os.environ | {"GITHUB_REF_NAME": tag},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == (1 if said else 0), ran.stderr
    assert ran.stdout.strip() == said

"""examples/: each runs from an empty folder, uses public names alone, and does what it says."""

import ast
import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbclient import NotebookClient
from PIL import Image

import diffjscc
from diffjscc import DiffJSCC
from locations import ROOT

EXAMPLES = ROOT / "examples"
SCRIPTS = [path for path in sorted(EXAMPLES.glob("*.py")) if path.stem != "gnuradio_loop"]
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))


def run(name: str, folder: Path, *words: object) -> str:
    ran = subprocess.run(
        [sys.executable, EXAMPLES / f"{name}.py", *map(str, words)],
        cwd=folder,
        env=os.environ | {"PYTHONWARNINGS": "error::DeprecationWarning"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert not ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small photograph."""
    path = tmp_path_factory.mktemp("photos") / "photo.jpg"
    with Image.open(ROOT / "tests" / "photographs" / "chelsea.webp") as image:
        image.convert("RGB").resize((192, 128)).save(path)
    return path


def source(path: Path) -> str:
    """Python of a script or a notebook."""
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    cells = nbformat.read(path, 4).cells
    code = "\n".join(cell.source for cell in cells if cell.cell_type == "code")
    return re.sub(r"^(\s*)%", r"\1# %", code, flags=re.MULTILINE).replace("# %pip", "pass  # %pip")


@pytest.mark.parametrize("path", [*SCRIPTS, *NOTEBOOKS], ids=lambda path: path.name)
def test_only_public_names_are_used(path: Path) -> None:
    text = source(path)
    assert len(text.splitlines()) <= 60
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("diffjscc"):
            assert node.module == "diffjscc"
            assert {alias.name for alias in node.names} <= set(diffjscc.__all__)
        elif isinstance(node, ast.Import):
            assert not any(alias.name.startswith("diffjscc") for alias in node.names)


def test_transmit(photo: Path, tmp_path: Path) -> None:
    said = run("transmit", tmp_path, photo)
    assert "192x128 pixels, 192 complex symbols" in said
    final, initial = (
        np.asarray(Image.open(tmp_path / f"{name}.png"))
        for name in ("received", "received-initial")
    )
    assert final.shape == initial.shape == (128, 192, 3)
    assert not np.array_equal(final, initial)


def test_compare_codecs(photo: Path, tmp_path: Path) -> None:
    said = run("compare_codecs", tmp_path, photo)
    rows = re.findall(r"^(.{12}) +(\S+) dB  PSNR +(\S+) dB", said, re.MULTILINE)
    psnrs = {(name.strip(), float(snr)): float(psnr) for name, snr, psnr in rows}
    assert len(psnrs) == 6
    for snr in (1, 7, 13):
        assert psnrs["compact", snr] > psnrs["block means", snr] > 8


def test_batch(photo: Path, tmp_path: Path) -> None:
    run("batch", tmp_path, photo.parent, "out")
    (row,) = csv.DictReader((tmp_path / "out" / "table.csv").open())
    assert (row["image"], row["symbols"]) == ("photo.jpg", str(192 * 128 // 16))
    assert 15 < float(row["PSNR / dB"]) < 40
    assert Image.open(tmp_path / "out" / "photo.png").size == (192, 128)


def test_uncertainty(photo: Path, tmp_path: Path) -> None:
    said = run("uncertainty", tmp_path, photo)
    mean, most = map(float, re.findall(r"by (\S+)", said))
    assert 1 < mean < most < 255
    assert Image.open(tmp_path / "uncertainty.png").width >= 192


def test_fine_tune(tmp_path: Path) -> None:
    said = run("fine_tune", tmp_path, "--iterations", 6)
    psnrs = re.findall(r"^(\S+): R = (\S+), (\S+) dB", said, re.MULTILINE)
    assert [row[:2] for row in psnrs] == [("1-6", "1/2"), ("1-12", "1/4")]
    assert all(float(row[2]) > 8 for row in psnrs)
    tuned = DiffJSCC.from_pretrained(tmp_path / "weights-1-12")
    assert tuned.rate == 1 / 4


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_run_and_are_kept_without_outputs(path: Path, tmp_path: Path) -> None:
    book = nbformat.read(path, 4)
    assert path.stat().st_size < 10_000
    assert not any(cell.get("outputs") or cell.get("execution_count") for cell in book.cells)
    client = NotebookClient(book, timeout=300, resources={"metadata": {"path": str(tmp_path)}})
    client.execute()
    outputs = [out for cell in book.cells for out in cell.get("outputs", [])]
    said = [out.text for out in outputs if out.get("name") == "stderr"]
    # Of WebP at a low SNR, and where ipywidgets are missing.
    assert not [text for text in said if "no record" not in text and "IProgress" not in text]
    kinds = {kind for out in outputs for kind in out.get("data", {})}
    assert "image/png" in kinds
    if path.stem == "compare":
        assert any("with receiver" in out.get("data", {}).get("text/html", "") for out in outputs)

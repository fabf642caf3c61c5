"""`diffjscc list`, shells' completion, and a standard output that nobody reads."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from diffjscc.cli import app
from diffjscc.cli.listing import entries
from diffjscc.pretrained.pretrained import load_codec
from diffjscc.schemes.channel import ChannelConfig
from diffjscc.schemes.config import SchemeConfig
from diffjscc.schemes.kinds import KINDS
from diffjscc.training.config import load_config

LISTS = ("weights", "rates", "schemes", "channels", "configs")


def listed(*words: str) -> Result:
    return CliRunner().invoke(app, ["list", *words], env={"COLUMNS": "80"})


@pytest.mark.parametrize("kind", LISTS)
def test_every_list_fits_80_columns_and_is_the_same_in_json(kind: str) -> None:
    result = listed(kind)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.output.splitlines())) <= 80
    assert "…" not in result.output
    rows = json.loads(listed(kind, "--json").output)
    assert len(rows) > 3
    assert len({row["name"] for row in rows}) == len(rows)
    for row in rows:
        assert row["name"] in result.output
        assert row["description"]


def test_rates_are_those_of_the_codec() -> None:
    offered = [str(rate) for rate in load_codec("compact").rates]
    rows = json.loads(listed("rates", "--json").output)
    assert [row["name"] for row in rows] == offered
    assert [row["cpp"] for row in rows] == [1 / 128, 1 / 64, 1 / 32, 1 / 16]
    assert rows[0]["CBR"] == "1/384"
    assert "3,072 symbols" in rows[0]["description"]
    assert (
        listed("rates", "--weights", "compact", "--json").output
        == json.dumps(rows, indent=2) + "\n"
    )


def test_names_that_are_listed_are_taken() -> None:
    schemes = [entry.name for entry in entries("schemes")]
    assert len(schemes) == len(KINDS)
    for name in set(schemes) - {"adv", "generator"}:  # which need weights, or a factory
        assert SchemeConfig(**SchemeConfig.named(name)).name == name
    for entry in entries("channels"):
        assert ChannelConfig(**ChannelConfig.named(entry.name)).label.startswith(entry.name[:4])
    from diffjscc.training.codec_config import JSCCConfig  # noqa: PLC0415

    for entry in entries("configs"):
        if entry.facts["train"] == "jscc":
            load_config(JSCCConfig, entry.name, ["data.train=images"])


def test_errors_of_lists(tmp_path: Path) -> None:
    assert "'weight' is not one of" in listed("weight").stderr
    assert "--weights compact is for rates" in listed("schemes", "--weights", "compact").stderr
    wrong = listed("rates", "--weights", str(tmp_path))
    assert wrong.exit_code == 2
    assert "say nothing of their rates" in wrong.stderr


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program, by its name."""
    path = tmp_path_factory.mktemp("bin") / "diffjscc"
    path.write_text(f"#!{sys.executable}\nfrom diffjscc.cli import main\n\nmain()\n")
    path.chmod(0o755)
    return path


def completed(program: Path, shell: str, line: str) -> str:
    """Answer of the program to a shell that completes a line."""
    words = line.split(" ")
    asked = {
        "_DIFFJSCC_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
    }
    ran = subprocess.run(
        [program],
        env=os.environ | asked,
        capture_output=True,
        text=True,
        check=False,
    )
    assert not ran.stderr
    return ran.stdout


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("diffjscc tr", ["transmit", "train"]),
        ("diffjscc train ad", ["adversarial"]),
        ("diffjscc list ra", ["rates"]),
        ("diffjscc transmit --lat", ["--latent-guidance-scale"]),
        ("diffjscc transmit a.png --sampler dd", ["ddpm", "ddim"]),
        ("diffjscc transmit a.png --scheme webp", ["webp-ldpc", "webp-capacity"]),
        ("diffjscc evaluate a.png --channel r", ["rayleigh", "rician"]),
        ("diffjscc transmit a", []),
    ],
)
def test_bash_completes(line: str, expected: list[str], program: Path) -> None:
    assert completed(program, "bash", line).split() == expected


def test_zsh_gets_words_with_descriptions_on_a_line_each(program: Path) -> None:
    answer = completed(program, "zsh", "diffjscc transmit --ch")
    assert answer.startswith('_arguments \'*: :(("--channel":"awgn, rayleigh')
    assert len(answer.splitlines()) == 1
    commands = completed(program, "zsh", "diffjscc ").splitlines()
    assert len(commands) == len(app.registered_commands) + len(app.registered_groups)
    assert completed(program, "zsh", "diffjscc convert ") == "_files\n"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_runs_the_script_that_is_shown(program: Path) -> None:
    env = os.environ | {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    script = subprocess.run(
        [program],
        env=env | {"_DIFFJSCC_COMPLETE": "source_bash"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    asked = f"""{script}
COMP_WORDS=(diffjscc doc); COMP_CWORD=1
_diffjscc_completion diffjscc
echo "${{COMPREPLY[@]}}"
"""
    ran = subprocess.run(["bash", "-c", asked], env=env, capture_output=True, text=True, check=True)
    assert ran.stdout.split() == ["doctor"]


@pytest.mark.parametrize(
    ("words", "unbuffered"),
    [
        ("list schemes", ""),
        ("list rates --json", "1"),
        ("info", ""),
        ("--help", ""),
        ("--help", "1"),
    ],
)
def test_standard_output_that_cannot_be_written(words: str, unbuffered: str, program: Path) -> None:
    command = [program, *words.split()]
    env = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    read, write = os.pipe()
    os.close(read)
    closed = subprocess.run(command, env=env, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert (closed.returncode, closed.stderr) == (1, b"")  # as of `diffjscc … | head`
    if Path("/dev/full").exists():
        with Path("/dev/full").open("w") as full:
            none = subprocess.run(
                command, env=env, stdout=full, stderr=subprocess.PIPE, text=True, check=False
            )
        assert none.returncode == 2
        assert none.stderr.count("\n") == 1
        assert "No space left" in none.stderr

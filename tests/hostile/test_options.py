"""Options of every command that no run can satisfy: one line, exit code 2, before torch."""

import itertools
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from attempts import Attempts
from diffjscc.cli import app
from diffjscc.rate import parse_rate

NUMBERS = ["nan", "inf", "-inf", "1e999", "-1e9", "1000000000000", "", "seven", "0x10", "1/2", "½"]
RATES = ["0", "-1/2", "1/0", "0/5", "nan", "inf", "-inf", "1e999999999", "1e-999999999", "1/12", ""]
RATES += ["1/" + "9" * 5000, "9" * 5000, "1/128/2", "one", "1:16", "1 / 16 / 1", "½", "64.5", "1/3"]
OFFERED_BY_SOME = ("1/12", "1/3", "64.5")
INTEGERS = ("-1", "-99999999999999999999", "99999999999999999999", "1.5", "nan", "", "many", "1e3")
WORDS = ("", "magic", "DDIM ", "ddim;rm", "é", "x" * 3000, "None")


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A file that no command may get as far as reading."""
    path = tmp_path / "photo.png"
    path.write_bytes(b"no image")
    return path


def refused(attempts: Attempts, *words: object) -> str:
    result = attempts.command("options", *words)
    assert result.exit_code == 2, (words, result.output)
    return result.stderr


def transmitted(image: Path, *words: object) -> list[object]:
    return ["transmit", image, "-o", image.parent / "out", *words]


def test_numbers_of_transmit(attempts: Attempts, image: Path) -> None:
    options = ("--snr", "--k-factor", "--control-scale", "--control-guidance-scale")
    for option, value in itertools.product((*options, "--latent-guidance-scale"), NUMBERS):
        channel = ["--channel", "rician"] if option == "--k-factor" else []
        if (option, value) in {("--k-factor", ""), ("--snr", "")}:
            channel = []
        refused(attempts, *transmitted(image, *channel, f"{option}={value}"))
    assert not (image.parent / "out").exists()


def test_whole_numbers_of_transmit(attempts: Attempts, image: Path) -> None:
    for option, value in itertools.product(
        ("--repeats", "--seed", "--steps", "--samples"), INTEGERS
    ):
        refused(attempts, *transmitted(image, "--uncertainty", f"{option}={value}"))
    for option, value in (
        ("--repeats", "0"),
        ("--repeats", "10001"),
        ("--steps", "0"),
        ("--steps", "1001"),
        ("--samples", "1"),
        ("--samples", "1000000000"),
        ("--seed", str(1 << 63)),
        ("--quality", "-1"),
        ("--quality", "99999999999999"),
    ):
        refused(attempts, *transmitted(image, "--uncertainty", f"{option}={value}"))


def test_rates_of_transmit_and_evaluate(attempts: Attempts, image: Path) -> None:
    for value in RATES:
        words = refused(attempts, *transmitted(image, f"--rate={value}"))
        assert "rate" in words
        assert len(words) < 400
        refused(attempts, "evaluate", image, "-o", image.parent / "out", f"--rate={value}")
    words = refused(attempts, *transmitted(image, "--rate", "1/64", "--rate", "1/12"))
    assert 'rate 1/12 is not one of 1/128, 1/64, 1/32, 1/16 (weights "compact")' in words
    words = refused(attempts, *transmitted(image, "--scheme", "ddnm", "--rate", "1/16"))
    assert "ddnm: rate 1/16 is not one of 1/512, 1/256, 1/128, 1/64" in words


def test_choices_of_transmit(attempts: Attempts, image: Path) -> None:
    options = ("--sampler", "--start", "--captioner", "--colour-fix", "--dtype", "--refiner")
    for option, value in itertools.product((*options, "--channel", "--scheme", "--mcs"), WORDS):
        link = ["--scheme", "bpg-ldpc"] if option == "--mcs" else []
        refused(attempts, *transmitted(image, *link, f"{option}={value}"))


def test_numbers_of_evaluate(attempts: Attempts, image: Path) -> None:
    for value in NUMBERS:
        refused(attempts, "evaluate", image, "-o", image.parent / "out", f"--snr={value}")
    for value in (*INTEGERS, "0", "10001"):
        refused(attempts, "evaluate", image, "-o", image.parent / "out", f"--repeats={value}")
    keys = ("repeats", "seed", "crop", "megapixels", "shown", "samples", "snrs_db", "rates")
    values = (".nan", ".inf", "-5", "99999999999999999999", "1e30", "[[1]]", "{a: 1}", "yesno")
    for key, value in itertools.product(keys, values):
        if (key, value) == ("snrs_db", "-5"):
            continue
        setting = f"{key}={value}"
        words = refused(attempts, "evaluate", image, "-o", image.parent / "out", "--set", setting)
        assert key in words or "override" in words, (setting, words)
    assert not (image.parent / "out").exists()


def test_options_given_twice(attempts: Attempts, image: Path) -> None:
    """The last is not taken without a word: several are all sent, or it is an error."""
    for option, value in (
        ("--weights", "compact"),
        ("--seed", "1"),
        ("--repeats", "2"),
        ("--sampler", "ddim"),
        ("--steps", "2"),
        ("--device", "cpu"),
        ("--mcs", "bpsk 1/2"),
    ):
        words = refused(attempts, *transmitted(image, option, value, option, value))
        assert f"{option} is given 2 times" in " ".join(words.split())
    for option, value in (("--snr", "1"), ("--rate", "1/64"), ("--channel", "rayleigh")):
        words = refused(attempts, *transmitted(image, option, value, option, value))
        assert "more than once" in words


def test_every_command_refuses_unknown_options(attempts: Attempts) -> None:
    def walk(command: Any, path: tuple[str, ...]) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, (*path, name))
        if path:
            refused(attempts, *path, "--no-such-option")
            refused(attempts, *path, "--no-such-option=1", "x")

    walk(typer.main.get_command(app), ())


def test_rates_are_numbers_within_bounds(attempts: Attempts) -> None:
    wrong = [rate for rate in RATES if rate not in OFFERED_BY_SOME]
    for value in (*wrong, True, None, [], 0.0, -1.0, float("nan"), float("inf"), 1e300):
        outcome = attempts.call("options", lambda value=value: parse_rate(value))
        assert isinstance(outcome, ValueError), value
    for value in (*OFFERED_BY_SOME, 0.0625, "0.0625", 1, "1e-3"):
        outcome = attempts.call("options", lambda value=value: parse_rate(value))
        assert not isinstance(outcome, ValueError), value


@pytest.mark.parametrize(
    "words",
    [
        ["transmit", "x.png", "-o", "out", "--rate", "1/12"],
        ["transmit", "x.png", "-o", "out", "--steps", "0"],
        ["transmit", "x.png", "-o", "out", "--scheme", "bpg-ldpc", "--mcs", "bpsk 1/9"],
        ["evaluate", "x.png", "-o", "out", "--config", "missing.yaml"],
        ["evaluate", "x.png", "-o", "out", "--rate", "1/12"],
        ["train", "jscc", "--config", "missing"],
        ["train", "control", "run.batch=0"],
        ["train", "decoder", "--config", "missing"],
        ["precompute", "precompute.bins=-1"],
    ],
)
def test_torch_is_not_imported_for_a_refusal(words: list[str], tmp_path: Path) -> None:
    script = (
        "import sys; from typer.testing import CliRunner; from diffjscc.cli import app;"
        f"assert CliRunner().invoke(app, {words}).exit_code == 2;"
        "print([m for m in ('torch', 'numpy', 'PIL', 'diffusers', 'scipy') if m in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert result.stdout.strip() == "[]"

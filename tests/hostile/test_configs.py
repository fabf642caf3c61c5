"""YAML and settings from anywhere: read in words, quickly, and within bounds."""

import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from attempts import Attempts
from diffjscc.configuration import Section, check, overridden
from diffjscc.evaluation.config import SweepConfig
from diffjscc.schemes.channel import ChannelConfig
from diffjscc.schemes.config import SchemeConfig
from diffjscc.training.codec_config import AdversarialConfig, FeedbackTrainingConfig, JSCCConfig
from diffjscc.training.control_config import ControlConfig
from diffjscc.training.decoder_config import DecoderConfig
from diffjscc.training.denoiser_config import DenoiserConfig
from diffjscc.training.prior_config import PriorConfig, VAEConfig
from diffjscc.yaml_reader import parse_yaml, read_yaml

STAGES = (
    JSCCConfig,
    AdversarialConfig,
    FeedbackTrainingConfig,
    ControlConfig,
    DecoderConfig,
    DenoiserConfig,
    PriorConfig,
    VAEConfig,
)
SECTIONS: tuple[type[Section], ...] = (SweepConfig, SchemeConfig, ChannelConfig, *STAGES)
LEVELS = "abcdefghi"
LAUGHS = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join(['*' + before] * 9)}]\n"
    for before, name in itertools.pairwise(LEVELS)
)
# Each with a part of what is said.
TEXTS = {
    "lists nested 1,500 deep": ("a: " + "[" * 1500 + "]" * 1500, "levels deep"),
    "unclosed lists": ("a: " + "[" * 100_000, "levels deep"),
    "mappings nested 1,500 deep": ("".join(f"{' ' * n}a:\n" for n in range(1500)), "levels deep"),
    "flow mappings nested": ("{a: " * 1500 + "1" + "}" * 1500, "levels deep"),
    "billion laughs": (LAUGHS, "aliases written out"),
    "quadratic blow-up": ("a: &a " + "x" * 1000 + "\nb: [" + "*a, " * 30_000 + "*a]", "values"),
    "an alias within what it names": ("a: &a [*a]", "alias stands within"),
    "an alias within, mapping": ("a: &a {b: {c: *a}}", "alias stands within"),
    "merge of itself": ("a: &a {<<: *a}", "alias stands within"),
    "unknown alias": ("a: *b", "undefined alias"),
    "many values": ("a: [" + "1, " * 50_000 + "1]", "more than 20,000 values"),
    "infinity": ("seed: .inf", "not a finite number"),
    "minus infinity": ("seed: -.INF", "not a finite number"),
    "NaN": ("seed: .NaN", "not a finite number"),
    "beyond 64 bits": ("seed: 99999999999999999999", "64 bits"),
    "hexadecimal beyond 64 bits": ("seed: 0xfffffffffffffffffff", "64 bits"),
    "5,000 digits": ("seed: " + "9" * 5000, "no number that can be read"),
    "float of 5,000 digits": ("seed: " + "9" * 5000 + ".5", "no number that can be read"),
    "base 60": ("seed: 1:30:00", "base 8 or 60"),
    "long base 60": ("seed: " + ":".join(["59"] * 20_000), "base 8 or 60"),
    "octal": ("seed: 0777", "base 8 or 60"),
    "half a binary number": ("seed: 0b_", "no number that can be read"),
    "a key twice": ("seed: 1\nseed: 2", "'seed' is there twice"),
    "a key twice within": ("refiner: {steps: 1, steps: 2}", "'steps' is there twice"),
    "a key twice in a list": ("a: [{b: 1, b: 1}]", "'b' is there twice"),
    "two merges": ("a: &a {x: 1}\nb: {<<: *a, <<: *a}", "twice"),
    "a number as key": ("1: 2", "is no word"),
    "no as key": ("no: 2", "the key no is no word"),
    "a list as key": ("? [a]\n: b", "is no word"),
    "null as key": ("~: b", "is no word"),
    "Python object": ("a: !!python/object/apply:os.system [id]", "tag"),
    "Python name": ("a: !!python/name:os.system", "tag"),
    "Python tuple": ("a: !!python/tuple [1]", "tag"),
    "own tag": ("a: !mine 1", "tag !mine is not known"),
    "own tag of a mapping": ("a: !mine {b: 1}", "tag !mine is not known"),
    "binary": ("a: !!binary aGVsbG8=", "tag"),
    "set": ("a: !!set {b, c}", "tag"),
    "ordered mapping": ("a: !!omap [b: c]", "tag"),
    "pairs": ("a: !!pairs [b: c]", "tag"),
    "date": ("a: 2024-01-01", "reads as a date"),
    "time": ("a: 2024-01-01 00:00:00", "reads as a date"),
    "wrong integer": ("a: !!int seven", "no number"),
    "wrong float": ("a: !!float seven", "no number"),
    "equals sign": ("a: =", "tag"),
    "NUL": ("a: \0", "not allowed"),
    "escape": ("a: \x1b[31m", "not allowed"),
    "tab": ("a:\n\tb: 1", "cannot start"),
    "two documents": ("a: 1\n---\nb: 2", "another document"),
    "future YAML": ("%YAML 9.9\n---\na: 1", "incompatible"),
    "unclosed quote": ('a: "b', "end of stream"),
    "unclosed bracket": ("a: [1", "expected"),
    "colons": ("a: b: c", "not allowed"),
    "bad escape": ('a: "\\q"', "escape"),
    "bad indentation": ("a: 1\n  b: 2", "not allowed"),
    "closing bracket": ("a: ]", "expected"),
    "at sign": ("a: @b", "cannot start"),
    "backtick": ("a: `b`", "cannot start"),
    "percent": ("a: %b", "cannot start"),
}
NO_MAPPINGS = {
    "empty": b"",
    "comment": b"# nothing\n",
    "null": b"null",
    "list": b"- a\n- b\n",
    "word": b"hello",
    "number": b"7",
    "UTF-16": "a: 1".encode("utf-16"),
    "Latin 1": "a: é".encode("latin-1"),
    "PNG": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "zip": b"PK\x03\x04" + bytes(200),
    "2 MiB": b"a: " + b"x" * (2 << 20),
    "2 MiB of brackets": b"[" * (2 << 20),
    "HTML": b"<html>\n<head><title>404</title></head>\n</html>",
    "JSON with a slip": b'{"a": 1,, }',
}


@pytest.mark.parametrize("case", TEXTS)
def test_texts(case: str, attempts: Attempts, tmp_path: Path) -> None:
    text, said = TEXTS[case]
    start = time.process_time()
    refused = attempts.call("configs", lambda: parse_yaml(text))
    assert isinstance(refused, ValueError)
    assert said in str(refused), refused
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")
    in_file = attempts.call("configs", lambda: read_yaml(path))
    assert isinstance(in_file, ValueError)
    assert "\n" not in str(in_file)
    assert str(path) in str(in_file)
    assert len(str(in_file)) < 400 + len(str(path))
    assert time.process_time() - start < 3
    override = attempts.call("configs", lambda: overridden({}, [f"a={text}"]))
    assert isinstance(override, (ValueError, dict))


@pytest.mark.parametrize("case", NO_MAPPINGS)
def test_files_without_settings(case: str, attempts: Attempts, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(NO_MAPPINGS[case])
    refused = attempts.call("configs", lambda: read_yaml(path))
    assert isinstance(refused, ValueError)
    assert str(path) in str(refused)
    result = attempts.command("configs", "evaluate", "-o", tmp_path / "o", "--config", path)
    assert result.exit_code == 2
    result = attempts.command("configs", "train", "jscc", "--config", path)
    assert result.exit_code == 2


def test_places_that_are_no_files(attempts: Attempts, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    for path in (tmp_path, tmp_path / "no.yaml", tmp_path / "link", Path("/dev/null")):
        refused = attempts.call("configs", lambda path=path: read_yaml(path))
        assert isinstance(refused, (ValueError, OSError)), path
        result = attempts.command("configs", "evaluate", "-o", tmp_path / "o", "--config", path)
        assert result.exit_code == 2


def test_what_editors_write_is_read(attempts: Attempts, tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    for content, values in (
        (b"\xef\xbb\xbfseed: 1\r\n", {"seed": 1}),
        (b"a: &a {x: 1}\nb: {<<: *a, x: 2}", {"a": {"x": 1}, "b": {"x": 2}}),
        (b"a: &a [1, 2]\nb: *a", {"a": [1, 2], "b": [1, 2]}),
        (b"rates: [1/16, 0.0625]", {"rates": ["1/16", 0.0625]}),
        (b'{"seed": 1, "images": ["a.png"]}', {"seed": 1, "images": ["a.png"]}),
    ):
        path.write_bytes(content)
        assert attempts.call("configs", lambda: read_yaml(path)) == values


def sweep(**settings: Any) -> dict[str, Any]:
    return {"images": ["a.png"], "schemes": ["deepjscc"], **settings}


def test_yaml_takes_what_the_command_line_takes(attempts: Attempts) -> None:
    """Single values and lists, words and numbers, names and sections."""
    plain = check(SweepConfig, sweep(rates=["1/16"], snrs_db=[7.0], channels=["rayleigh"]), "x")
    for settings in (
        {"rates": [0.0625], "snrs_db": [7], "channels": [{"name": "rayleigh"}]},
        {"rates": 0.0625, "snrs_db": 7, "channels": "rayleigh"},
        {"rates": "1/16", "snrs_db": "7", "channels": ["rayleigh"], "repeats": "1"},
        {"rates": "0.0625", "snrs_db": ["7.0"], "channels": "rayleigh", "images": "a.png"},
        {"rates": ["2/32"], "snrs_db": 7.0, "channels": "rayleigh", "schemes": "deepjscc"},
        {"rates": "1/16", "snrs_db": 7, "channels": "rayleigh", "schemes": {"kind": "deepjscc"}},
    ):
        values = sweep() | settings
        found = attempts.call("configs", lambda values=values: check(SweepConfig, values, "x"))
        assert found == plain, settings


WRONG: tuple[Any, ...] = (
    float("nan"),
    float("inf"),
    -float("inf"),
    1e300,
    -1e300,
    10**30,
    -(10**30),
    "many",
    None,
    [],
    {},
    [[]],
    {"a": {"b": "x" * 10_000}},
    ["x" * 10_000],
)


def numbers(section: type[Section]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every number in a section's settings, by its place, with its rule as JSON schema."""
    schema = section.model_json_schema()

    def walk(node: Any, place: str) -> Iterator[tuple[str, dict[str, Any]]]:
        if isinstance(node, dict):
            if node.get("type") in ("integer", "number"):
                yield place, node
            for key, value in node.items():
                if key not in ("default", "description", "title"):
                    yield from walk(value, f"{place}.{key}")
        elif isinstance(node, list):
            for number, value in enumerate(node):
                yield from walk(value, f"{place}.{number}")

    yield from walk(schema, section.__name__)


@pytest.mark.parametrize("section", SECTIONS, ids=lambda section: section.__name__)
def test_every_number_has_bounds(section: type[Section], attempts: Attempts) -> None:
    found = dict(numbers(section))
    if section is not SchemeConfig:
        assert found
    for place, rule in found.items():
        attempts.counts["configs"] += 1
        if ".RefinerOptions." in place:
            continue  # checked by the dataclass itself, see below
        assert rule.keys() & {"minimum", "exclusiveMinimum"}, place
        assert rule.keys() & {"maximum", "exclusiveMaximum"}, place


def test_wrong_values_of_every_setting(attempts: Attempts) -> None:
    """The key is named, the value is not repeated at length, and nothing is a traceback."""
    for key, value in itertools.product(SweepConfig.model_fields, WRONG):
        refused = attempts.call(
            "configs", lambda key=key, value=value: check(SweepConfig, sweep(**{key: value}), "c")
        )
        if isinstance(refused, ValueError):
            assert key in str(refused), (key, value, refused)
            assert len(str(refused)) < 1000, (key, value)
            assert "\n" not in str(refused)
            assert "Input should" not in str(refused)
            assert "pydantic" not in str(refused)
        else:
            json.dumps(refused.model_dump(mode="json"), allow_nan=False)


def test_wrong_options_of_schemes_and_channels(attempts: Attempts) -> None:
    fields = ("num_inference_steps", "control_scale", "latent_guidance_scale", "sampler", "dtype")
    for field, value in itertools.product((*fields, "unknown"), (*WRONG, 0, -1, 1001)):
        settings = {"kind": "diffjscc", "refiner": {field: value}}
        outcome = attempts.call(
            "configs", lambda settings=settings: check(SchemeConfig, settings, "config")
        )
        if isinstance(outcome, ValueError):
            assert len(str(outcome)) < 1000
        elif value not in (0, None) and not (value == 1001 and "scale" in field):
            raise AssertionError((field, value))
    for value in WRONG:
        for settings in ({"name": "rician", "k_factor": value}, {"name": value}, value):
            attempts.call(
                "configs", lambda settings=settings: check(ChannelConfig, settings, "config")
            )


def test_sweeps_beyond_all_measure(attempts: Attempts) -> None:
    for settings, said in (
        ({"repeats": 99999999999}, "repeats = 99999999999: it must be at most 10000"),
        ({"repeats": 0}, "repeats = 0: it must be at least 1"),
        ({"seed": 1 << 63}, "seed"),
        ({"samples": 1_000_000_000}, "samples"),
        ({"snrs_db": [float(n) / 10 for n in range(150)], "repeats": 10_000}, "lower repeats"),
        ({"snrs_db": [1e9]}, "snrs_db.0 = 1000000000.0: it must be at most 200"),
        ({"rates": ["1/16", 0.0625]}, "rates holds 1/16 more than once"),
        ({"sed": 1}, "unknown key 'sed'; did you mean 'seed'?"),
        ({"schemes": [{"kind": "diffjscc", "refiner": {"steps": 4}}]}, "refiner.steps"),
    ):
        refused = attempts.call(
            "configs", lambda settings=settings: check(SweepConfig, sweep(**settings), "config")
        )
        assert isinstance(refused, ValueError), settings
        assert said in str(refused), refused


def test_overrides(attempts: Attempts) -> None:
    for override in (
        "seed",
        "=1",
        ".=1",
        "seed.=1",
        ".seed=1",
        "seed..x=1",
        ".".join(["a"] * 2000) + "=1",
        "seed=[",
        "seed={a: 1, a: 2}",
        "seed=!!python/object/apply:os.system [id]",
        "seed=.inf",
        "seed=" + "[" * 2000,
        "images.x=1",
        "",
    ):
        refused = attempts.call(
            "configs", lambda override=override: overridden({"images": ["a"]}, [override])
        )
        assert isinstance(refused, ValueError), override
        assert len(str(refused)) < 300


NUMBERS = (
    (SweepConfig, ("repeats", "seed", "shown", "samples", "crop", "snrs_db", "megapixels")),
    (ChannelConfig, ("k_factor",)),
    (JSCCConfig, ("run.iterations", "run.batch", "run.ema", "data.crop", "optimiser.rate")),
    (ControlConfig, ("run.batch", "precompute.bins")),
)


def test_booleans_are_no_numbers(attempts: Attempts) -> None:
    """They would be read as 0 and 1."""
    for kind, keys in NUMBERS:
        for key, value in itertools.product(keys, ("true", "false", "[true]", "yes")):
            values = {"images": ["a"], "schemes": [{"kind": "deepjscc"}]}
            values = overridden(values if kind is SweepConfig else {}, [f"{key}={value}"])
            outcome = attempts.call("configs", lambda k=kind, v=values: check(k, v, "c"))
            assert isinstance(outcome, ValueError), (kind, key, value)
            problem = next(one for one in str(outcome).split("; ") if key.split(".")[-1] in one)
            assert "unknown" not in problem or key == "optimiser.rate", problem
    for snr in (True, [1.0, False], [True]):
        values = {"images": ["a"], "schemes": [{"kind": "deepjscc"}], "snrs_db": snr}
        outcome = attempts.call("configs", lambda v=values: check(SweepConfig, v, "c"))
        assert "is no number" in str(outcome), snr
    refiner = {"kind": "diffjscc", "refiner": {"num_inference_steps": True}}
    outcome = attempts.call("configs", lambda: check(SchemeConfig, refiner, "c"))
    assert "num_inference_steps: true is no number" in str(outcome)

"""Machines without memory, devices, home or network, and numbers in the wrong places."""

import errno
import re
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image

from attempts import Attempts, unfinished
from diffjscc import AWGN, CompactJSCC, DiffJSCC, Rayleigh, Rician, evaluate
from diffjscc.codecs.deepjscc import DeepJSCC, DeepJSCCConfig
from diffjscc.codecs.digital.source_codecs.source import SourceError, SourceUnavailable
from diffjscc.data.download import DownloadError, download
from diffjscc.data.fetch import fetch_kodak
from diffjscc.data.images import ImageError
from diffjscc.evaluation.lines import ResultsError
from diffjscc.evaluation.results import read_results
from diffjscc.evaluation.transmission import Link
from diffjscc.metrics import weights as metric_weights
from diffjscc.metrics.evaluator import MetricEvaluator
from diffjscc.metrics.weights import MetricUnavailable
from diffjscc.pretrained.diffjscc import choose_device
from diffjscc.pretrained.storage import MismatchError, WeightsError
from diffjscc.protocols import InfeasibleError
from diffjscc.refiners.captions import CaptionerError
from diffjscc.scheme import Scheme
from diffjscc.symbols import ChannelState
from toy_results import toy_results

MEMORY, ERRORS, DEVICES, PLACES, VALUES, RESULTS = (
    "memory",
    "errors of every kind, in every command",
    "devices",
    "homes and networks",
    "values from Python",
    "results of another version",
)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    path = tmp_path / "photo.png"
    Image.fromarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8)).save(path)
    return path


# Every kind of error, in every command

KINDS: dict[str, Exception] = {
    "download": DownloadError("http://x/y", Path("y"), "no connection"),
    "metric": MetricUnavailable("FID weights missing"),
    "captioner": CaptionerError("no captioner"),
    "weights": WeightsError("weights are damaged"),
    "mismatch": MismatchError("a file", ["a", "b"], ["c"], ["d is float32"]),
    "results": ResultsError("another version"),
    "image": ImageError("a.png", "is empty", "export it again"),
    "infeasible": InfeasibleError("nothing fits"),
    "source codec": SourceUnavailable("no bpgenc"),
    "source": SourceError("no image"),
    "disk": OSError(errno.ENOSPC, "No space left on device", "x"),
    "permission": PermissionError(errno.EACCES, "Permission denied", "x"),
    "memory": MemoryError(),
    "GPU memory": torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB"),
    "CPU memory": RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory"),
    "GPU": RuntimeError("CUDA error: unspecified launch failure\nCompile with TORCH_USE_CUDA_DSA"),
}
STAGES = ("jscc", "adversarial", "feedback", "vae", "prior", "control", "decoder")
# The words of a command, and what it calls for its work.
COMMANDS: dict[str, str] = {
    "transmit {photo} -o {out}": "diffjscc.metrics.evaluator.MetricEvaluator.load",
    "evaluate {photo} -o {out}": "diffjscc.evaluation.sweep.Sweep.prepare",
    "reproduce fig3 --images {photo} -o {out}": "diffjscc.evaluation.sweep.Sweep.prepare",
    "report {results}": "diffjscc.evaluation.results.read_results",
    "plot {results}": "diffjscc.evaluation.results.read_results",
    "compare {results} {results}": "diffjscc.evaluation.results.read_results",
    "info": "diffjscc.cli.information.information",
    "convert {results} {out}": "diffjscc.pretrained.convert.released.convert_released",
    "precompute": "diffjscc.training.precompute.precompute",
    "fetch kodak -o {out}": "diffjscc.data.fetch.fetch_kodak",
    "fetch openimages -o {out}": "diffjscc.data.fetch.fetch_openimages",
    **{f"train {stage} -o {{out}}": f"diffjscc.training.{stage}.train" for stage in STAGES},
}


@pytest.mark.parametrize("command", COMMANDS)
def test_every_kind_of_error_is_one_line(
    command: str,
    photo: Path,
    attempts: Attempts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "results").mkdir()
    toy_results(tmp_path / "results")
    names = {"photo": photo, "out": tmp_path / "out", "results": tmp_path / "results"}
    words = [word.format(**names) for word in command.split()]
    for kind, error in KINDS.items():

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(COMMANDS[command], fail)
        result = attempts.command(ERRORS, *words)
        assert result.exit_code == 2, (kind, result.output)
        (line,) = result.stderr.strip().splitlines()
        assert line.startswith("error: "), kind
        if "memory" in kind:
            assert "use" in line
    assert not unfinished(tmp_path)


# Memory


@pytest.mark.parametrize("kind", ["memory", "GPU memory", "CPU memory"])
@pytest.mark.parametrize("options", [[], ["--scheme", "deepjscc"]])
def test_after_a_file_that_is_too_large_comes_the_next(
    kind: str,
    options: list[str],
    photo: Path,
    attempts: Attempts,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    transmit = Link.transmit

    def limited(self: Link, sources: list, *rest: object, **named: object) -> object:
        if "large" in sources[0].name:
            raise KINDS[kind]
        return transmit(self, sources, *rest, **named)

    monkeypatch.setattr(Link, "transmit", limited)
    large = photo.with_name("a-large.png")
    large.write_bytes(photo.read_bytes())
    words = ["transmit", large, photo, "-o", tmp_path / "out", "--refiner", "none"]
    words = [*words[:-2], *options] if options else words
    result = attempts.command(MEMORY, *words)
    assert result.exit_code == 1
    assert re.search(r"failed: .*large\.png: the memory of .* is too small; use", result.stderr)
    assert list((tmp_path / "out").glob("photo*.png"))
    assert not list((tmp_path / "out").glob("a-large*"))


# Devices

NAMES = [
    *("", " ", "gpu", "CPU", "cuda:", "cuda:-1", "cuda:99", "cuda:x", "cuda:1.5", "cuda:0:1"),
    *("meta", "mps", "mps:7", "xpu", "xpu:99", "hpu", "vulkan", "xla", "fpga", "mkldnn", "lazy"),
    *("privateuseone", "mtia", "maia", "opengl", "ideep", "cpu:x", "cpu:-1", "0", "nonsense"),
]


def test_devices(photo: Path, attempts: Attempts, tmp_path: Path) -> None:
    for name in NAMES:
        error = attempts.call(DEVICES, lambda name=name: choose_device(name))
        if isinstance(error, torch.device):  # this machine has one
            continue
        assert "auto" in str(error) or "does not exist" in str(error)
    for name in ("meta", "cuda:99", "nonsense", "vulkan"):
        refused = [
            attempts.command(DEVICES, "transmit", photo, "-o", tmp_path / "a", "--device", name),
            attempts.command(
                DEVICES, "evaluate", photo, "-o", tmp_path / "b", "--set", f"device={name}"
            ),
        ]
        for result in refused:
            assert result.exit_code == 2
            assert "device" in result.stderr
    assert not (tmp_path / "b").exists()


# Homes and networks


def test_places_without_home_or_network(
    attempts: Attempts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("DIFFJSCC_METRIC_WEIGHTS", raising=False)
    monkeypatch.setattr(metric_weights, "_failures", {})
    (tmp_path / "file").touch()
    for home in ("/dev/null", "/proc/nowhere", str(tmp_path / "file"), str(tmp_path / "new")):
        monkeypatch.setenv("HOME", home)
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        for metric in ("lpips_alex", "lpips_vgg"):
            evaluator, missing = MetricEvaluator.load(["psnr", metric])
            attempts.counts[PLACES] += 1
            assert [info.name for info in evaluator.infos] == ["psnr"]
            (reason,) = missing.values()
            assert "DIFFJSCC_METRIC_WEIGHTS" in str(reason)
        kodak = tmp_path / "kodak"
        error = attempts.call(PLACES, lambda kodak=kodak: fetch_kodak(kodak, progress=False))
        assert "HF_HUB_OFFLINE is set" in str(error)
        assert not kodak.exists()

    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    _, missing = MetricEvaluator.load(["lpips_alex"])
    attempts.counts[PLACES] += 1
    assert "no home folder" in str(*missing.values())
    assert MetricEvaluator.load(["psnr", "lpips", "niqe"])[1] == {}  # in the package
    monkeypatch.delenv("HF_HUB_OFFLINE")
    for url in ("http://nowhere.invalid/a", "http://127.0.0.1:1/a", "http://[::1]:1/a"):
        error = attempts.call(
            PLACES, lambda url=url: download(url, tmp_path / "a", attempts=1, timeout=5)
        )
        assert "no connection" in str(error)
    for url in ("", "ftp://x/y", "file:///etc/passwd", "http://", "//x", "http:/x"):
        assert attempts.call(PLACES, lambda url=url: download(url, tmp_path / "a"))
    assert not unfinished(tmp_path)


def test_hub_ids_without_a_hub(
    photo: Path, attempts: Attempts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    out = tmp_path / "out"
    for name in ("nobody/nothing", "nobody/nothing@v1", "Mingyuyang/DiffJSCC-CelebA-CBR-1-192"):
        for words in (
            ("transmit", photo, "-o", out, "--weights", name),
            ("evaluate", photo, "-o", out, "--weights", name),
            ("convert", name, out),
            ("train", "jscc", "--init", name, "-o", out),
            ("precompute", f"prior={name}", f"data.train={tmp_path}"),
        ):
            assert attempts.command(PLACES, *words).exit_code == 2, words
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HOME", "~/.cache/huggingface")
    error = attempts.call(PLACES, lambda: DiffJSCC.from_pretrained("nobody/nothing"))
    assert "set HF_HOME to a folder" in str(error)


# Values from Python

WRONG_FLAGS = (4, 0, 1, 1.0, "yes", None, "False")
WRONG_COUNTS = (0, -1, True, 1.5, "2", None)
WRONG_SNRS = (True, None, "1", 1j, float("nan"), float("inf"), 1e9, torch.tensor(True))


def refused(attempts: Attempts, function: Callable[[], object], word: str) -> None:
    """Call a function that must raise an error which has a word."""
    error = attempts.call(VALUES, function)
    assert isinstance(error, ValueError), error
    assert word in str(error), error


def test_numbers_and_flags_do_not_mix(attempts: Attempts) -> None:
    gain, snr_db = torch.ones(1, 1, dtype=torch.complex64), torch.ones(1)
    for flag in WRONG_FLAGS:
        refused(attempts, lambda flag=flag: Rayleigh(1.0, transmitter_csi=flag), "True or False")
        refused(attempts, lambda flag=flag: Rician(1.0, transmitter_csi=flag), "True or False")
        refused(attempts, lambda flag=flag: ChannelState(gain, snr_db, flag), "True or False")
    for k_factor in (True, "4", None, float("nan"), -1):
        refused(attempts, lambda k=k_factor: Rician(1.0, k), "k_factor")
    with pytest.raises(TypeError, match="positional argument"):
        Rayleigh(1.0, 4)
    scheme = DiffJSCC.from_pretrained(refiner=None, device="cpu")
    image = torch.rand(3, 32, 32)
    for count in WRONG_COUNTS:
        refused(attempts, lambda n=count: scheme.send(image, AWGN(1.0), repeats=n), "repeats")
        refused(attempts, lambda n=count: evaluate(scheme, image, AWGN(1.0), repeats=n), "repeats")
    for snr in WRONG_SNRS:
        refused(attempts, lambda snr=snr: scheme(image, AWGN(snr)), "snr_db")
        if snr != 1e9:
            refused(attempts, lambda snr=snr: scheme.encode(image, snr), "snr_db")


def test_parts_and_types_of_weights(attempts: Attempts, tmp_path: Path) -> None:
    codec = DiffJSCC.from_pretrained(refiner=None, device="cpu").codec
    assert isinstance(codec, CompactJSCC)
    for parts in ("encoder", "decoder", "", "Both", None, True):
        for function in (
            lambda parts=parts: DiffJSCC.from_pretrained(parts=parts, device="cpu"),
            lambda parts=parts: CompactJSCC(codec.config, parts),
            lambda parts=parts: DeepJSCC(DeepJSCCConfig(), parts),
        ):
            refused(attempts, function, "both, transmitter, receiver")
    scheme = Scheme(codec, codec.rates[0])
    loaded = DiffJSCC(codec, codec.rates[0])
    for dtype in (torch.float64, torch.complex64, torch.int32, torch.bool, torch.float8_e5m2):
        refused(attempts, lambda d=dtype: loaded.save_pretrained(tmp_path / "w", d), "stored as")
        refused(attempts, lambda d=dtype: DiffJSCC.from_pretrained(dtype=d), "cannot compute with")
    assert not list((tmp_path / "w").rglob("*.safetensors"))
    one_end = DiffJSCC.from_pretrained(parts="receiver", refiner=None, device="cpu")
    refused(attempts, lambda: one_end.encode(torch.rand(3, 32, 32), 1.0), "receiver only")
    sent = scheme.send(torch.rand(3, 32, 32), AWGN(1.0))
    other_end = DiffJSCC.from_pretrained(parts="transmitter", device="cpu")
    refused(attempts, lambda: other_end.decode(sent), "transmitter only")


def test_values_outside_0_to_1_are_refused_at_every_door(attempts: Attempts) -> None:
    scheme = DiffJSCC.from_pretrained(refiner=None, device="cpu")
    state = ChannelState(torch.ones(1, 1, dtype=torch.complex64), torch.ones(1))
    evaluator, _ = MetricEvaluator.load(["psnr"])
    for low, high in ((0.0, 255.0), (-1.0, 1.0), (-0.5, 0.5), (0.0, 1.5), (-1e30, 1e30)):
        image = torch.linspace(low, high, 3 * 32 * 32).view(1, 3, 32, 32)
        whole = torch.rand(1, 3, 32, 32)
        array = image[0].permute(1, 2, 0).double().numpy()
        word = f"{low:g} to {high:g}"
        for function in (
            lambda image=image: scheme(image, AWGN(5.0)),
            lambda image=image: scheme.encode(image, 5.0),
            lambda array=array: scheme(array, AWGN(5.0)),
            lambda image=image: scheme.codec.encode(image, state, Fraction(1, 128)),
            lambda image=image: evaluate(scheme, image, AWGN(5.0)),
            lambda image=image, whole=whole: evaluator(image, whole),
            lambda image=image, whole=whole: evaluator(whole, image),
        ):
            refused(attempts, function, word)


# Results of another version


def test_results_of_another_version(attempts: Attempts, tmp_path: Path) -> None:
    folder = tmp_path / "results"
    folder.mkdir()
    toy_results(folder)
    changes = [
        lambda text: text.replace('"psnr"', '"psnr2"'),
        lambda text: text.replace('{"', '{"new":1,"', 1),
        lambda text: text[1:],
        lambda text: "",
        lambda text: "[]\n",
        lambda text: "null\n",
        lambda text: text.replace(":", ":[", 1),
        lambda text: text.replace("1", "Infinity", 1),
    ]
    for name in ("setup.json", "rows.jsonl", "distances.jsonl"):
        path = folder / name
        if not path.exists():
            continue
        good = path.read_text(encoding="utf-8")
        for change in changes:
            path.write_text(change(good), encoding="utf-8")
            attempts.command(RESULTS, "compare", folder, folder)
            attempts.call(RESULTS, lambda: read_results(folder))
        path.write_text(good, encoding="utf-8")
    assert not unfinished(tmp_path)

"""Source codecs that need what may not be installed: BPG's programs, PyAV, parts of Pillow."""

import sys
from collections.abc import Callable
from pathlib import Path

import av
import pytest
import torch
from PIL import features

from diffjscc.codecs.digital.source_codecs.bpg import BPGPrograms
from diffjscc.codecs.digital.source_codecs.hevc import HEVCIntra
from diffjscc.codecs.digital.source_codecs.pillow import AVIF, JPEG, JPEG2000, WebP
from diffjscc.codecs.digital.source_codecs.source import SourceCodec, SourceError, SourceUnavailable


def test_missing_pyav_and_builds_without_hevc_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def codec(name: str, mode: str) -> av.Codec:
        return real("no such codec" if name == "libx265" else name, mode)

    real = av.Codec
    monkeypatch.setattr(av, "Codec", codec)
    with pytest.raises(SourceUnavailable, match=r"PyAV \(\d.*\) has no libx265.*pip install"):
        HEVCIntra()
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(SourceUnavailable, match=r"pip install 'diffjscc\[digital\]'"):
        HEVCIntra()


@pytest.mark.parametrize(
    ("make", "feature", "name"),
    [
        (JPEG, "jpg", "JPEG"),
        (JPEG2000, "jpg_2000", "JPEG 2000"),
        (WebP, "webp", "WebP"),
        (AVIF, "avif", "AVIF"),
    ],
)
def test_formats_that_a_pillow_lacks_are_named(
    monkeypatch: pytest.MonkeyPatch, make: Callable[[], SourceCodec], feature: str, name: str
) -> None:
    monkeypatch.setattr(features, "check", lambda asked: asked != feature)
    with pytest.raises(SourceUnavailable, match=rf"Pillow \(\d.*\) has no {name};.*pip install"):
        make()


BPGENC = """
import sys, pathlib
given = dict(zip(sys.argv[1:-1:2], sys.argv[2:-1:2]))
if given["-q"] == "0":
    sys.exit("the encoder has no memory left")
image = pathlib.Path(sys.argv[-1]).read_bytes()
settings = f"{given['-q']} {given['-f']} {given['-b']};".encode()
pathlib.Path(given["-o"]).write_bytes(b"BPG\\xfb" + settings + image)
"""
BPGDEC = """
import sys, pathlib
_, option, target, source = sys.argv
data = pathlib.Path(source).read_bytes()
if option != "-o" or data[:4] != b"BPG\\xfb":
    sys.exit("not a BPG image")
pathlib.Path(target).write_bytes(data[data.index(b";") + 1 :])
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for bpgenc and bpgdec, alone on the PATH: PNG in a file that begins as BPG does."""
    for name, body in (("bpgenc", BPGENC), ("bpgdec", BPGDEC)):
        program = tmp_path / name
        program.write_text(f"#!{sys.executable}{body}")
        program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_bpg_programs_are_run(programs: Path) -> None:
    image = torch.randint(256, (3, 96, 128), generator=torch.Generator().manual_seed(0)) / 255
    source = BPGPrograms("4:2:0")
    assert source.name == "bpgenc 4:2:0"
    data = source.encode(image, 51 - 37)
    assert data.startswith(b"37 420 8;\x89PNG")
    assert torch.equal(source.decode(data, (96, 128)), image)
    with pytest.raises(SourceError, match="not a bpgenc 4:2:0 image of 128x96"):
        source.decode(data[:-1], (96, 128))
    with pytest.raises(SourceError, match="not a bpgenc"):
        source.decode(data, (96, 127))
    with pytest.raises(ValueError, match="bpgenc wrote no image: the encoder has no memory left"):
        source.encode(image, 51)
    (programs / "bpgdec").write_text(f"#!{sys.executable}\nraise SystemExit('not today')")
    with pytest.raises(SourceError, match="bpgdec read no image: not today"):
        source.decode(data, (96, 128))
    (programs / "bpgdec").unlink()
    with pytest.raises(SourceUnavailable, match=r"bpgdec is not on the PATH.*HEVCIntra"):
        BPGPrograms()

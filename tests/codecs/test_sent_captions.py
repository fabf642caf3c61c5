"""Text as side information: compressed, sent in a strong code, counted, and read by the prior."""

import json
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from zlib import DEFLATED, Z_DEFAULT_STRATEGY, compressobj

import pytest
import torch
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from diffjscc import AWGN, DiffJSCC, Scheme
from diffjscc.channels.noise import complex_normal
from diffjscc.cli import app
from diffjscc.codecs.captioned import CaptionedCodec
from diffjscc.codecs.compact import CompactConfig, CompactJSCC
from diffjscc.codecs.digital.caption_text import LONGEST, compress, decompress
from diffjscc.codecs.digital.captions import caption_mcs, demodulate_caption, modulate_caption
from diffjscc.codecs.digital.frame import Frame
from diffjscc.refiners.captions import FixedCaption
from diffjscc.schemes.config import SchemeConfig
from diffjscc.schemes.options import RefinerOptions
from toy_refiner import make_refiner

CAPTIONS = (
    "A brown dog jumps over a fallen log in the forest.",
    "two children fly a kite on a windy beach",
    "An old steam engine crosses a viaduct above the valley.",
    "the harbour at dusk, with fishing boats and a lighthouse",
    "Ein Hund läuft über die Straße",
)
NO_TEXT = bytes.fromhex("c187518caf567c13396f8858")  # is no UTF-8 once decompressed


@pytest.fixture(scope="module")
def codec() -> CompactJSCC:
    torch.manual_seed(0)
    config = CompactConfig(
        widths=(8, 8), encoder_blocks=(1, 1), decoder_blocks=(1, 1), condition_width=8
    )
    return CompactJSCC(config).eval()


@pytest.mark.parametrize("text", [*CAPTIONS, "", "日本語 🎉", "x" * LONGEST, "\t spaced   out \n"])
def test_captions_come_back_whatever_follows(text: str) -> None:
    data = compress(text)
    for zeros in (0, 1, 7):
        assert decompress(data + bytes(zeros)) == " ".join(text.split())


def test_a_letter_takes_less_than_half_a_byte() -> None:
    english = CAPTIONS[:4]
    bits = 8 * sum(len(compress(text)) for text in english) / sum(map(len, english))
    assert bits < 4
    for text in english:
        deflate = compressobj(9, DEFLATED, -15, 9, Z_DEFAULT_STRATEGY)
        assert len(compress(text)) < len(deflate.compress(text.encode()) + deflate.flush())


def test_long_captions_and_bytes_of_no_caption_have_words() -> None:
    with pytest.raises(ValueError, match="at most 255 are sent"):
        compress("é" * 128)
    with pytest.raises(ValueError, match="was not sent"):
        decompress(NO_TEXT)


def test_bytes_of_no_caption_count_as_lost() -> None:
    mcs = caption_mcs(len(NO_TEXT), 10.0)
    sent = Frame(mcs, Frame.needed(mcs, len(NO_TEXT))).modulate(NO_TEXT)
    assert demodulate_caption(sent, torch.tensor([0.1])) is None


@pytest.mark.parametrize("snr_db", [-5.0, 1.0, 7.0, 13.0, 25.0])
def test_captions_arrive_at_the_snr_that_they_are_sent_for(snr_db: float) -> None:
    for seed, text in enumerate(CAPTIONS * 4):
        sent = modulate_caption(text, snr_db)
        assert float(sent.abs().square().mean()) == pytest.approx(1, abs=1e-3)
        noise = complex_normal((1, len(sent)), torch.Generator().manual_seed(seed), "cpu")[0]
        power = torch.tensor([10 ** (-snr_db / 10)])
        assert demodulate_caption(sent + noise * power.sqrt(), power) == text
    assert demodulate_caption(noise, torch.ones(1)) is None
    assert demodulate_caption(noise[:3], torch.ones(1)) is None


def test_better_links_take_fewer_channel_uses() -> None:
    uses = [len(modulate_caption(CAPTIONS[0], snr_db)) for snr_db in (-5, 1, 7, 13, 25)]
    assert all(one > other for one, other in pairwise(uses))
    assert caption_mcs(20, -30.0).name == "bpsk 1/2"


def describe(images: Tensor) -> list[str]:
    """Words for bright and dark images, of different lengths."""
    return [
        "a bright day" if float(image.mean()) > 0.5 else "a dark night in winter, without a moon"
        for image in images
    ]


def test_captions_are_counted_and_condition_the_prior(codec: CompactJSCC) -> None:
    rate, image, text = Fraction(1, 32), torch.rand(1, 3, 64, 64), "a cat"
    refiner = make_refiner(text=True)
    scheme = Scheme(CaptionedCodec(codec, FixedCaption(text)), rate, refiner)
    received = scheme.send(image, AWGN(10.0), torch.Generator().manual_seed(3))
    length = len(modulate_caption(text, 10.0))
    assert received.uses_by_kind["caption"] == length
    assert received.channel_uses == length + codec.channel_uses(rate, (64, 64))
    assert sum(received.uses_by_kind.values()) == received.channel_uses
    initial, known, outage = scheme.attempt(received)
    assert known.captions == [text]

    def final(captions: list[str] | None) -> Tensor:
        refiner.captioner = None if captions is None else FixedCaption(captions[0])
        generator = [torch.Generator().manual_seed(1)]
        plain = received.span(slice(None), rate)
        return refiner.refine(initial, plain, generator).image

    sent = scheme.refine(initial, known, outage, [torch.Generator().manual_seed(1)])
    assert sent.caption == [text]
    assert torch.equal(sent.image, final([text]))
    assert not torch.equal(sent.image, final(None))


def test_a_lost_caption_leaves_the_receivers_own(codec: CompactJSCC) -> None:
    refiner = make_refiner(text=True)
    initial = torch.rand(2, 3, 16, 16)
    assert refiner.captions(initial, [None, "a cat"]) == ["", "a cat"]
    refiner.captioner = FixedCaption("cat")
    assert refiner.captions(initial, [None, "a cat"]) == ["cat", "a cat"]
    assert refiner.captions(initial) == ["cat", "cat"]
    scheme = Scheme(CaptionedCodec(codec, FixedCaption("a cat")), "1/32")
    received = scheme.send(torch.rand(1, 3, 64, 64), AWGN(10.0))
    received.values[:, : received.uses_by_kind["caption"]] = 0.1
    assert scheme.attempt(received)[1].captions == [None]


def test_captions_of_several_lengths_go_one_at_a_time(codec: CompactJSCC) -> None:
    scheme = Scheme(CaptionedCodec(codec, describe), "1/32")
    pair = torch.stack((torch.zeros(3, 32, 32), torch.ones(3, 32, 32)))
    with pytest.raises(ValueError, match="send them one at a time"):
        scheme.encode(pair, 10.0)
    for image in pair:
        assert scheme.encode(image, 10.0).uses_by_kind["caption"] > 0


def test_priors_without_text_and_options_without_words_are_refused() -> None:
    with pytest.raises(ValueError, match="no text encoder"):
        make_refiner().captions(torch.rand(1, 3, 16, 16), ["a cat"])
    with pytest.raises(ValueError, match="has no caption to send"):
        RefinerOptions(caption_from="transmitter")
    sent = {"caption": "a cat", "caption_from": "transmitter"}
    config = SchemeConfig.model_validate({"kind": "diffjscc", "refiner": sent})
    assert config.varies_uses
    with pytest.raises(ValueError, match="do not go together"):
        SchemeConfig.model_validate({"kind": "diffjscc", "refiner": sent, "rate_policy": {}})


def test_transmit_sends_the_words(codec: CompactJSCC, tmp_path: Path) -> None:
    weights, image, record = tmp_path / "weights", tmp_path / "image.png", tmp_path / "record.json"
    DiffJSCC(codec, "1/32", make_refiner(text=True)).save_pretrained(weights)
    Image.new("RGB", (64, 48), (90, 120, 60)).save(image)
    words = ["transmit", str(image), "--weights", str(weights), "--rate", "1/32", "--snr", "7"]
    words += ["--caption", "a cat", "--caption-from", "transmitter", "--device", "cpu"]
    words += ["--json", str(record), "-o", str(tmp_path / "sent")]
    sent = CliRunner().invoke(app, words)
    assert sent.exit_code == 0, sent.output
    (one,) = json.loads(record.read_text())
    assert one["caption"] == "a cat"
    assert one["uses_by_kind"]["caption"] == len(modulate_caption("a cat", 7.0))
    assert one["channel_uses"] == 64 * 48 // 32 + one["uses_by_kind"]["caption"]

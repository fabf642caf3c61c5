"""Words: tokens, text features, captioners."""

import sys
from pathlib import Path

import pytest
import torch
from transformers import (
    CLIPTokenizer,
)

from diffjscc.refiners import captions
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.text import TextFeatures, load_tokenizer
from toy_captioner import write_tiny_blip2
from toy_refiner import (
    QUICK,
    TEXT_WIDTH,
    generators,
    make_control,
    make_refiner,
    make_text_encoder,
    make_tokenizer,
    make_unet,
    make_vae,
    receive,
)


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_tokens_are_framed_padded_with_zeros_and_cut() -> None:
    text = TextFeatures(make_text_encoder(), make_tokenizer())
    tokens = text.tokens(["", "  CAT \n cat", "cat &amp;amp; cat", "cat " * 100])
    cat, ampersand = 2, 1
    assert tokens.shape == (4, 77)
    assert tokens[0].tolist() == [49406, 49407] + [0] * 75
    assert tokens[1].tolist() == [49406, cat, cat, 49407] + [0] * 73
    assert tokens[2].tolist() == [49406, cat, ampersand, cat, 49407] + [0] * 72
    assert tokens[3].tolist() == [49406] + [cat] * 75 + [49407]


def test_every_text_gets_its_own_features() -> None:
    text = TextFeatures(make_text_encoder(), make_tokenizer())
    features = text(["cat", "", "cat"])
    assert features.shape == (3, 77, TEXT_WIDTH)
    torch.testing.assert_close(features[0], features[2], rtol=0, atol=0)
    torch.testing.assert_close(features[1], text([""])[0])
    assert (features[0] - features[1]).abs().max() > 1e-3


def test_a_vocabulary_is_needed_only_for_captions_with_words(tmp_path: Path) -> None:
    text = TextFeatures(make_text_encoder(), None)
    assert text.tokens(["", " "]).tolist() == [[49406, 49407] + [0] * 75] * 2
    with pytest.raises(ValueError, match="have no vocabulary"):
        text(["cat"])
    make_tokenizer().save_pretrained(tmp_path)
    loaded = TextFeatures(text.encoder, load_tokenizer(tmp_path, revision=None))
    assert loaded.tokens(["cat"])[0, :4].tolist() == [49406, 2, 49407, 0]
    CLIPTokenizer().save_pretrained(tmp_path / "empty")
    with pytest.raises(ValueError, match="holds no CLIP vocabulary"):
        load_tokenizer(tmp_path / "empty", revision=None)
    with pytest.raises(ValueError, match=r"could not be loaded from '.*nowhere'"):
        load_tokenizer(tmp_path / "nowhere", revision=None)


def test_captions_condition_a_prior_with_a_text_encoder_and_are_refused_without() -> None:
    initial, received = torch.rand(1, 3, 8, 8), receive([5.0])
    refiner = make_refiner(text=True)
    silent = refiner.refine(initial, received, generators(1))
    refiner.captioner = captions.FixedCaption("")
    empty = refiner.refine(initial, received, generators(1))
    torch.testing.assert_close(silent.image, empty.image, rtol=0, atol=0)
    assert silent.caption is None
    assert empty.caption == [""]
    refiner.captioner = captions.FixedCaption("cat")
    assert (refiner.refine(initial, received, generators(1)).image - empty.image).abs().max() > 0
    wordless = make_refiner()
    wordless.captioner = captions.FixedCaption("cat")
    with pytest.raises(ValueError, match="this prior has no text encoder"):
        wordless.refine(initial, received)


def test_a_prior_with_cross_attention_works_without_a_text_encoder() -> None:
    unet = make_unet(text=True)
    refiner = ControlledDiffusion(
        make_vae(), unet, make_control(unet), config=DiffusionConfig(sampler=QUICK)
    )
    assert refiner.refine(torch.rand(1, 3, 8, 8), receive([5.0])).image.isfinite().all()


def test_blip2_captions_reach_the_prior(tmp_path: Path) -> None:
    write_tiny_blip2(tmp_path)
    captioner = captions.Blip2Captioner.from_pretrained(tmp_path, revision=None)
    images = torch.stack([torch.zeros(3, 16, 24), torch.rand(3, 16, 24)])
    texts = captioner(images)
    assert len(texts) == 2
    for text in texts:
        words = text.split()
        assert 0 < len(words) <= captions.NEW_TOKENS
        assert all(word.startswith("word") or word == "<unk>" for word in words)
    assert texts == captioner(images)
    assert texts[0] == captioner(images[:1])[0]

    refiner = make_refiner(text=True)
    refiner.captioner = captioner
    seen = []
    refiner.denoiser.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[4]))
    result = refiner.refine(images, receive([3.0, 9.0]), generators(1, 2))
    assert result.caption == texts
    assert refiner.text is not None
    torch.testing.assert_close(seen[0], refiner.text(texts))


def test_a_captioner_that_cannot_be_had_is_an_error_that_says_so(tmp_path, monkeypatch) -> None:
    with pytest.raises(captions.CaptionerError, match=r"nowhere'.* could not be loaded"):
        captions.Blip2Captioner.from_pretrained(tmp_path / "nowhere", revision=None)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(captions.CaptionerError, match="pip install transformers"):
        captions.Blip2Captioner.from_pretrained(tmp_path)

"""Text features of Stable Diffusion 2: OpenCLIP's tokens, penultimate block."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from diffjscc.data.hub import hub_or_cache

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

VOCABULARY = "openai/clip-vit-large-patch14"
VOCABULARY_REVISION = "32bd64288804d66eefd0ccbe215aa642df71cc41"
START, END, PAD = 49406, 49407, 0


def load_tokenizer(
    source: str | Path = VOCABULARY, revision: str | None = VOCABULARY_REVISION
) -> CLIPTokenizer:
    """Load CLIP's tokenizer from a folder with vocab.json and merges.txt or from the hub.

    All CLIP models share one vocabulary.

    Args:
        source: folder or hub id.
        revision: commit on the hub; None is the newest.

    Raises:
        ValueError: the vocabulary is missing or damaged, or the hub is out of reach.
    """
    from huggingface_hub.errors import HTTPError  # noqa: PLC0415
    from transformers import CLIPTokenizer  # noqa: PLC0415

    try:
        with hub_or_cache():
            tokenizer = CLIPTokenizer.from_pretrained(source, revision=revision)
    except (HTTPError, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(
            f"CLIP's vocabulary could not be loaded from {str(source)!r}: {reason}; "
            "check the name and the network connection, give a folder with vocab.json and "
            "merges.txt, or disable captions"
        ) from error
    if (tokenizer.bos_token_id, tokenizer.eos_token_id) != (START, END):
        raise ValueError(
            f"{str(source)!r} holds no CLIP vocabulary: its texts begin and end with tokens "
            f"{tokenizer.bos_token_id} and {tokenizer.eos_token_id}, not {START} and {END}; check "
            "the network connection, which an empty vocabulary stands for, or give a folder with "
            "vocab.json and merges.txt"
        )
    return tokenizer


class TextFeatures:
    """Text encoder for the prior's cross attention.

    Args:
        encoder: CLIP's text encoder without the last block of its training (23 of ViT-H/14's 24),
            so that its output is the penultimate block's, normalised.
        tokenizer: CLIP's tokenizer; without it only empty texts can be encoded.
    """

    def __init__(self, encoder: CLIPTextModel, tokenizer: CLIPTokenizer | None) -> None:
        self.encoder = encoder
        self.tokenizer = tokenizer

    @property
    def length(self) -> int:
        """Tokens L per text, including padding."""
        return int(self.encoder.config.max_position_embeddings)

    def tokens(self, texts: list[str]) -> Tensor:
        """Tokenise texts to int64 [B, L]: start, words, end, then zeros; long texts are truncated.

        HTML entities are resolved as in OpenCLIP; its repair of broken Unicode is omitted.

        Raises:
            ValueError: a text is not empty, and there is no tokenizer.
        """
        rows = [self._row(html.unescape(html.unescape(text)).strip()) for text in texts]
        # Padded with zeros, where CLIP's own tokenizer would repeat the end token.
        return torch.tensor([row + [PAD] * (self.length - len(row)) for row in rows])

    def _row(self, text: str) -> list[int]:
        """Tokens of one text: start, words, end."""
        if not text:
            return [START, END]
        if self.tokenizer is None:
            raise ValueError(
                "a caption was given, but these weights have no vocabulary: put CLIP's vocab.json "
                "and merges.txt into their tokenizer folder, or disable captions"
            )
        row: list[int] = self.tokenizer(text, truncation=True, max_length=self.length)["input_ids"]
        return row

    @torch.no_grad()
    def features(self, tokens: Tensor) -> Tensor:
        """Encode tokens int64 [B, L] as [B, L, d], on the encoder's device and in its dtype."""
        output = self.encoder(input_ids=tokens.to(self.encoder.device))
        features: Tensor = output.last_hidden_state
        return features

    def __call__(self, texts: list[str]) -> Tensor:
        """Encode texts as features [B, L, d]; repeated texts are encoded once."""
        different = list(dict.fromkeys(texts))
        features = self.features(self.tokens(different))
        return features[[different.index(text) for text in texts]]

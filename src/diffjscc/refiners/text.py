"""Text features as Stable Diffusion 2 reads them: OpenCLIP's tokens, one block left out."""

from __future__ import annotations

import html
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import CLIPTextModel, CLIPTokenizer

VOCABULARY = "openai/clip-vit-large-patch14"
VOCABULARY_REVISION = "32bd64288804d66eefd0ccbe215aa642df71cc41"
START, END, PAD = 49406, 49407, 0


def load_tokenizer(
    source: str | Path = VOCABULARY, revision: str | None = VOCABULARY_REVISION
) -> CLIPTokenizer:
    """CLIP's tokenizer, from a folder with vocab.json and merges.txt or from the hub.

    All CLIP models share one vocabulary, so any of them will do.

    Args:
        source: folder or hub id.
        revision: the hub's commit; None is its newest.

    Raises:
        ValueError: the vocabulary or the network are missing.
    """
    from transformers import CLIPTokenizer  # noqa: PLC0415

    try:
        tokenizer = CLIPTokenizer.from_pretrained(source, revision=revision)
    except (OSError, ValueError) as error:
        raise ValueError(
            f"CLIP's vocabulary could not be loaded from {str(source)!r}: "
            f"{str(error).splitlines()[0]}; check the name and the network, give a folder with "
            "vocab.json and merges.txt, or go without captions"
        ) from error
    if (tokenizer.bos_token_id, tokenizer.eos_token_id) != (START, END):
        raise ValueError(
            f"{str(source)!r} holds no CLIP vocabulary: its texts begin and end with tokens "
            f"{tokenizer.bos_token_id} and {tokenizer.eos_token_id}, not {START} and {END}"
        )
    return tokenizer


class TextFeatures:
    """Texts to the features that the prior's cross attention reads.

    Args:
        encoder: CLIP's text encoder without the last block of its training (23 of ViT-H/14's 24),
            so that its output is the penultimate block's, normalised.
        tokenizer: CLIP's vocabulary; without it only empty texts can be read.
    """

    def __init__(self, encoder: CLIPTextModel, tokenizer: CLIPTokenizer | None) -> None:
        self.encoder = encoder
        self.tokenizer = tokenizer

    @property
    def length(self) -> int:
        """Tokens L of every text, the padding included."""
        return int(self.encoder.config.max_position_embeddings)

    def tokens(self, texts: list[str]) -> Tensor:
        """Texts to int64 [B, L]: start, words, end, then zeros. Longer texts are cut.

        HTML entities are resolved, as OpenCLIP does; its repair of broken Unicode is left out.

        Raises:
            ValueError: a text has words, and there is no vocabulary.
        """
        rows = [self._row(html.unescape(html.unescape(text)).strip()) for text in texts]
        # Zeros where CLIP's own tokenizer would repeat the end.
        return torch.tensor([row + [PAD] * (self.length - len(row)) for row in rows])

    def _row(self, text: str) -> list[int]:
        """Start, words and end of one text."""
        if not text:
            return [START, END]
        if self.tokenizer is None:
            raise ValueError(
                "a text was given, but these weights hold no vocabulary: put CLIP's vocab.json "
                "and merges.txt into their tokenizer folder, or go without captions"
            )
        row: list[int] = self.tokenizer(text, truncation=True, max_length=self.length)["input_ids"]
        return row

    @torch.no_grad()
    def features(self, tokens: Tensor) -> Tensor:
        """Tokens int64 [B, L] to features [B, L, d], on the encoder's device and in its dtype."""
        output = self.encoder(input_ids=tokens.to(self.encoder.device))
        features: Tensor = output.last_hidden_state
        return features

    def __call__(self, texts: list[str]) -> Tensor:
        """Texts to features [B, L, d]; a text that comes twice is encoded once."""
        different = list(dict.fromkeys(texts))
        features = self.features(self.tokens(different))
        return features[[different.index(text) for text in texts]]

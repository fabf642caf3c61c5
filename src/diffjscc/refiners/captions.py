"""Captions of the initial images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import torch
from huggingface_hub.errors import HTTPError
from PIL import Image
from torch import Tensor, nn

from diffjscc.data.hub import hub_or_cache

if TYPE_CHECKING:
    from transformers import Blip2ForConditionalGeneration, Blip2Processor

BLIP2 = "Salesforce/blip2-opt-2.7b"
BLIP2_REVISION = "59a1ef6c1e5117b3f65523d1c6066825bcf315e3"
NEW_TOKENS = 20


class CaptionerError(ValueError):
    """A captioner could not be loaded."""


class Captioner(Protocol):
    """Image captioning model."""

    @property
    def module(self) -> nn.Module | None:
        """The network, or None; it is moved to the device that computes."""
        ...

    def __call__(self, images: Tensor) -> list[str]:
        """Describe images [B, 3, H, W] in [0, 1] by one text each."""
        ...


class FixedCaption:
    """The same caption, given by the user, for every image.

    Args:
        text: the caption.
    """

    module = None

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, images: Tensor) -> list[str]:
        """Return the text once per image of [B, 3, H, W]."""
        return [self.text] * len(images)


class Blip2Captioner:
    """BLIP-2 (Li et al., arXiv 2301.12597): greedy decoding of 20 tokens without a prompt.

    These are the settings of the paper.

    Args:
        model: the network.
        processor: its tokenizer and image processor.
    """

    def __init__(self, model: Blip2ForConditionalGeneration, processor: Blip2Processor) -> None:
        self.model = model.requires_grad_(False).eval()
        self.processor = processor

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path = BLIP2,
        revision: str | None = BLIP2_REVISION,
        dtype: torch.dtype = torch.float32,
    ) -> Blip2Captioner:
        """Load BLIP-2 from the hub (15 GB, once) or a folder.

        Args:
            source: hub id or folder.
            revision: commit on the hub; None is the newest.
            dtype: dtype of the weights; float16 and bfloat16 need half the memory.

        Raises:
            CaptionerError: transformers or the weights are missing, or the hub is out of reach.
        """
        try:
            from transformers import (  # noqa: PLC0415
                AutoTokenizer,
                Blip2ForConditionalGeneration,
                Blip2Processor,
                BlipImageProcessorPil,
            )
        except ImportError as error:
            raise CaptionerError(
                "captions by BLIP-2 need the transformers library: pip install transformers; "
                "or give your own caption, or disable captions"
            ) from error
        try:
            with hub_or_cache():
                # Assembled by hand: AutoProcessor would require torchvision.
                processor = Blip2Processor(
                    BlipImageProcessorPil.from_pretrained(source, revision=revision),
                    AutoTokenizer.from_pretrained(source, revision=revision),
                )
                model = Blip2ForConditionalGeneration.from_pretrained(
                    source, revision=revision, dtype=dtype
                )
        except (HTTPError, OSError, ValueError) as error:
            reason = " ".join(f"{type(error).__name__}: {error}".splitlines()[:1])
            raise CaptionerError(
                f"the captioner {str(source)!r} could not be loaded ({reason}); check the name "
                "and the network connection, give a folder that holds it, or disable captions"
            ) from error
        return cls(model, processor)

    @property
    def module(self) -> nn.Module:
        """The network."""
        module: nn.Module = self.model
        return module

    @torch.no_grad()
    def __call__(self, images: Tensor) -> list[str]:
        """Describe images [B, 3, H, W] in [0, 1] by one text each."""
        levels = (images.detach().float().clamp(0, 1) * 255).to(torch.uint8)
        pillows = [Image.fromarray(x.numpy()) for x in levels.permute(0, 2, 3, 1).cpu()]
        pixels = self.processor(images=pillows, return_tensors="pt")["pixel_values"]
        tokens = self.model.generate(
            pixel_values=pixels.to(self.model.device, self.model.dtype),
            max_new_tokens=NEW_TOKENS,
            do_sample=False,
            num_beams=1,
        )
        texts = self.processor.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in texts]

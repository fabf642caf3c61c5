"""A captioner of BLIP-2's classes, small enough for tests."""

from pathlib import Path

from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    Blip2Config,
    Blip2ForConditionalGeneration,
    Blip2QFormerConfig,
    Blip2VisionConfig,
    BlipImageProcessorPil,
    OPTConfig,
    PreTrainedTokenizerFast,
)


def write_tiny_blip2(folder: Path) -> None:
    """BLIP-2's classes with random weights and a vocabulary of a few words."""
    words = ["<s>", "<pad>", "</s>", "<unk>", *(f"word{n}" for n in range(27)), "<image>"]
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        unk_token="<unk>",
        additional_special_tokens=["<image>"],
    ).save_pretrained(folder)
    BlipImageProcessorPil(size={"height": 28, "width": 28}).save_pretrained(folder)
    small = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = Blip2Config(
        vision_config=Blip2VisionConfig(
            **small, intermediate_size=32, image_size=28, patch_size=14
        ).to_dict(),
        qformer_config=Blip2QFormerConfig(
            **small, intermediate_size=32, vocab_size=len(words), encoder_hidden_size=16
        ).to_dict(),
        text_config=OPTConfig(
            **small,
            ffn_dim=32,
            vocab_size=len(words),
            word_embed_proj_dim=16,
            max_position_embeddings=64,
            bos_token_id=0,
            pad_token_id=1,
            eos_token_id=2,
        ).to_dict(),
        num_query_tokens=4,
        image_token_index=len(words) - 1,
    )
    model = Blip2ForConditionalGeneration(config)
    nn.init.normal_(model.query_tokens)
    model.save_pretrained(folder)

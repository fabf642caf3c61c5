"""Toy-sized networks of the diffusion receiver, with random weights."""

from fractions import Fraction

import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
)

from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.control import ControlModule
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.sampling import SamplerConfig
from diffjscc.refiners.text import TextFeatures
from diffjscc.symbols import ChannelState, Received

TEXT_WIDTH = 8
QUICK = SamplerConfig("ddpm", num_inference_steps=3)


def make_unet(text: bool = False) -> UNet2DConditionModel:
    kind = "CrossAttn" if text else ""
    return UNet2DConditionModel(
        in_channels=4,
        out_channels=4,
        block_out_channels=(16, 32),
        down_block_types=(f"{kind}DownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", f"{kind}UpBlock2D"),
        mid_block_type="UNetMidBlock2DCrossAttn" if text else "UNetMidBlock2D",
        layers_per_block=1,
        attention_head_dim=2,
        cross_attention_dim=TEXT_WIDTH,
        norm_num_groups=8,
        use_linear_projection=True,
    )


def make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=8,
    )


def make_control(unet: UNet2DConditionModel, snr_embedding: bool = True) -> ControlModule:
    """A control module that does something: its last layers are not zero."""
    control = ControlModule.for_prior(unet, snr_embedding=snr_embedding)
    for layer in (*control.controlnet_down_blocks, control.controlnet_mid_block):
        nn.init.normal_(layer.weight, std=0.1)
    nn.init.normal_(control.controlnet_cond_embedding.weight, std=0.2)
    return control.eval()


def make_refiner(text: bool = False, **config: object) -> ControlledDiffusion:
    torch.manual_seed(0)
    unet = make_unet(text)
    return ControlledDiffusion(
        make_vae(),
        unet,
        make_control(unet),
        config=DiffusionConfig(**{"sampler": QUICK, **config}),
        text=TextFeatures(make_text_encoder(), make_tokenizer()) if text else None,
    )


def networks(refiner: ControlledDiffusion) -> dict[str, nn.Module]:
    """The networks that a refiner has, by the names of their folders."""
    found = {
        "unet": refiner.denoiser.unet,
        "control": refiner.denoiser.control,
        "distilled": refiner.denoiser.distilled,
        "vae": refiner.vae,
        "condition_encoder": refiner.condition_encoder,
        "text_encoder": None if refiner.text is None else refiner.text.encoder,
    }
    return {name: network for name, network in found.items() if network is not None}


def make_text_encoder() -> CLIPTextModel:
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=49408,
            hidden_size=TEXT_WIDTH,
            intermediate_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
        )
    ).eval()


def make_tokenizer() -> CLIPTokenizer:
    """CLIP's tokenizer with a vocabulary of six words and the real numbers of start and end."""
    letters = [chr(code) for code in range(97, 123)]
    vocabulary = {w: i for i, w in enumerate(["!", "&</w>", "cat</w>", *letters])}
    vocabulary |= {f"{x}</w>": len(vocabulary) + i for i, x in enumerate(letters)}
    vocabulary |= {"ca": 100, "<|startoftext|>": 49406, "<|endoftext|>": 49407}
    return CLIPTokenizer(vocab=vocabulary, merges=[("c", "a"), ("ca", "t</w>")])


def receive(snr_db: list[float], gain: list[float] | None = None) -> Received:
    """What arrives at SNRs 1/N0; nothing but the channel's state matters here."""
    gains = torch.tensor(gain or [1.0] * len(snr_db), dtype=torch.complex64)[:, None]
    state = ChannelState(gains, torch.tensor(snr_db))
    values = torch.ones(len(snr_db), 8, dtype=torch.complex64)
    return Received(values, (8, 8), Fraction(1, 128), state)


def generators(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]

"""Reference of the published WITT and SwinJSCC networks, on tensors under their published names.

Written from their formulas, window by window, for the tests alone; it shares no code with the
package.
"""

import math
import zlib

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

State = dict[str, Tensor]
WIDTHS, DEPTHS, HEADS = (8, 12), (2, 2), (2, 3)
WINDOW, HEAD, LAYERS, RATES = 2, 6, 7, (4, 8)


def _draw(name: str, *shape: int) -> Tensor:
    generator = np.random.RandomState(zlib.crc32(name.encode()))
    values = generator.standard_normal(shape) * (
        0.3 if len(shape) == 1 else 1 / math.sqrt(shape[-1])
    )
    if name.endswith(("norm.weight", "norm1.weight", "norm2.weight")):
        values = 1 + 0.2 * values
    return torch.from_numpy(values.astype(np.float32))


def _mask(side: int, stride: int) -> Tensor:
    """The published constant of shifted windows: 0 within a region, -100 between regions."""
    grid, shift = side // stride, WINDOW // 2
    region = torch.zeros(grid, dtype=torch.long)
    region[grid - WINDOW : grid - shift], region[grid - shift :] = 1, 2
    labels = 3 * region[:, None] + region
    tiles = labels.reshape(grid // WINDOW, WINDOW, grid // WINDOW, WINDOW).transpose(1, 2)
    flat = tiles.reshape(-1, WINDOW**2)
    return torch.where(flat[:, None] == flat[:, :, None], 0.0, -100.0)


def miniature(headed: bool = True, both: bool = False, side: int = 16) -> State:
    """State dict of a small codec of the published layout.

    Args:
        headed: whether the latent has a width of its own; the rate is adaptive otherwise.
        both: whether the encoder has a second modulation, for the SNR beside the rate.
        side: of the training images, which the constants are for.
    """
    state: State = {}

    def affine(name: str, inputs: int, outputs: int, bias: bool = True) -> None:
        state[f"{name}.weight"] = _draw(f"{name}.weight", outputs, inputs)
        if bias:
            state[f"{name}.bias"] = _draw(f"{name}.bias", outputs)

    def norm(name: str, width: int) -> None:
        for leaf in ("weight", "bias"):
            state[f"{name}.{leaf}"] = _draw(f"{name}.{leaf}", width)

    state["encoder.patch_embed.proj.weight"] = _draw("embed", WIDTHS[0], 3, 2, 2) / 2
    state["encoder.patch_embed.proj.bias"] = _draw("embed.bias", WIDTHS[0])
    for end, widths, heads in (("encoder", WIDTHS, HEADS), ("decoder", WIDTHS[::-1], HEADS[::-1])):
        for i, (width, number) in enumerate(zip(widths, heads, strict=True)):
            layer, stride = f"{end}.layers.{i}", 2 ** (i + 1 if end == "encoder" else 2 - i)
            for j in range(DEPTHS[i]):
                block = f"{layer}.blocks.{j}"
                norm(f"{block}.norm1", width)
                norm(f"{block}.norm2", width)
                table = f"{block}.attn.relative_position_bias_table"
                state[table] = _draw(table, (2 * WINDOW - 1) ** 2, number)
                index = torch.zeros(WINDOW**2, WINDOW**2, dtype=torch.long)
                state[f"{block}.attn.relative_position_index"] = index
                if j % 2:
                    state[f"{block}.attn_mask"] = _mask(side, stride)
                affine(f"{block}.attn.qkv", width, 3 * width)
                affine(f"{block}.attn.proj", width, width)
                affine(f"{block}.mlp.fc1", width, 4 * width)
                affine(f"{block}.mlp.fc2", 4 * width, width)
            if end == "encoder" and i:
                norm(f"{layer}.downsample.norm", 4 * widths[i - 1])
                affine(f"{layer}.downsample.reduction", 4 * widths[i - 1], width, bias=False)
            if end == "decoder":
                norm(f"{layer}.upsample.norm", width)
                after = (*widths[1:], 3)[i]
                affine(f"{layer}.upsample.increment", width, 4 * after, bias=False)
    norm("encoder.norm", WIDTHS[-1])
    lists = [("encoder", ""), ("decoder", ""), *([("encoder", "1")] if both else [])]
    for end, suffix in lists:
        width = WIDTHS[-1]
        hidden = int(1.5 * width)
        for i in range(LAYERS + 1):
            inputs, outputs = width if i == 0 else hidden, width if i == LAYERS else hidden
            affine(f"{end}.sm_list{suffix}.{i}", inputs, outputs)
        for i in range(LAYERS):
            for layer, inputs in ((0, 1), (2, hidden), (4, hidden)):
                affine(f"{end}.bm_list{suffix}.{i}.fc.{layer}", inputs, hidden)
    if headed:
        affine("encoder.head_list", WIDTHS[-1], HEAD)
        affine("decoder.head_list", HEAD, WIDTHS[-1])
    return state


class Reference:
    """The published networks, one image at a time.

    Args:
        state: tensors under their published names.
    """

    def __init__(self, state: State) -> None:
        self.state = state

    def linear(self, name: str, x: Tensor) -> Tensor:
        return F.linear(x, self.state[f"{name}.weight"], self.state.get(f"{name}.bias"))

    def norm(self, name: str, x: Tensor) -> Tensor:
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return F.layer_norm(x, x.shape[-1:], weight, bias)

    def block(self, name: str, x: Tensor, heads: int, shift: int) -> Tensor:
        """x [h, w, C]: attention within windows of the rolled grid, then the MLP."""
        height, width, channels = x.shape
        rolled = self.norm(f"{name}.norm1", x).roll((-shift, -shift), (0, 1))
        out = torch.empty_like(rolled)
        table = self.state[f"{name}.attn.relative_position_bias_table"]
        places = [(r, c) for r in range(WINDOW) for c in range(WINDOW)]
        rows = [
            [(r - s + WINDOW - 1) * (2 * WINDOW - 1) + c - d + WINDOW - 1 for s, d in places]
            for r, c in places
        ]
        bias = table[torch.tensor(rows)]
        for number, (top, left) in enumerate(
            (t, s) for t in range(0, height, WINDOW) for s in range(0, width, WINDOW)
        ):
            tokens = torch.stack([rolled[top + r, left + c] for r, c in places])
            qkv = self.linear(f"{name}.attn.qkv", tokens).reshape(len(places), 3, heads, -1)
            mixed = []
            for head in range(heads):
                q, k, v = (qkv[:, part, head] for part in range(3))
                score = q @ k.T / math.sqrt(channels // heads) + bias[..., head]
                if shift:
                    score = score + self.state[f"{name}.attn_mask"][number]
                mixed.append(score.softmax(-1) @ v)
            result = self.linear(f"{name}.attn.proj", torch.cat(mixed, -1))
            for place, (r, c) in enumerate(places):
                out[top + r, left + c] = result[place]
        x = x + out.roll((shift, shift), (0, 1))
        hidden = F.gelu(self.linear(f"{name}.mlp.fc1", self.norm(f"{name}.norm2", x)))
        return x + self.linear(f"{name}.mlp.fc2", hidden)

    def factors(self, end: str, suffix: str, x: Tensor, number: float) -> Tensor:
        """Modulation of a grid [h, w, C] by the SNR in dB, or by the number of channels."""
        m = x
        for i in range(LAYERS):
            gate = torch.tensor([float(number)])
            for layer in (0, 2, 4):
                gate = self.linear(f"{end}.bm_list{suffix}.{i}.fc.{layer}", gate)
                gate = gate.sigmoid() if layer == 4 else gate.relu()
            m = self.linear(f"{end}.sm_list{suffix}.{i}", m) * gate
        return self.linear(f"{end}.sm_list{suffix}.{LAYERS}", m).sigmoid()

    def encode(
        self, image: Tensor, snr_db: float, adaptation: str, rate: int = 0
    ) -> tuple[Tensor, Tensor | None]:
        """Latent [h, w, C] of an image [3, H, W], and the channels that are sent, if some are."""
        weight, bias = (
            self.state[f"encoder.patch_embed.proj.{leaf}"] for leaf in ("weight", "bias")
        )
        x = F.conv2d(image[None], weight, bias, stride=2)[0].permute(1, 2, 0)
        for i, heads in enumerate(HEADS):
            if i:
                corners = [x[r::2, c::2] for c in (0, 1) for r in (0, 1)]
                merged = self.norm(f"encoder.layers.{i}.downsample.norm", torch.cat(corners, -1))
                x = self.linear(f"encoder.layers.{i}.downsample.reduction", merged)
            for j in range(DEPTHS[i]):
                x = self.block(f"encoder.layers.{i}.blocks.{j}", x, heads, j % 2 * (WINDOW // 2))
        x = self.norm("encoder.norm", x)
        if adaptation == "snr+rate":
            x = x * self.factors("encoder", "1", x, snr_db)
        if adaptation == "snr":
            x = x * self.factors("encoder", "", x, snr_db)
        if "rate" not in adaptation:
            return self.linear("encoder.head_list", x), None
        factors = self.factors("encoder", "", x, rate)
        best = factors.sum((0, 1)).argsort(descending=True)[:rate]
        mask = torch.zeros(x.shape[-1])
        mask[best] = 1
        return x * factors * mask, mask

    @staticmethod
    def power(latent: Tensor, mask: Tensor | None) -> Tensor:
        """Power of a complex symbol before it is scaled to 1: twice that of a real value."""
        if mask is None:
            return 2 * latent.square().mean()
        sent = mask.sum() * latent.shape[0] * latent.shape[1]
        return 2 * latent.square().sum() / sent

    @staticmethod
    def deviation(snr_db: float) -> float:
        """Deviation of the noise in each real dimension of a symbol of power 1."""
        return math.sqrt(1 / (2 * 10 ** (snr_db / 10)))

    def decode(self, latent: Tensor, snr_db: float, adaptation: str) -> Tensor:
        """Image [3, H, W], not clamped, of a received latent [h, w, C] at its own power."""
        x = latent if "rate" in adaptation else self.linear("decoder.head_list", latent)
        if "snr" in adaptation:
            x = x * self.factors("decoder", "", x, snr_db)
        for i, heads in enumerate(HEADS[::-1]):
            for j in range(DEPTHS[i]):
                x = self.block(f"decoder.layers.{i}.blocks.{j}", x, heads, j % 2 * (WINDOW // 2))
            layer = f"decoder.layers.{i}.upsample"
            spread = self.linear(f"{layer}.increment", self.norm(f"{layer}.norm", x))
            x = F.pixel_shuffle(spread.permute(2, 0, 1)[None], 2)[0].permute(1, 2, 0)
        return x.permute(2, 0, 1)

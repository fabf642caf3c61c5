"""Self-attention in shifted windows, on grids of any size."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffjscc.data.geometry import padded_length


def partition(grid: Tensor, window: int) -> Tensor:
    """Partition [B, h, w, C] into windows [B, N, window², C], in row-major order."""
    batch, height, width, channels = grid.shape
    shape = (batch, height // window, window, width // window, window, channels)
    return grid.reshape(shape).transpose(2, 3).reshape(batch, -1, window**2, channels)


def merge_windows(windows: Tensor, window: int, columns: int) -> Tensor:
    """Merge windows [B, N, window², C], `columns` per row, to [B, h, w, C]."""
    batch, _, _, channels = windows.shape
    tiles = windows.reshape(batch, -1, columns, window, window, channels)
    return tiles.transpose(2, 3).reshape(batch, -1, columns * window, channels)


def attention_mask(
    size: tuple[int, int], window: int, shift: int, device: torch.device
) -> Tensor | None:
    """Compute which positions of a window may attend to each other.

    These are positions that are neighbours in the image; padding is excluded.

    Args:
        size: (h, w) of the grid before it is padded to whole windows and rolled by `shift`.
        window: side of a window in grid positions.
        shift: number of positions by which the grid is rolled up and left.
        device: device of the mask.

    Returns:
        bool [N, window², window²], True where attention is allowed; None where all of it is.
    """
    if shift == 0 and size[0] % window == 0 and size[1] % window == 0:
        return None
    regions = []
    for length in size:
        padded = padded_length(length, window)
        position = torch.arange(padded, device=device)
        wrapped = (position >= padded - shift).long()
        regions.append(torch.where((position + shift) % padded < length, wrapped, 2))
    labels = 3 * regions[0][:, None] + regions[1]
    flat = partition(labels[None, :, :, None], window)[0, :, :, 0]
    return flat[:, :, None] == flat[:, None, :]


class WindowAttention(nn.Module):
    """Self-attention in windows, with a learnt bias per relative position."""

    position_index: Tensor

    def __init__(self, width: int, heads: int, window: int, qkv_bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width, bias=qkv_bias)
        self.out = nn.Linear(width, width)
        self.position_bias = nn.Parameter(torch.empty((2 * window - 1) ** 2, heads))
        nn.init.trunc_normal_(self.position_bias, std=0.02)
        positions = torch.cartesian_prod(torch.arange(window), torch.arange(window))
        row, column = (positions[:, None] - positions[None] + window - 1).unbind(-1)
        self.register_buffer("position_index", row * (2 * window - 1) + column, persistent=False)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """Apply attention to windows [B, N, L, C] with mask [N, L, L] or None."""
        qkv = self.qkv(x).reshape(*x.shape[:3], 3, self.heads, -1)
        queries, keys, values = qkv.permute(3, 0, 1, 4, 2, 5)
        bias = self.position_bias[self.position_index].permute(2, 0, 1)
        if mask is not None:
            bias = bias.masked_fill(~mask[:, None], -torch.inf)
        y = F.scaled_dot_product_attention(queries, keys, values, attn_mask=bias.to(queries.dtype))
        out: Tensor = self.out(y.transpose(2, 3).flatten(3))
        return out


class SwinBlock(nn.Module):
    """Swin block: x + attention(norm(x)), then x + MLP(norm(x)), on windows rolled by `shift`.

    Liu et al., "Swin Transformer", arXiv 2103.14030. Grids are padded to a multiple of the window;
    the padding is masked, so that it costs no channel uses.
    """

    def __init__(
        self, width: int, heads: int, *, window: int, shift: int, mlp_ratio: float, qkv_bias: bool
    ) -> None:
        super().__init__()
        self.window, self.shift = window, shift
        self.norm1 = nn.LayerNorm(width)
        self.attention = WindowAttention(width, heads, window, qkv_bias)
        self.norm2 = nn.LayerNorm(width)
        hidden = int(mlp_ratio * width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        """Transform a grid [B, h, w, C] to the same shape."""
        x = x + self._attend(self.norm1(x))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out

    def _attend(self, x: Tensor) -> Tensor:
        height, width = x.shape[1:3]
        rows, columns = (padded_length(length, self.window) for length in (height, width))
        mask = attention_mask((height, width), self.window, self.shift, x.device)
        y = F.pad(x, (0, 0, 0, columns - width, 0, rows - height))
        y = partition(y.roll((-self.shift, -self.shift), (1, 2)), self.window)
        y = merge_windows(self.attention(y, mask), self.window, columns // self.window)
        return y.roll((self.shift, self.shift), (1, 2))[:, :height, :width]

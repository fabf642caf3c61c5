"""A codec whose likelihood is known: means of 2x2 pixels, two to a symbol."""

from fractions import Fraction

import torch
from torch import Tensor, nn

from diffjscc import Symbols, normalise_power
from diffjscc.symbols import Received

RATE = Fraction(1, 8)


class Pixels(nn.Module):
    """Sends means of 2x2 grey pixels, less one half, at unit power."""

    rates = (RATE,)

    def encode(self, images: Tensor, csi: object, rate: Fraction) -> Symbols:
        del csi
        means = nn.functional.avg_pool2d(images.mean(1), 2).flatten(1) - 0.5
        height, width = images.shape[-2:]
        return Symbols(normalise_power(torch.complex(*means.chunk(2, 1))), (height, width), rate)

    def decode(self, received: Received) -> Tensor:
        height, width = received.image_size
        values = received.equalised
        means = torch.cat((values.real, values.imag), 1).view(-1, 1, height // 2, width // 2)
        image = (0.2 * means + 0.5).clamp(0, 1).expand(-1, 3, -1, -1)
        return nn.functional.interpolate(image, scale_factor=2)


def smooth_images(count: int = 2, side: int = 32) -> Tensor:
    """Images [B, 3, side, side] of coarse random colours."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(5))
    return nn.functional.interpolate(coarse, size=(side, side), mode="bicubic").clamp(0, 1)

"""A codec, a dataset and losses as users write them, for tests of import strings."""

from fractions import Fraction

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffjscc.channels.power import normalise_power
from diffjscc.symbols import ChannelState, Received, Symbols


class TinyCodec(nn.Module):
    """Two convolutions; 16x16 pixels to `width`/2 symbols."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.down = nn.Conv2d(3, width, 16, stride=16)
        self.up = nn.ConvTranspose2d(width, 3, 16, stride=16)
        self.width = width

    @property
    def rates(self) -> tuple[Fraction, ...]:
        return (Fraction(self.width // 2, 256),)

    def encode(self, images: Tensor, csi: ChannelState, rate: Fraction) -> Symbols:
        height, width = images.shape[-2:]
        padded = F.pad(images, (0, -width % 16, 0, -height % 16), mode="replicate")
        real, imaginary = self.down(padded).flatten(2).chunk(2, dim=1)
        values = normalise_power(torch.complex(real, imaginary).flatten(1))
        most = -(-rate * height * width // 1)
        kinds = {"image": min(int(most), values.shape[1])}
        kinds["padding"] = values.shape[1] - kinds["image"]
        return Symbols(values, (height, width), rate, uses_by_kind=kinds)

    def decode(self, received: Received) -> Tensor:
        height, width = received.image_size
        size = -(-height // 16), -(-width // 16)
        grid = received.equalised.reshape(-1, self.width // 2, *size)
        images = self.up(torch.cat((grid.real, grid.imag), dim=1))
        return images[..., :height, :width].sigmoid()


def make_dataset(count: int = 5) -> list[dict[str, Tensor]]:
    """Noise-free gradients."""
    ramp = torch.linspace(0, 1, 48).expand(3, 40, 48)
    return [{"image": ramp * (n + 1) / count} for n in range(count)]


def edge_loss(reconstruction: Tensor, original: Tensor) -> Tensor:
    return (reconstruction.diff(dim=-1) - original.diff(dim=-1)).abs().mean()


class PowerLoss(nn.Module):
    """|error|^p, with a frozen weight of its own."""

    def __init__(self, power: float = 1.0) -> None:
        super().__init__()
        self.scale, self.power = nn.Parameter(torch.ones(())), power

    def forward(self, reconstruction: Tensor, original: Tensor) -> Tensor:
        return self.scale * (reconstruction - original).abs().pow(self.power).mean()


def per_image(reconstruction: Tensor, original: Tensor) -> Tensor:
    return (reconstruction - original).mean(dim=(1, 2, 3))


def infinite(reconstruction: Tensor, original: Tensor) -> Tensor:
    return (reconstruction - original).sum() * torch.inf


def make_encoder() -> nn.Module:
    return nn.Conv2d(3, 4, 16)

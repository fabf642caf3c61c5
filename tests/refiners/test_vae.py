"""The bundled VAE's last step: no lattice in flat areas, photographs as they were."""

from pathlib import Path

import matplotlib as mpl
import torch

from diffjscc.data.images import load_image
from diffjscc.refiners.vae import without_lattice


def test_a_lattice_is_taken_away_and_slopes_stay() -> None:
    rows, columns = torch.meshgrid(torch.arange(192.0), torch.arange(128.0), indexing="ij")
    slope = (0.3 + 0.002 * rows - 0.003 * columns).expand(1, 3, -1, -1)
    lattice = 0.01 * torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    lattice = (lattice - lattice.mean(dim=(2, 3), keepdim=True)).repeat(1, 1, 48, 32)
    inside = (..., slice(16, -16), slice(16, -16))
    torch.testing.assert_close(without_lattice(slope)[inside], slope[inside], atol=1e-3, rtol=0)
    left = (without_lattice(slope + lattice) - slope)[inside]
    assert left.square().mean().sqrt() < 0.1 * lattice.square().mean().sqrt()


def test_a_photograph_hardly_changes() -> None:
    path = Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    photograph = load_image(str(path))[None, :, :600, :512]
    changed = without_lattice(photograph) - photograph
    assert changed.square().mean().sqrt() < 1.5 / 255

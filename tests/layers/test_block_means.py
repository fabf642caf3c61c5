"""Block means and their pseudo-inverse."""

import torch

from diffjscc.layers.block_means import pool, replicate


def test_pooling_and_its_pseudo_inverse() -> None:
    image = torch.arange(6.0).reshape(1, 1, 2, 3)  # 0 1 2 / 3 4 5; the last column twice
    torch.testing.assert_close(pool(image, 2), torch.tensor([[[[2.0, 3.5]]]]))
    pooled = torch.rand(1, 3, 5, 7)
    torch.testing.assert_close(pool(replicate(pooled, 2)[..., :9, :14], 2), pooled)
    images = torch.rand(2, 3, 12, 18)
    for factor in (2, 3):
        once = replicate(pool(images, factor), factor)
        torch.testing.assert_close(replicate(pool(once, factor), factor), once)
        assert (once * (images - once)).sum().abs() < 1e-3  # an orthogonal projection

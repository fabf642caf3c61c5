"""Photographs by which a scheme's choices are set: as many of each place, at random."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from diffjscc.data.sources import ImageSource, Joined, Subset


def choose_photographs(sources: Sequence[ImageSource], count: int, seed: int) -> ImageSource:
    """Choose photographs, as many of each source as the others have, unless it has fewer.

    Args:
        sources: at least one.
        count: of photographs in all; the result has fewer where a source does.
        seed: decides which.
    """
    rng = np.random.default_rng(seed)
    shares = [
        count // len(sources) + (number < count % len(sources)) for number in range(len(sources))
    ]
    return Joined(
        [
            Subset(source, rng.permutation(len(source))[:share].tolist())
            for source, share in zip(sources, shares, strict=True)
        ]
    )

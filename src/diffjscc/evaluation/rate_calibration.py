"""Measurement of a rate policy's table: what a codec makes of photographs at each of its rates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from diffjscc.channels.awgn import AWGN
from diffjscc.codecs.content import content_features
from diffjscc.codecs.joint import JointCodec
from diffjscc.codecs.rate_policy import RatePredictor
from diffjscc.data.crops import random_crop
from diffjscc.data.sources import ImageSource
from diffjscc.scheme import Scheme

CROP = 288  # pixels a side, of larger photographs


@torch.no_grad()
def measure_rate_policy(
    scheme: Scheme,
    photographs: ImageSource,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> RatePredictor:
    """Send photographs at every rate, each at an SNR of its own, and fit the table to their PSNR.

    SNRs are uniform in the range of the codec's training, over AWGN.

    Args:
        scheme: of a neural codec of several rates, without a refiner.
        photographs: at least 8, better 200; of each a square of at most `CROP` pixels is sent.
        seed: of squares, SNRs and noise.
        progress: called with 1 after each photograph.

    Raises:
        ValueError: a codec of the user's own, or fewer than 8 photographs.
    """
    codec = scheme.codec
    if not isinstance(codec, JointCodec):
        raise ValueError(  # noqa: TRY004 - a setting, not a wrong call
            f"a rate policy is for the codecs of this package, not for {type(codec).__name__}"
        )
    rng = np.random.default_rng(seed)
    low, high = codec.snr_range_db
    features, snrs_db, psnr = [], [], []
    for index in range(len(photographs)):
        levels = photographs[index]
        crop = random_crop(levels, min(CROP, *levels.shape[:2]), rng)
        snr_db = float(rng.uniform(low, high))
        image = torch.from_numpy(np.array(crop)).permute(2, 0, 1)[None].float() / 255
        image = image.to(scheme.device)
        row = []
        for rate in codec.rates:
            generator = torch.Generator().manual_seed(int(rng.integers(1 << 62)))
            decoded = codec.decode(scheme.at_rate(rate).send(image, AWGN(snr_db), generator))
            row.append(-10 * np.log10(max(1e-12, float((decoded - image).square().mean()))))
        features.append(content_features(image)[0].cpu().numpy())
        snrs_db.append(snr_db)
        psnr.append(row)
        if progress is not None:
            progress(1)
    return RatePredictor.fit(
        codec.rates, np.array(features, dtype=float), np.array(snrs_db), np.array(psnr)
    )

"""Reception below the SNR of the training: bounded, and never worse than one mean colour."""

from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import pytest
import torch
from torch import Tensor

from diffjscc import AWGN, DiffJSCC, Rayleigh, Scheme
from diffjscc.codecs.joint import JointCodec
from diffjscc.codecs.low_snr import MEAN_COLOUR, bound_snr, signal_share
from diffjscc.data.images import load_image
from diffjscc.metrics.fidelity import psnr
from diffjscc.scheme import ChannelState

FALLING = (-5.0, -7.0, -10.0, -14.0, -20.0, -30.0, -45.0, -100.0, -200.0)


@pytest.fixture(scope="module")
def photograph() -> Tensor:
    path = Path(mpl.get_data_path()) / "sample_data" / "grace_hopper.jpg"
    return load_image(path)[None, :, 80:400, 100:420]


@pytest.fixture
def codec() -> JointCodec:
    codec = DiffJSCC.from_pretrained("compact", device="cpu", refiner=None).codec
    assert isinstance(codec, JointCodec)
    return codec


def received_psnr(codec: JointCodec, rate: int, image: Tensor, snr_db: float) -> float:
    scheme, noise = Scheme(codec, codec.rates[rate]), torch.Generator().manual_seed(1)
    return float(psnr(scheme(image, AWGN(snr_db), noise).image, image))


@pytest.mark.parametrize("rate", range(4))
@pytest.mark.filterwarnings("ignore:the SNR is outside")
def test_quality_falls_to_that_of_one_colour(
    codec: JointCodec, rate: int, photograph: Tensor
) -> None:
    mean = torch.tensor(MEAN_COLOUR)[:, None, None].expand_as(photograph)
    floor = float(psnr(mean, photograph))
    levels = [received_psnr(codec, rate, photograph, snr_db) for snr_db in FALLING]
    for higher, lower in pairwise(levels):
        assert lower < higher + 0.05
    assert min(levels) > floor - 0.1
    assert levels[-1] == pytest.approx(floor, abs=0.05)


@pytest.mark.filterwarnings("ignore:the SNR is outside")
def test_unbounded_reception_is_worse_and_at_last_no_image(
    codec: JointCodec, photograph: Tensor
) -> None:
    bounded = received_psnr(codec, 0, photograph, -12.0)
    codec.bounded = False
    assert received_psnr(codec, 0, photograph, -12.0) < bounded - 1
    with pytest.raises(ValueError, match="CompactJSCC gave hold NaN"):
        received_psnr(codec, 0, photograph, -60.0)


@pytest.mark.filterwarnings("ignore:the SNR is outside")
def test_deep_fades_give_images(codec: JointCodec, photograph: Tensor) -> None:
    scheme = Scheme(codec, codec.rates[0])
    images = photograph[..., :64, :64].repeat(64, 1, 1, 1)
    result = scheme(images, Rayleigh(-20.0), torch.Generator().manual_seed(3))
    assert bool(torch.isfinite(result.image).all())


def test_within_the_training_nothing_changes(codec: JointCodec, photograph: Tensor) -> None:
    scheme = Scheme(codec, codec.rates[1])
    images = []
    for bounded in (True, False):
        codec.bounded = bounded
        noise = torch.Generator().manual_seed(2)
        images.append(scheme(photograph, AWGN(-5.0), noise).image)
    assert torch.equal(*images)


def test_symbols_get_the_power_of_the_lowest_snr() -> None:
    noise = torch.randn(
        3, 200_000, dtype=torch.complex64, generator=torch.Generator().manual_seed(1)
    )
    snr_db = torch.tensor([-30.0, -8.0, 4.0])
    csi = ChannelState(torch.ones(3, 1, dtype=torch.complex64), snr_db)
    values = 1 + noise * csi.noise_power.sqrt()[:, None]
    scaled, bounded = bound_snr(values, csi, -5.0)
    power = scaled.abs().square().mean(dim=1)
    torch.testing.assert_close(bounded.snr_db, torch.tensor([-5.0, -5.0, 4.0]))
    torch.testing.assert_close(power, 1 + bounded.noise_power, rtol=0.01, atol=0)
    assert torch.equal(scaled[2], values[2])
    assert signal_share(snr_db, -5.0)[2] == 1

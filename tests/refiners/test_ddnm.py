"""DDNM: the pooled codec, the range-space replacement, the refiner as a whole."""

import shutil
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from diffjscc import AWGN, Scheme
from diffjscc.codecs.compact import CompactConfig, CompactJSCC
from diffjscc.codecs.pooled import PooledCodec
from diffjscc.data.images import load_image
from diffjscc.layers.block_means import pool, replicate
from diffjscc.metrics.fidelity import psnr
from diffjscc.metrics.lpips import LPIPS
from diffjscc.pretrained.ddnm import ddnm_from_pretrained
from diffjscc.pretrained.diffjscc import DiffJSCC
from diffjscc.pretrained.pretrained import open_weights, save_codec
from diffjscc.pretrained.storage import WeightsError
from diffjscc.protocols import SamplingRefiner
from diffjscc.refiners import sampling
from diffjscc.refiners.ddnm import DDNM, DDNMConfig, replace_range
from diffjscc.refiners.latents import decode, encode
from diffjscc.refiners.sampling import SamplerConfig
from diffjscc.refiners.text import TextFeatures
from locations import PHOTOGRAPHS
from toy_refiner import QUICK, generators, make_text_encoder, make_unet, make_vae, receive

SMALL = CompactConfig(widths=(16, 24), encoder_blocks=(1, 1), decoder_blocks=(1, 1))
SAMPLERS = ["ddpm", "ddim", "dpm-solver++", "unipc"]
DEVIATION = 0.2


class Unshuffle(nn.Module):
    """A VAE that loses nothing: 2x2 pixels to a latent position of twelve numbers."""

    quant_conv = None
    dtype = torch.float32
    config = SimpleNamespace(block_out_channels=(1, 1), scaling_factor=1.0)

    @staticmethod
    def encoder(pixels: Tensor) -> Tensor:
        cells = F.pixel_unshuffle(pixels, 2)
        return torch.cat((cells, torch.zeros_like(cells)), dim=1)

    @staticmethod
    def decode(latent: Tensor, return_dict: bool) -> tuple[Tensor]:
        return (F.pixel_shuffle(latent, 2),)


class OfGaussianImages(nn.Module):
    """The exact prior of images whose pixels, in [-1, 1], are N(0, DEVIATION²)."""

    device, dtype = torch.device("cpu"), torch.float32
    config = SimpleNamespace(block_out_channels=(1,), in_channels=12)
    down_blocks, mid_block = (), None

    def forward(self, z: Tensor, t: int, context: None, return_dict: bool) -> tuple[Tensor]:
        power = sampling.signal_powers(sampling.paper_scheduler())[t].item()
        return ((1 - power) ** 0.5 * z / (power * DEVIATION**2 + 1 - power),)


def exact_ddnm(name: str = "ddpm", steps: int = 20, **settings: int) -> DDNM:
    config = DDNMConfig(SamplerConfig(name, steps), **settings)
    return DDNM(Unshuffle(), OfGaussianImages(), config=config)


def toy_ddnm(text: bool = False, **settings: object) -> DDNM:
    """Stable Diffusion's classes, tiny and untrained."""
    torch.manual_seed(0)
    features = TextFeatures(make_text_encoder(), None) if text else None
    config = DDNMConfig(**{"sampler": QUICK, **settings})
    return DDNM(make_vae(), make_unet(text), text=features, config=config)


def blocks(height: int, width: int, batch: int = 1, factor: int = 2) -> tuple[Tensor, Tensor]:
    """Received means, and the initial image that a codec makes of them."""
    generator = torch.Generator().manual_seed(3)
    size = (batch, 3, -(-height // factor), -(-width // factor))
    pooled = 0.5 + 0.05 * torch.randn(size, generator=generator)
    return pooled, replicate(pooled, factor)[..., :height, :width]


@pytest.mark.parametrize("factor", [2, 3])
def test_the_range_is_replaced_and_the_null_space_stays(factor: int) -> None:
    images, pooled = torch.randn(2, 3, 12, 18), torch.rand(2, 3, 12 // factor, 18 // factor)
    replaced = replace_range(images, pooled, factor)
    torch.testing.assert_close(pool(replaced, factor), pooled)

    def null_space(x: Tensor) -> Tensor:
        return x - replicate(pool(x, factor), factor)

    torch.testing.assert_close(null_space(replaced), null_space(images))


@pytest.mark.parametrize("size", [(64, 96), (63, 95), (1, 1), (40, 33)])
def test_the_pooled_codec_uses_the_channel_as_the_codec_does(size: tuple[int, int]) -> None:
    plain = CompactJSCC(SMALL).eval().requires_grad_(False)
    pooled = PooledCodec(plain)
    assert pooled.rates == tuple(Fraction(1, n) for n in (512, 256, 128, 64))
    images, csi = torch.rand(2, 3, *size), AWGN(3.0).sample_state(2)
    height, width = size
    for rate in (Fraction(1, 128), Fraction(1, 64)):
        symbols = pooled.encode(images, csi, rate)
        assert (symbols.image_size, symbols.nominal_rate) == (size, rate)
        filled = torch.rand(2, 3, -(-height // 32) * 32, -(-width // 32) * 32)
        uses = plain.encode(filled, csi, rate).channel_uses
        assert symbols.channel_uses == sum(symbols.uses_by_kind.values()) == uses
        assert symbols.rate == uses / (height * width) >= rate
    assert Scheme(pooled, Fraction(1, 64))(images, AWGN(3.0)).image.shape == images.shape


def test_the_pooled_codec_is_the_codec_on_block_means() -> None:
    torch.manual_seed(0)
    codec = CompactJSCC(SMALL).eval().requires_grad_(False)
    images = torch.rand(2, 3, 61, 34)
    received = Scheme(PooledCodec(codec), Fraction(1, 64))(images, AWGN(9.0), generators(1, 2))
    small = Scheme(codec, Fraction(1, 16))(pool(images, 2), AWGN(9.0), generators(1, 2)).image
    assert torch.equal(received.image, replicate(small, 2)[..., :61, :34])


def test_what_the_pooled_codec_cannot_do_is_named() -> None:
    codec = CompactJSCC(SMALL).eval()
    with pytest.raises(ValueError, match="factor is 1; blocks have a side of at least 2"):
        PooledCodec(codec, 1)
    message = r"rate 1/16 is not one of 1/512, .*, 1/64: .* does not offer 1/4"
    with pytest.raises(ValueError, match=message):
        PooledCodec(codec).encode(
            torch.rand(1, 3, 8, 8), AWGN(0.0).sample_state(1), Fraction(1, 16)
        )
    with pytest.raises(ValueError, match="give floats of shape"):
        PooledCodec(codec).encode(torch.rand(3, 8, 8), AWGN(0.0).sample_state(1), Fraction(1, 64))


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_end_at_what_the_last_estimate_is_corrected_to(name: str) -> None:
    target = torch.randn(1, 4, 8, 8)
    z = sampling.sample(
        lambda z, t: torch.randn_like(z),
        sampling.paper_scheduler(),
        SamplerConfig(name, 6),
        sampling.gaussian((1, 4, 8, 8), generators(1)[0], "cpu"),
        correct=lambda clean, t: target,
    )
    torch.testing.assert_close(z, target, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", SAMPLERS)
def test_with_an_exact_prior_the_means_are_kept_and_the_rest_is_sampled(name: str) -> None:
    pooled, initial = blocks(64, 96)
    image = exact_ddnm(name, 50).refine(initial, receive([5.0]), generators(1)).image
    torch.testing.assert_close(pool(image, 2), pooled, rtol=0, atol=1e-4)
    drawn = (image - initial).square().mean().sqrt().item()
    # A pixel in [0, 1] has half the deviation; three of four dimensions are the null space's. Few
    # steps of DDPM make too little variety, as in test_sampling.
    expected = DEVIATION / 2 * 0.75**0.5
    tolerance = {"ddpm": 0.25, "ddim": 0.05}.get(name, 0.02)
    assert drawn == pytest.approx(expected, rel=tolerance)


def test_outside_its_window_the_prior_is_alone() -> None:
    pooled, initial = blocks(32, 32)

    def error(**window: int) -> float:
        image = exact_ddnm("ddpm", **window).refine(initial, receive([5.0]), generators(1)).image
        return (pool(image, 2) - pooled).abs().mean().item()

    early, never = error(last_t=500), error(first_t=998, last_t=998)
    assert error(first_t=500) < 1e-5  # what counts is the end
    assert 1e-3 < early < never


@pytest.mark.parametrize("size", [(1, 1), (7, 30), (33, 18)])
def test_images_of_any_size_keep_it_and_their_means(size: tuple[int, int]) -> None:
    pooled, initial = blocks(*size, batch=2)
    result = exact_ddnm("dpm-solver++", 8).refine(initial, receive([1.0, 5.0]), generators(1, 2))
    assert result.image.shape == result.initial.shape == initial.shape
    height, width = (n // 2 for n in size)  # blocks that lie in the image as a whole
    kept = pool(result.image, 2)[..., :height, :width]
    torch.testing.assert_close(kept, pooled[..., :height, :width], rtol=0, atol=1e-4)


def test_large_images_are_worked_on_in_tiles_that_agree() -> None:
    _, initial = blocks(40, 64)
    whole, tiled = (
        exact_ddnm("ddim", 5, tile=tile).refine(initial, receive([5.0]), generators(1)).image
        for tile in (128, 8)
    )
    torch.testing.assert_close(whole, tiled)


@pytest.mark.parametrize("text", [False, True])
def test_stable_diffusions_classes(text: bool) -> None:
    refiner = toy_ddnm(text)
    _, initial = blocks(22, 31, batch=2)
    reported: list[tuple[int, int]] = []
    refiner.progress = lambda done, total: reported.append((done, total))
    received = receive([1.0, 9.0])
    first = refiner.refine(initial, received, generators(1, 2)).image
    assert reported == [(1, 3), (2, 3), (3, 3)]
    assert first.shape == (2, 3, 22, 31)
    assert 0 <= first.min() <= first.max() <= 1
    assert torch.equal(first, refiner.refine(initial, received, generators(1, 2)).image)
    assert not torch.equal(first, refiner.refine(initial, received, generators(3, 4)).image)
    alone = refiner.refine(initial[1:], receive([9.0]), generators(2)).image
    torch.testing.assert_close(first[1:], alone, rtol=1e-4, atol=1e-4)
    assert not any(p.requires_grad for p in (*refiner.vae.parameters(), *refiner.unet.parameters()))
    half = refiner.to("cpu", torch.bfloat16, offload=True).refine(initial, received)
    assert refiner.unet.dtype == refiner.vae.dtype == torch.bfloat16
    assert half.image.dtype == torch.float32
    assert torch.isfinite(half.image).all()


def test_samples_of_one_image_differ_and_do_not_depend_on_their_number() -> None:
    refiner = toy_ddnm()
    assert isinstance(refiner, SamplingRefiner)
    assert (refiner.sampler_name, refiner.num_inference_steps) == ("ddpm", 3)
    _, initial = blocks(10, 12, batch=2)
    received = receive([1.0, 9.0])
    samples = refiner.sample(initial, received, 2, generators(1, 2, 3, 4))
    assert torch.equal(samples.initial, initial[[0, 0, 1, 1]])
    assert not torch.equal(samples.image[0], samples.image[1])
    alone = refiner.refine(initial, received, generators(2, 4)).image
    torch.testing.assert_close(samples.image[1::2], alone, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="2 generators for 4 samples"):
        refiner.sample(initial, received, 2, generators(1, 2))


def test_blocks_of_three_pixels() -> None:
    refiner = toy_ddnm(factor=3)
    assert refiner.multiple == 12
    _, initial = blocks(10, 17, factor=3)
    assert refiner.refine(initial, receive([5.0])).image.shape == initial.shape


def test_on_good_links_the_initial_image_is_kept() -> None:
    _, initial = blocks(16, 16, batch=2)
    received = receive([-10.0, 20.0])
    poor, rich = (received.rate * torch.log2(1 + 10 ** (received.snr_db / 10))).tolist()
    levels = ((poor, 0.5), (0.99 * rich, 0.0))
    refiner = toy_ddnm(sampler=SamplerConfig("ddim", 4, "initial", levels))
    image = refiner.refine(initial, received).image
    assert torch.equal(image[1], initial[1])
    assert not torch.equal(image[0], initial[0])
    assert torch.equal(refiner.refine(initial, receive([20.0, 20.0])).image, initial)


def test_invalid_settings_and_inputs_are_refused() -> None:
    for wrong, message in (
        ({"factor": 1}, "factor is 1; blocks have a side of at least 2"),
        ({"first_t": 10, "last_t": 20}, "from time step 10 to 20; give first_t"),
        ({"tile": 2}, "tile is 2 latent positions"),
    ):
        with pytest.raises(ValueError, match=message):
            DDNMConfig(**wrong)
    refiner = toy_ddnm()
    with pytest.raises(ValueError, match=r"not constant in blocks of 2x2 .* a PooledCodec"):
        refiner.refine(torch.rand(1, 3, 16, 16), receive([5.0]))
    with pytest.raises(ValueError, match="2 generators for 1 samples"):
        refiner.refine(blocks(16, 16)[1], receive([5.0]), generators(1, 2))
    scheduler = sampling.paper_scheduler()
    scheduler.register_to_config(prediction_type="v_prediction")
    with pytest.raises(ValueError, match="'v_prediction'; priors that predict noise"):
        DDNM(make_vae(), make_unet(), scheduler=scheduler)


def test_the_control_module_is_not_needed(tmp_path: Path) -> None:
    bare = tmp_path / "compact"
    shutil.copytree(open_weights("compact").folder, bare, ignore=shutil.ignore_patterns("control"))
    config = DDNMConfig(SamplerConfig("ddim", 1))
    scheme = ddnm_from_pretrained(bare, config=config, device="cpu")
    assert scheme.rate == Fraction(1, 512)
    assert scheme.provenance == ddnm_from_pretrained(device="cpu").provenance
    with pytest.raises(WeightsError, match="lacks control/"):
        DiffJSCC.from_pretrained(bare, device="cpu")
    image = scheme(torch.rand(1, 3, 48, 40), AWGN(5.0)).image
    assert image.shape == (1, 3, 48, 40)


def test_weights_that_do_not_fit_are_named(tmp_path: Path) -> None:
    save_codec(CompactJSCC(SMALL), tmp_path)
    with pytest.raises(WeightsError, match="have no prior, which DDNM samples"):
        ddnm_from_pretrained(tmp_path, device="cpu")
    with pytest.raises(ValueError, match=r"rate 1/16 is not one of .*1/64 \(compact@"):
        ddnm_from_pretrained(rate="1/16", device="cpu")


def roughness(images: Tensor) -> float:
    """Mean absolute difference of neighbouring pixels, horizontal and vertical."""
    return sum(images.diff(dim=dim).abs().mean().item() for dim in (-2, -1))


def test_on_a_photograph_the_bundled_prior_sharpens_and_keeps_the_means() -> None:
    original = load_image(PHOTOGRAPHS / "astronaut.webp")[None, :, 128:384, 128:384]
    config = DDNMConfig(SamplerConfig("ddpm", 10))
    scheme = ddnm_from_pretrained("compact", "1/64", config=config, device="cpu")
    received = scheme.send(original, AWGN(10.0), generators(1))
    image, initial = (result := scheme.decode(received, generators(2))).image, result.initial
    assert 1.3 * roughness(initial) < roughness(image) < roughness(original)
    # The decoder generates texture of its own, which lowers PSNR.
    assert psnr(image, original) > psnr(initial, original) - 1.0
    lpips = LPIPS.load("squeeze")
    assert lpips(image, original) < 0.85 * lpips(initial, original)
    vae = scheme.refiner.vae
    round_trip = decode(vae, encode(vae, initial, 128).mean, 128)

    def error(decoded: Tensor) -> float:
        return pool(decoded - initial, 2).square().mean().sqrt().item()

    assert error(image) < 1.1 * error(round_trip)
    # With 16 numbers for the 192 means of a latent position, little is left to sample.
    other = scheme.decode(received, generators(3)).image
    assert 0 < (image - other).abs().mean() < 0.5 / 255

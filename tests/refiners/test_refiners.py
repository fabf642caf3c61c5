"""The diffusion receiver as a whole: conditions, sampling, colours, refused inputs."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from diffjscc.data.images import load_image
from diffjscc.layers.tiling import tile_windows
from diffjscc.refiners import captions, colour, sampling
from diffjscc.refiners.config import DiffusionConfig
from diffjscc.refiners.devices import Placement
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.guidance import GuidanceConfig
from diffjscc.refiners.latents import ConditionEncoder, decode
from diffjscc.refiners.sampling import SamplerConfig, at_bits
from diffjscc.symbols import Received
from locations import PHOTOGRAPHS
from toy_refiner import QUICK, generators, make_control, make_refiner, make_unet, make_vae, receive


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def test_an_images_result_does_not_depend_on_its_batch() -> None:
    refiner = make_refiner(
        sampler=SamplerConfig("ddpm", 6, "initial", ((0.2, 0.9), (0.6, 0.2))),
        latent_guidance=GuidanceConfig(20.0, target="sample"),
    )
    initial = torch.rand(3, 3, 20, 28)
    # In this fade every image has an effective SNR, and a first step, of its own.
    snr_db, gain = [14.0, 3.0, 14.0], [0.9, 1.2, 0.3]
    together = refiner.refine(initial, receive(snr_db, gain), generators(7, 8, 9)).image
    for i in range(3):
        received = receive(snr_db[i : i + 1], gain[i : i + 1])
        alone = refiner.refine(initial[i : i + 1], received, generators(7 + i)).image
        torch.testing.assert_close(alone[0], together[i], rtol=1e-4, atol=1e-5)
    again = refiner.refine(initial, receive(snr_db, gain), generators(7, 8, 9)).image
    torch.testing.assert_close(again, together, rtol=0, atol=0)
    other = refiner.refine(initial, receive(snr_db, gain), generators(1, 8, 9)).image
    assert (other[0] - together[0]).abs().max() > 1e-3
    torch.testing.assert_close(other[1:], together[1:], rtol=1e-4, atol=1e-5)


def test_the_control_module_is_conditioned_on_the_effective_snr() -> None:
    refiner = make_refiner(sampler=SamplerConfig("ddpm", 1))
    seen = []
    refiner.denoiser.control.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[3]))
    refiner.refine(torch.rand(2, 3, 8, 8), receive([6.0, 6.0], [1.0, 0.7071068]))
    torch.testing.assert_close(seen[0], torch.tensor([6.0, 2.99]), rtol=0, atol=0.001)
    with pytest.warns(UserWarning, match="outside the range of 0 to 14 dB that the control"):
        refiner.refine(torch.rand(2, 3, 8, 8), receive([6.0, 20.0], [0.01, 1.0]))
    torch.testing.assert_close(seen[1], torch.tensor([0.0, 14.0]))
    refiner.config = replace(refiner.config, clamp_snr=False)
    with pytest.warns(UserWarning, match="module was trained for; it is used as it is"):
        refiner.refine(torch.rand(2, 3, 8, 8), receive([-6.0, 20.0]))
    torch.testing.assert_close(seen[2], torch.tensor([-6.0, 20.0]))


def test_at_control_scale_0_the_prior_is_alone() -> None:
    initial, received = torch.rand(1, 3, 16, 16), receive([5.0])
    alone = make_refiner(control_scale=0.0, colour_fix="none")
    image = alone.refine(initial, received, generators(1)).image
    other_image = alone.refine(1 - initial, received, generators(1)).image
    torch.testing.assert_close(image, other_image, rtol=0, atol=0)
    steered = make_refiner(control_scale=1.0, colour_fix="none")
    assert (steered.refine(initial, received, generators(1)).image - image).abs().max() > 1e-3


def test_control_guidance_leads_away_from_the_prior_alone() -> None:
    refiner = make_refiner(control_scale=0.8)
    z, condition = torch.randn(2, 2, 4, 8, 8)
    snr_db = torch.tensor([3.0, 9.0])

    def predict(**changed: float) -> Tensor:
        refiner.config = replace(refiner.config, **changed)
        return refiner.predict_noise(z, 500, condition, snr_db, None)

    with torch.no_grad():
        steered, alone = predict(), predict(control_scale=0.0)
        guided = predict(control_scale=0.8, control_guidance_scale=1.5)
        none = predict(control_guidance_scale=0.0)
    assert (steered - alone).abs().max() > 1e-3
    torch.testing.assert_close(guided, alone + 1.5 * (steered - alone))
    torch.testing.assert_close(none, alone)


def test_decode_noise_is_white_and_of_its_deviation() -> None:
    initial, received, decoded = torch.rand(2, 3, 64, 64), receive([3.0, 13.0]), []
    poor, good = bits_per_pixel(received)
    curve = ((poor, 0.4), (good, 0.1))
    for noisy in (False, True, True):
        refiner = make_refiner(decode_noise=curve) if noisy else make_refiner()
        refiner.vae.post_quant_conv.register_forward_pre_hook(lambda _, z: decoded.append(z[0]))
        refiner.refine(initial, received, generators(1, 2))
    smooth, grainy, again = decoded
    torch.testing.assert_close(again, grainy, rtol=0, atol=0)
    noise = (grainy - smooth).flatten(1) * refiner.vae.config.scaling_factor
    tolerance = 4 / noise.shape[1] ** 0.5
    torch.testing.assert_close(noise.mean(1), torch.zeros(2), rtol=0, atol=0.4 * tolerance)
    torch.testing.assert_close(noise.std(1), torch.tensor([0.4, 0.1]), rtol=tolerance, atol=0)
    assert torch.corrcoef(noise)[0, 1].abs() < tolerance
    with pytest.raises(ValueError, match=r"decode_noise is .*; values are in \[0, 1\]"):
        make_refiner(decode_noise=((1.0, 1.1),))


def test_detail_that_the_vae_loses_is_given_back_by_the_links_bits() -> None:
    curve = ((0.05, 0.0), (0.1, 0.0), (0.4, 1.0))
    initial = 0.4 + 0.2 * torch.rand(2, 3, 16, 16)
    received = receive([3.0, 3.0], [0.5, 1.0])  # below the curve, and within it
    plain, giving = (make_refiner(colour_fix="none", **more) for more in ({}, {"detail": curve}))
    before, after = (
        refiner.refine(initial, received, generators(1, 2)).image for refiner in (plain, giving)
    )
    torch.testing.assert_close(after[0], before[0], rtol=0, atol=1e-6)
    with torch.no_grad():
        lost = initial - decode(plain.vae, plain.posterior(initial).mean, 128)
    bits = bits_per_pixel(received)[1]
    part = at_bits(curve, bits)
    assert 0.05 < part < 0.95
    inside = (after[1] > 0) & (after[1] < 1) & (before[1] > 0) & (before[1] < 1)
    assert inside.float().mean() > 0.5
    gained = (after[1] - before[1])[inside]
    torch.testing.assert_close(gained, (part * lost[1])[inside], rtol=1e-3, atol=1e-4)
    assert gained.abs().max() > 0.01


def test_conditions_are_computed_once_for_all_steps_and_samples() -> None:
    refiner = make_refiner(text=True)
    refiner.captioner = captions.FixedCaption("a cat")
    assert refiner.text is not None
    runs = {"vae": 0, "text": 0, "control": 0}
    networks = {
        "vae": refiner.vae.encoder,
        "text": refiner.text.encoder,
        "control": refiner.denoiser.control,
    }
    for name, network in networks.items():

        def count(*_: object, name: str = name) -> None:
            runs[name] += 1

        network.register_forward_hook(count)
    initial = torch.rand(2, 3, 8, 8)
    samples = refiner.sample(initial, receive([1.0, 2.0]), 3, generators(*range(6)))
    assert runs == {"vae": 1, "text": 1, "control": QUICK.num_inference_steps}
    assert samples.image.shape == (6, 3, 8, 8)
    assert samples.caption == ["a cat"] * 6
    torch.testing.assert_close(samples.initial, initial.repeat_interleave(3, dim=0))
    second = refiner.refine(initial[1:], receive([2.0]), generators(4)).image
    torch.testing.assert_close(samples.image[4:5], second, rtol=1e-4, atol=1e-5)
    assert (samples.image[0] - samples.image[1]).abs().max() > 1e-3
    with pytest.raises(ValueError, match="2 generators for 6 samples"):
        refiner.sample(initial, receive([1.0, 2.0]), 3, generators(1, 2))


def bits_per_pixel(received: Received) -> list[float]:
    """Channel capacity per pixel of each image, in bits."""
    return (received.rate * torch.log2(1 + 10 ** (received.snr_db / 10))).tolist()


def test_progress_counts_all_steps() -> None:
    received = receive([0.0, 14.0, 0.0])
    poor, rich, _ = bits_per_pixel(received)
    levels = ((poor, 0.9), (rich, 0.2))
    refiner = make_refiner(sampler=SamplerConfig("ddim", 10, "initial", levels))
    told: list[tuple[int, int]] = []
    refiner.progress = lambda done, total: told.append((done, total))
    refiner.refine(torch.rand(3, 3, 8, 8), received)
    sampler, scheduler = refiner.config.sampler, refiner.scheduler
    late, later = (10 - sampling.begin_index(sampler, scheduler, level) for level in (0.9, 0.2))
    assert 10 > late > later > 0
    assert told == [(done, late + later) for done in range(1, late + later + 1)]


def test_previews_come_closer_to_the_final_image_and_change_nothing() -> None:
    received = receive([0.0, 3.0])
    refiner = make_refiner(sampler=SamplerConfig("ddim", 6, "noise"))
    initial = torch.rand(2, 3, 13, 21)
    plain = refiner.refine(initial, received, generators(1, 2)).image
    seen: list[torch.Tensor] = []
    refiner.preview = lambda decode: seen.append(decode())
    shown = refiner.refine(initial, received, generators(1, 2)).image
    assert torch.equal(shown, plain)
    assert len(seen) == 6
    assert all(image.shape == initial.shape for image in seen)
    assert all(image.min() >= 0 and image.max() <= 1 for image in seen)
    errors = [float((image - plain).square().mean()) for image in seen]
    assert errors[-1] < 0.5 * errors[0]


def test_where_the_link_tells_enough_the_initial_image_stays() -> None:
    received = receive([0.0, 14.0])
    poor, rich = bits_per_pixel(received)
    levels = ((poor, 0.5), (0.99 * rich, 0.0))
    refiner = make_refiner(sampler=SamplerConfig("ddim", 4, "initial", levels))
    initial = torch.rand(2, 3, 24, 24)
    image = refiner.refine(initial, received).image
    assert torch.equal(image[1], initial[1])
    assert (image[0] - initial[0]).abs().mean() > 1e-3
    both = refiner.refine(initial, receive([14.0, 14.0])).image
    assert torch.equal(both, initial)


@pytest.mark.parametrize("size", [(1, 1), (7, 30), (33, 18)])
def test_images_of_any_size_keep_it(size) -> None:
    refiner = make_refiner(sampler=SamplerConfig("unipc", 2))
    result = refiner.refine(torch.rand(1, 3, *size), receive([5.0]))
    assert result.image.shape == (1, 3, *size)
    assert result.image.min() >= 0
    assert result.image.max() <= 1
    assert result.caption is None


def test_the_released_geometry_enlarges_pads_and_restores() -> None:
    refiner = make_refiner(sampler=SamplerConfig("unipc", 1), geometry="released")
    images = torch.rand(1, 3, 3, 4)
    images = torch.nn.functional.interpolate(images, (30, 41), mode="bilinear")
    prepared = refiner.prepare(images).whole()
    assert prepared.shape == (1, 3, 512, 700)
    painted = refiner.restore(iter([prepared]), (30, 41))
    assert (painted - images).abs().mean() < 0.02
    torch.testing.assert_close(painted * 255, (painted * 255).round(), atol=1e-4, rtol=0)


def test_another_condition_encoder_is_used_where_there_is_one() -> None:
    unet = make_unet()
    parts = {"block_out_channels": (8, 16), "down_block_types": ("DownEncoderBlock2D",) * 2}
    encoder = ConditionEncoder(**parts, layers_per_block=1, norm_num_groups=8)
    refiner = ControlledDiffusion(
        make_vae(), unet, make_control(unet), condition_encoder=encoder.eval()
    )
    images = torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        mean = encoder(2 * images - 1).chunk(2, dim=1)[0]
        torch.testing.assert_close(refiner.condition(images), 0.18215 * mean)
    assert not any(p.requires_grad for p in encoder.parameters())


def test_half_precision_gives_nearly_the_same_image() -> None:
    initial, received = torch.rand(1, 3, 16, 16), receive([5.0])
    refiner = make_refiner()
    full = refiner.refine(initial, received, generators(1)).image
    half = refiner.to("cpu", torch.bfloat16, offload=True)
    assert half.vae.dtype == half.denoiser.unet.dtype == torch.bfloat16
    image = half.refine(initial, received, generators(1)).image
    assert image.dtype == torch.float32
    assert (image - full).abs().mean() < 0.02
    assert refiner.to("cpu").vae.dtype == torch.float32


def test_offloaded_networks_are_on_the_device_only_while_they_work() -> None:
    class Watched(nn.Module):
        def to(self, *places: object) -> "Watched":
            moves.append(str(places[0]))
            return self

    moves: list[str] = []
    with Placement(torch.device("meta"), offload=True).holding(Watched(), None):
        assert moves == ["meta"]
    assert moves == ["meta", "cpu"]
    with pytest.raises(KeyError), Placement(torch.device("meta"), True).holding(Watched()):
        raise KeyError
    assert moves[-1] == "cpu"
    moves.clear()
    with Placement(torch.device("meta")).holding(Watched()):
        pass
    assert moves == ["meta"]


def largest_step(x: Tensor) -> tuple[Tensor, Tensor]:
    """Largest absolute difference of neighbours in each row and column gap."""
    return x.diff(dim=-2).abs().amax(dim=(0, 1, 3)), x.diff(dim=-1).abs().amax(dim=(0, 1, 2))


def test_images_beyond_the_tile_size_show_no_seams() -> None:
    image = load_image(PHOTOGRAPHS / "coffee.webp")[None, :, 128:256, 256:448]
    whole, tiled = make_refiner(), make_refiner(tile=32)
    # Contrast makes what group norms do to tiles differ, as it does in real networks.
    prepared = whole.prepare(image)
    with torch.no_grad():
        latents = [r.posterior(prepared).mean for r in (whole, tiled)]
        decoded = [decode(r.vae, latents[0], r.config.tile) for r in (whole, tiled)]
        z, snr_db = torch.randn_like(latents[0]), torch.tensor([5.0])
        noises = [r.predict_noise(z, 400, latents[0], snr_db, None) for r in (whole, tiled)]
    for (expected, got), cell in ((latents, 1), (decoded, 2), (noises, 1)):
        difference = got - expected
        assert difference.abs().max() > 1e-6
        for steps, length in zip(largest_step(difference), latents[0].shape[-2:], strict=True):
            borders = {w.start * cell - 1 for w in tile_windows(length, 32)}
            borders |= {w.stop * cell - 1 for w in tile_windows(length, 32)}
            at_borders = [i for i in borders if 0 <= i < len(steps)]
            assert at_borders
            # No step at a tile's border stands out from the smooth change between tiles.
            assert steps[at_borders].max() <= 1.5 * steps.quantile(0.95)


def test_the_wavelet_fix_takes_colours_and_leaves_detail() -> None:
    image = load_image(PHOTOGRAPHS / "chelsea.webp")[None, :, :96, :96]
    cast = torch.tensor([0.2, -0.1, 0.05])[None, :, None, None]
    torch.testing.assert_close(colour.wavelet(image + cast, image), image)
    reference = colour.low_frequencies(image)
    fixed = colour.wavelet(image, torch.flip(reference, dims=[1]))
    detail = image - colour.low_frequencies(image)
    kept = fixed - colour.low_frequencies(fixed)
    assert (kept - detail).abs().mean() < 0.3 * detail.abs().mean()
    assert colour.wavelet(image[..., :1, :1], reference[..., :1, :1]).shape[-2:] == (1, 1)


def test_adain_gives_the_reference_mean_and_deviation() -> None:
    images, reference = torch.rand(2, 3, 20, 20), 0.2 * torch.rand(2, 3, 20, 20)
    fixed = colour.adain(images, reference)
    dims = (2, 3)
    torch.testing.assert_close(fixed.mean(dims), reference.mean(dims))
    torch.testing.assert_close(fixed.std(dims), reference.std(dims), rtol=5e-3, atol=0)


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ValueError, match="colour_fix is 'sepia'; known: wavelet, adain, none"):
        DiffusionConfig(colour_fix="sepia")
    with pytest.raises(ValueError, match="geometry is 'round'; known: reflect, released"):
        DiffusionConfig(geometry="round")
    with pytest.raises(ValueError, match="tile is 2 latent positions"):
        DiffusionConfig(tile=2)
    with pytest.raises(ValueError, match="latent guidance scale is -1"):
        GuidanceConfig(scale=-1)
    scheduler = sampling.paper_scheduler()
    scheduler.register_to_config(prediction_type="v_prediction")
    unet = make_unet()
    with pytest.raises(ValueError, match="'v_prediction'; priors that predict noise"):
        ControlledDiffusion(make_vae(), unet, make_control(unet), scheduler=scheduler)

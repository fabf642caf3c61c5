"""The control module: what it hears, what it changes, what it learns from."""

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from diffjscc.refiners.control import ControlModule, Denoiser
from toy_refiner import TEXT_WIDTH, make_control, make_refiner, make_unet


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.mark.parametrize("text", [False, True])
def test_an_untrained_control_module_leaves_the_prior_alone(text: bool) -> None:
    unet = make_unet(text).eval()
    denoiser = Denoiser(unet, ControlModule.for_prior(unet).eval())
    z, f = torch.randn(2, 4, 8, 12), torch.randn(2, 4, 8, 12)
    t, snr_db = torch.tensor([3, 900]), torch.tensor([0.0, 9.0])
    context = torch.randn(2, 5, TEXT_WIDTH) if text else None
    torch.testing.assert_close(denoiser(z, t, f, snr_db, context), unet(z, t, context).sample)


def test_an_untrained_control_module_sees_what_the_prior_sees() -> None:
    unet = make_unet()
    control = ControlModule.for_prior(unet)
    nn.init.dirac_(control.controlnet_down_blocks[0].weight)
    z, f = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    skips, _ = control(z, torch.tensor([9]), f, torch.tensor([3.0]), None)
    torch.testing.assert_close(skips[0], unet.conv_in(z))


def test_condition_snr_and_control_scale_steer_the_prior() -> None:
    unet = make_unet()
    denoiser = Denoiser(unet, make_control(unet)).eval()
    z, f, t = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8), torch.tensor([500])

    def predict(condition: Tensor, snr_db: float, control_scale: float = 1.0) -> Tensor:
        with torch.no_grad():
            return denoiser(
                z, t, condition, torch.tensor([snr_db]), None, control_scale=control_scale
            )

    base, alone = predict(f, 5.0), unet(z, t, None).sample
    for other in (predict(f + 1, 5.0), predict(f, 6.0), predict(f, 5.0, 0.5)):
        assert (other - base).abs().max() > 1e-3
    torch.testing.assert_close(predict(f, 5.0, 0.0), alone)


def test_without_snr_embedding_the_snr_is_not_heard() -> None:
    unet = make_unet()
    control = make_control(unet, snr_embedding=False)
    z, t = torch.randn(1, 4, 8, 8), torch.tensor([500])
    one, other = (control(z, t, z, torch.tensor([snr]), None)[1] for snr in (0.0, 14.0))
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_in_bfloat16_the_snr_is_embedded_in_float32() -> None:
    # 100·13.7 = 1370 is 1368 in bfloat16, two radians off: nothing like the right embedding.
    control = make_control(make_unet())
    z, t, snr_db = torch.randn(1, 4, 8, 8), torch.tensor([500]), torch.tensor([13.7])
    exact = control(z, t, z, snr_db, None)[1]
    rough = control(z, t, z, (100 * snr_db).bfloat16().float() / 100, None)[1]
    half = control.bfloat16()(z.bfloat16(), t, z.bfloat16(), snr_db, None)[1].float()
    assert (half - exact).abs().max() < 0.3 * (rough - exact).abs().max()


def test_saved_control_modules_load_again(tmp_path: Path, capfd) -> None:
    unet = make_unet()
    control = ControlModule.for_prior(unet, snr_scale=1.0, min_snr=-5.0, snr_range_db=(-5, 5))
    control.save_pretrained(tmp_path)
    loaded = ControlModule.from_pretrained(tmp_path)
    for name, value in control.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=0, atol=0)
    assert loaded.config.min_snr == -5
    assert tuple(loaded.config.snr_range_db) == (-5, 5)
    assert "controlnet_conditioning_channel_order" not in (tmp_path / "config.json").read_text()
    assert "not expected" not in capfd.readouterr().err
    Denoiser(unet, loaded)


def test_the_control_module_of_another_prior_is_refused() -> None:
    with torch.device("meta"):
        other = ControlModule()
    with pytest.raises(ValueError, match=r"another prior: its block_out_channels is \[320, "):
        Denoiser(make_unet(), other)


def test_only_the_control_module_gets_gradients() -> None:
    refiner = make_refiner()
    unet, control = refiner.denoiser.unet, refiner.denoiser.control
    needed = []
    for block in (*unet.down_blocks, *unet.up_blocks):
        block.register_forward_hook(lambda block, _, out: needed.append((block, out)))
    z, t = torch.randn(2, 4, 8, 8), torch.tensor([10, 700])
    noise = refiner.denoiser(z, t, z, torch.tensor([1.0, 9.0]), None)
    noise.square().mean().backward()
    assert all(p.grad is None for p in (*unet.parameters(), *refiner.vae.parameters()))
    assert all(p.grad is not None for p in control.parameters())
    # The prior's encoder sees nothing trained, so not even its activations are kept.
    down = [out[0] for block, out in needed if block in set(unet.down_blocks)]
    assert down
    assert not any(out.requires_grad for out in down)


@pytest.mark.parametrize("text", [False, True])
def test_guidance_runs_the_priors_encoder_once(text: bool) -> None:
    unet = make_unet(text).eval()
    denoiser = Denoiser(unet, make_control(unet)).eval()
    z, f = torch.randn(2, 4, 8, 12), torch.randn(2, 4, 8, 12)
    t, snr_db = torch.tensor([3, 900]), torch.tensor([0.0, 9.0])
    context = torch.randn(2, 5, TEXT_WIDTH) if text else None
    rows = []
    for block in (unet.conv_in, unet.mid_block, unet.conv_out):
        block.register_forward_hook(lambda _, __, out: rows.append(len(out)))

    def predict(control_scale: float, guidance_scale: float = 1.0) -> Tensor:
        with torch.no_grad():
            return denoiser(
                *(z, t, f, snr_db, context),
                control_scale=control_scale,
                guidance_scale=guidance_scale,
            )

    guided = predict(1.0, 2.5)
    assert rows == [2, 2, 4]
    controlled, prior = predict(1.0), predict(0.0)
    torch.testing.assert_close(guided, prior + 2.5 * (controlled - prior))

"""The paper's two codecs against numbers recorded from the released implementation."""

import warnings
from dataclasses import dataclass, replace
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from diffjscc.channels import AWGN, Rayleigh
from diffjscc.codecs import deepjscc, swin
from diffjscc.codecs.deepjscc import DeepJSCC, DeepJSCCConfig
from diffjscc.codecs.joint import JointCodec
from diffjscc.codecs.swin import SwinJSCC, SwinJSCCConfig
from diffjscc.codecs.windows import SwinBlock, attention_mask
from diffjscc.scheme import Scheme
from diffjscc.symbols import ChannelState, Received
from recordings import recorded_numbers, recorded_tensors

RATE = Fraction(1, 128)
CODECS = ["jscc_cnn_tiny_awgn", "jscc_cnn_tiny_rayleigh", "jscc_swin_tiny_w2"]


def close(actual: Tensor, expected: Tensor) -> None:
    torch.testing.assert_close(actual, expected, rtol=1e-4, atol=1e-4)


@dataclass
class Recording:
    """A codec with recorded weights, and what the released one did with them."""

    codec: JointCodec
    weights: dict[str, Tensor]
    tensors: dict[str, Tensor]
    keys: dict[str, str]

    @property
    def images(self) -> Tensor:
        return self.tensors["image_u8"].float() / 255

    def as_complex(self, name: str) -> Tensor:
        """[B, K] in the order of `Symbols`: channel first, then row, then column."""
        values = torch.complex(self.tensors[f"{name}.real"], self.tensors[f"{name}.imag"])
        return (values.transpose(1, 2) if values.ndim == 3 else values).flatten(1)

    def as_latent(self, name: str) -> Tensor:
        """[B, C, h, w]; the Swin codec's tensors are [B, h·w, C]."""
        values, size = self.tensors[name], self.images.shape[-2] // 16
        return values if values.ndim == 4 else values.transpose(1, 2).unflatten(2, (size, -1))

    @property
    def state(self) -> ChannelState:
        snr_db = self.tensors["snr_db"][:, 0]
        return ChannelState(self.as_complex("h"), snr_db, transmitter_csi=True)

    def receive(self) -> Received:
        """What arrives when our encoder's symbols meet the recorded fade and noise."""
        symbols = self.codec.encode(self.images, self.state, RATE)
        values = self.state.gain * symbols.values + self.as_complex("noise")
        return symbols.received(values, self.state)


def empty_codec(name: str, settings: dict) -> JointCodec:
    if "swin" in name:
        return SwinJSCC(
            SwinJSCCConfig(
                channels=settings["bottleneck_dim"],
                encoder_widths=tuple(settings["embed_dims"]),
                encoder_depths=tuple(settings["depths"]),
                encoder_heads=tuple(settings["num_heads"]),
                decoder_widths=tuple(settings["embed_dims_d"]),
                decoder_depths=tuple(settings["depths_d"]),
                decoder_heads=tuple(settings["num_heads_d"]),
                window=settings["window_size"],
                mlp_ratio=settings["mlp_ratio"],
                qkv_bias=settings["qkv_bias"],
                trained_size=(settings["img_size_h"], settings["img_size_w"]),
            )
        )
    return DeepJSCC(
        DeepJSCCConfig(
            channels=settings["C_channel"],
            base_width=settings["ngf"],
            encoder_width=settings["max_ngf_E"],
            decoder_width=settings["max_ngf_D"],
            downsamplings=settings["n_downsample"],
            encoder_blocks=settings["n_blocks_E"],
            decoder_blocks=settings["n_blocks_D"],
            csi="snr+gain" if settings["channel"] == "Rayleigh" else "snr",
        )
    )


def record(name: str) -> Recording:
    weights = recorded_tensors(f"{name}.weights")
    codec = empty_codec(name, recorded_numbers("jscc_configs")[name])
    family = swin if "swin" in name else deepjscc
    keys = family.released_keys(codec.config)
    state = {ours: weights[theirs] for theirs, ours in keys.items()}
    codec.load_state_dict({k: v.float() if v.is_floating_point() else v for k, v in state.items()})
    codec.eval().requires_grad_(False)
    codec.bounded = False  # as the released implementation
    return Recording(codec, weights, recorded_tensors(f"{name}.io"), keys)


@pytest.fixture
def recording(request: pytest.FixtureRequest) -> Recording:
    return record(request.param)


def outputs_of(modules: dict[str, nn.Module]) -> dict[str, Tensor]:
    """Filled with the modules' outputs when they run."""
    seen: dict[str, Tensor] = {}
    for name, module in modules.items():
        module.register_forward_hook(lambda _m, _i, output, name=name: seen.update({name: output}))
    return seen


@pytest.mark.parametrize("recording", CODECS, indirect=True)
def test_every_stage_of_a_transmission_matches_the_released_codec(recording):
    codec, state = recording.codec, recording.state
    swins = isinstance(codec, SwinJSCC)
    seen = outputs_of({"logits": codec.decoder.splits[-1] if swins else codec.decoder.head})

    close(codec.analyse(recording.images, state, 0), recording.as_latent("latent"))
    received = recording.receive()
    sent = (received.values - recording.as_complex("noise")) / state.gain
    close(sent, recording.as_complex("tx"))
    close(received.values, recording.as_complex("rx"))
    channel_uses = received.values.shape[1]
    assert Fraction(channel_uses, 64 * 96) == RATE

    grid = received.equalised.unflatten(1, (2, 4, 6))
    close(torch.cat((grid.real, grid.imag), dim=1), recording.as_latent("decoder_in"))
    close(codec.decode(received), recording.tensors["logits"].sigmoid())
    logits = seen["logits"].permute(0, 3, 1, 2) if swins else seen["logits"]
    close(logits, recording.tensors["logits"])


@pytest.mark.parametrize("recording", ["jscc_swin_tiny_w2"], indirect=True)
def test_the_swin_codec_matches_inside_at_a_size_it_was_not_configured_for(recording):
    codec = recording.codec
    assert recording.images.shape[-2:] != codec.config.trained_size
    seen = outputs_of(
        {
            "enc_layer3": codec.encoder.stages[3],
            "enc_norm": codec.encoder.norm,
            "enc_modulated": codec.encoder.modulation,
            "dec_layer0": codec.decoder.splits[0],
        }
    )
    codec.decode(recording.receive())
    assert len(seen) == 4
    for name, values in seen.items():
        close(values.flatten(1, 2), recording.tensors[name])


@pytest.mark.parametrize("recording", ["jscc_swin_tiny_w2"], indirect=True)
def test_an_unequalised_receiver_decodes_faded_symbols_at_the_mean_snr(recording):
    codec, received = recording.codec, recording.receive()
    gain = torch.full_like(received.state.gain, 0.3 - 0.4j)
    faded = replace(received, state=replace(received.state, gain=gain))
    plain = codec.decode(received)  # gain 1: both receivers are the same
    assert not torch.allclose(codec.decode(faded), plain)
    codec.config = replace(codec.config, receiver="unequalised")
    torch.testing.assert_close(codec.decode(faded), plain)
    with pytest.raises(ValueError, match="receiver is 'mmse'; known: equalised, unequalised"):
        replace(codec.config, receiver="mmse")


@pytest.mark.parametrize("recording", CODECS, indirect=True)
def test_every_released_key_is_used_once_and_every_own_key_filled_once(recording):
    constants: frozenset[str] = frozenset()
    if isinstance(recording.codec, SwinJSCC):
        constants = swin.released_constants(recording.codec.config)
    assert set(recording.keys).isdisjoint(constants)
    assert set(recording.keys) | constants == set(recording.weights)
    assert sorted(recording.keys.values()) == sorted(recording.codec.state_dict())


@pytest.mark.parametrize("recording", ["jscc_swin_tiny_w2"], indirect=True)
def test_the_released_constants_that_are_left_out_are_the_ones_computed_here(recording):
    blocks = {k: m for k, m in recording.codec.named_modules() if isinstance(m, SwinBlock)}
    assert len(blocks) == 16
    for name, block in blocks.items():
        theirs = name.replace(".stages.", ".layers.")
        theirs = f"{theirs.rpartition('.')[0]}.blocks.{theirs.rpartition('.')[2]}"
        index = recording.weights[f"{theirs}.attn.relative_position_index"]
        assert torch.equal(block.attention.position_index, index)
        released_mask = recording.weights.get(f"{theirs}.attn_mask")
        assert (released_mask is None) == (block.shift == 0)
        if released_mask is not None:
            side = 2 * round(len(released_mask) ** 0.5)  # the mask is of the configured size
            mask = attention_mask((side, side), block.window, block.shift, released_mask.device)
            assert torch.equal(mask, released_mask == 0)


def test_the_default_architecture_is_that_of_the_released_checkpoints():
    entries = recorded_numbers("keys_cldm_cnn_full")
    counts = recorded_numbers("param_counts")["preprocess_model"]
    prefix = "preprocess_model."
    released = {
        key.removeprefix(prefix): tuple(entry["shape"])
        for key, entry in entries.items()
        if key.startswith(prefix)
    }
    with torch.device("meta"):
        codec = DeepJSCC(DeepJSCCConfig())
    assert codec.rates == (RATE,)
    assert sum(p.numel() for p in codec.parameters()) == counts["params"] == 31_189_895
    assert sum(b.numel() for b in codec.buffers()) == counts["buffers"]
    keys = deepjscc.released_keys(codec.config)
    assert set(keys) == set(released)
    assert len(keys) == len(set(keys.values())) == counts["keys"]
    state = codec.state_dict()
    assert {theirs: tuple(state[ours].shape) for theirs, ours in keys.items()} == released
    assert set(keys.values()) == set(state)


def tiny(name: str) -> JointCodec:
    """An untrained codec of each kind, in no need of recorded weights."""
    torch.manual_seed(0)
    if name == "SwinJSCC":
        return SwinJSCC(
            SwinJSCCConfig(
                encoder_widths=(8, 8, 8, 16),
                encoder_depths=(2, 1, 1, 2),
                encoder_heads=(2, 2, 2, 2),
                decoder_widths=(16, 8, 8, 8),
                decoder_depths=(2, 1, 1, 2),
                decoder_heads=(2, 2, 2, 2),
                window=4,
                modulation_layers=2,
            )
        )
    return DeepJSCC(
        DeepJSCCConfig(
            base_width=4,
            encoder_width=8,
            decoder_width=8,
            encoder_blocks=1,
            decoder_blocks=1,
            csi="snr+gain" if name == "DeepJSCC+gain" else "snr",
        )
    )


KINDS = ["DeepJSCC", "DeepJSCC+gain", "SwinJSCC"]


def unfaded(*snr_db: float) -> ChannelState:
    """AWGN at these SNRs."""
    return ChannelState(torch.ones(len(snr_db), 1, dtype=torch.complex64), torch.tensor(snr_db))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [(1, 1), (33, 65), (16, 160), (200, 7)])
def test_images_of_any_size_cost_only_whole_latent_cells(kind, size):
    scheme = Scheme(tiny(kind).eval(), RATE)
    images = torch.rand(2, 3, *size, generator=torch.Generator().manual_seed(1))
    gain = torch.ones(2, 1, dtype=torch.complex64)
    with torch.no_grad():
        symbols = scheme.encode(images, 10.0, gain)
        image = scheme.decode(AWGN(10.0)(symbols, torch.Generator().manual_seed(2))).image
    assert symbols.channel_uses == 2 * -(-size[0] // 16) * -(-size[1] // 16)
    close(symbols.values.abs().square().mean(dim=1), torch.ones(2))
    assert image.shape == images.shape
    assert bool(((image >= 0) & (image <= 1)).all())


@pytest.mark.parametrize("kind", KINDS)
def test_training_reaches_every_parameter_through_the_channel(kind):
    codec = tiny(kind).train()
    images = torch.rand(3, 3, 48, 80, generator=torch.Generator().manual_seed(1))
    channel = Rayleigh(10.0, transmitter_csi=True)
    state = channel.sample_state(3, torch.Generator().manual_seed(2))
    symbols = codec.encode(images, state, RATE)
    received = channel(symbols, torch.Generator().manual_seed(3), state)
    (codec.reconstruct(received) - images).square().mean().backward()
    for name, parameter in codec.named_parameters():
        assert parameter.grad is not None, name
        assert bool(torch.isfinite(parameter.grad).all()), name
        assert float(parameter.grad.abs().max()) > 0, name
    for module in codec.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert int(module.num_batches_tracked) == 1


def test_a_codec_trained_with_transmitter_csi_says_that_it_needs_the_gain():
    codec = tiny("DeepJSCC+gain").eval()
    images = torch.rand(1, 3, 16, 16)
    with pytest.raises(ValueError, match="transmitter_csi=True"):
        Scheme(codec, RATE)(images, Rayleigh(10.0))
    Scheme(codec, RATE)(images, Rayleigh(10.0, transmitter_csi=True))
    per_symbol = torch.ones(1, 2, dtype=torch.complex64)
    with pytest.raises(ValueError, match="block fading only"):
        codec.encode(images, ChannelState(per_symbol, torch.tensor([10.0]), True), RATE)


def test_in_a_fade_awgn_weights_are_told_the_effective_snr():
    codec = tiny("DeepJSCC").eval()
    images = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    symbols = codec.encode(images, unfaded(10.0), RATE)
    gain = torch.tensor([[0.3 + 0.4j]])  # |h|² is 1/4, -6.02 dB
    faded = Received(
        symbols.values * gain, (32, 32), RATE, ChannelState(gain, torch.tensor([10.0]))
    )
    plain = Received(
        symbols.values,
        (32, 32),
        RATE,
        ChannelState(torch.ones_like(gain), torch.tensor([3.9794001])),
    )
    close(faded.snr_db, torch.tensor([3.9794]))
    torch.testing.assert_close(codec.decode(faded), codec.decode(plain), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", ["DeepJSCC", "SwinJSCC"])
def test_an_snr_that_the_weights_never_saw_is_told_once(kind):
    codec = tiny(kind).eval()
    images = torch.rand(2, 3, 16, 16)
    with pytest.warns(UserWarning, match="0 to 14 dB"):
        codec.encode(images, unfaded(7.0, -3.0), RATE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        codec.encode(images, unfaded(0.0, 14.0), RATE)


@pytest.mark.parametrize("codec_class", [DeepJSCC, SwinJSCC])
def test_each_end_is_built_alone(codec_class):
    config = tiny(codec_class.__name__).config
    transmitter, receiver = codec_class(config, "transmitter"), codec_class(config, "receiver")
    assert transmitter.decoder is None
    assert receiver.encoder is None
    whole = codec_class(config).state_dict()
    assert {*transmitter.state_dict(), *receiver.state_dict()} == set(whole)
    with pytest.raises(ValueError, match="receiver only"):
        receiver.encode(torch.rand(1, 3, 16, 16), torch.tensor([10.0]), RATE)


@pytest.mark.parametrize(("height", "width", "shift"), [(5, 7, 2), (3, 3, 2), (8, 8, 2), (6, 9, 0)])
def test_attention_joins_the_cells_of_a_shifted_window_and_no_others(height, width, shift):
    torch.manual_seed(0)
    block = SwinBlock(4, 1, window=4, shift=shift, mlp_ratio=1, qkv_bias=True)

    def mixed(grid):
        return block(grid.reshape(1, height, width, 4)).reshape(height * width, 4)

    grid = torch.randn(height * width, 4)
    reach = torch.autograd.functional.jacobian(mixed, grid).abs().sum(dim=(1, 3)) > 0
    # Without any rolling: cells share a window where floor((position - shift) / 4) is the same.
    rows = torch.div(torch.arange(height) - shift, 4, rounding_mode="floor")
    columns = torch.div(torch.arange(width) - shift, 4, rounding_mode="floor")
    labels = torch.stack(torch.meshgrid(rows, columns, indexing="ij"), dim=-1).reshape(-1, 2)
    together = (labels[:, None] == labels[None]).all(dim=-1)
    assert torch.equal(reach, together)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: DeepJSCCConfig(channels=5), "channels is 5"),
        (lambda: DeepJSCCConfig(csi="gain"), "csi is 'gain'"),
        (lambda: SwinJSCCConfig(channels=0), "channels is 0"),
        (lambda: SwinJSCCConfig(encoder_depths=(2, 2)), "for each of the 4 stages"),
        (lambda: SwinJSCCConfig(decoder_heads=(3, 8, 6, 4)), "no multiple of 3 heads"),
        (lambda: SwinJSCCConfig(trained_size=(8, 256)), "trained_size"),
    ],
)
def test_an_impossible_architecture_is_refused_by_name(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_small_trained_sizes_shrink_the_window_as_the_released_codec_does():
    config = SwinJSCCConfig(trained_size=(128, 128))
    assert [config.windows(stride) for stride in (2, 4, 8, 16)] == [(8, 4), (8, 4), (8, 4), (8, 0)]
    assert SwinJSCCConfig(trained_size=(64, 256)).windows(16) == (4, 0)

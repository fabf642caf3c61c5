"""Train the decoder of a receiver's VAE on what its prior paints: `diffjscc train decoder`.

The last stage of a receiver. `train vae` shows the decoder latents of photographs; a receiver
shows it latents that the prior painted, which are smoother. Here it learns to make photographs of
those, beside the images' own latents and the initial images'. Encoder, prior, control module
and codec stay as they are, to the bit, and so everything that was made with them stays valid.

Two networks judge the images that also judge results: LPIPS with SqueezeNet, and SqueezeNet 1.1
itself, by its mean features and by their Fréchet distance. Figures measured with LPIPS
(SqueezeNet), or as distances of SqueezeNet features, flatter receivers trained like this; read
others too. Patch discriminators at full and half size (Wang et al., arXiv 1711.11585) are trained
along.

Latents and squares are functions of (seed, iteration), as in `jscc`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from diffusers import AutoencoderKL
from rich.progress import Progress
from torch import Tensor, nn
from torch.nn import functional as F

from diffjscc.codecs.joint import JointCodec
from diffjscc.configuration import as_yaml
from diffjscc.data.crops import prefetch
from diffjscc.metrics.lpips import LPIPS
from diffjscc.pretrained.diffjscc import DiffJSCC
from diffjscc.pretrained.pretrained import save_codec
from diffjscc.pretrained.receiver import save_refiner
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.latents import stride
from diffjscc.refiners.vae import VAE
from diffjscc.training.control import Validator
from diffjscc.training.decoder_config import DecoderConfig
from diffjscc.training.discriminator import PatchDiscriminator, generator_loss, hinge_loss
from diffjscc.training.jscc import sent_rates
from diffjscc.training.loop import (
    Log,
    Optimiser,
    Run,
    RunningMean,
    learning_rate_at,
    leave,
    swap_weights,
)
from diffjscc.training.sampled import SampledBatches, paint
from diffjscc.training.validation import open_images

DEEP_TAPS = 3  # the last of LPIPS's, whose mean features are compared
PERIODS = (4, 16)  # pixels: what the last layer makes at once, and what a latent cell stands for


def load_receiver(source: str, device: torch.device) -> tuple[JointCodec, ControlledDiffusion]:
    """Codec and diffusion receiver of weights, float32.

    Raises:
        ValueError: the weights are missing, damaged or without a receiver.
    """
    scheme = DiffJSCC.from_pretrained(source, device=str(device), dtype=torch.float32)
    if not isinstance(scheme.refiner, ControlledDiffusion):
        raise ValueError(  # noqa: TRY004 - of other weights, not a wrong call
            f'weights "{source}" have no diffusion receiver, whose decoder could be trained; give '
            "weights that have one, such as `diffjscc train control` writes"
        )
    assert isinstance(scheme.codec, JointCodec)
    return scheme.codec, scheme.refiner


def check_sizes(config: DecoderConfig, refiner: ControlledDiffusion, processes: int) -> None:
    """Check what cannot be seen from the config alone.

    Raises:
        ValueError: squares that the networks cannot take, or a batch that cannot be shared out.
    """
    for name, side, multiple in (
        ("data.crop", config.data.crop, refiner.multiple),
        ("shown", config.shown, stride(refiner.vae)),
    ):
        if side % multiple:
            raise ValueError(f"{name} is {side}; this receiver needs a multiple of {multiple}")
    if config.run.batch % processes:
        raise ValueError(
            f"run.batch is {config.run.batch}; {processes} processes need a multiple of {processes}"
        )


def decoding_half(vae: VAE) -> nn.ModuleDict:
    """The layers of a frozen VAE that make images of latents, set free."""
    half = nn.ModuleDict({"decoder": vae.decoder})
    if isinstance(vae, AutoencoderKL) and vae.post_quant_conv is not None:
        half["post_quant_conv"] = vae.post_quant_conv
    return half.requires_grad_(True)


def features_error(features: Sequence[Tensor], references: Sequence[Tensor]) -> Tensor:
    """Relative squared error of mean features, over images and taps.

    Of features f and g [B, C, h, w] of one tap it is |mean f - mean g|² / |mean g|² with means
    over positions: what textures an image has, wherever they are.
    """
    errors = []
    for own, wanted in zip(features, references, strict=True):
        mean, target = (x.float().mean(dim=(2, 3)) for x in (own, wanted))
        errors.append(((mean - target).square().sum(1) / target.square().sum(1)).mean())
    return torch.stack(errors).mean()


def frechet(made: Tensor, wanted: Tensor) -> Tensor:
    """Fréchet distance of two sets of features [n, d], over the variance of the wanted ones.

    |μ - μ'|² + tr(C + C' - 2 (C C')^½). With features X and X' less their means in rows, the last
    trace is the nuclear norm of X X'ᵀ over n - 1, which needs no d x d root.
    """
    own, other = made - made.mean(0), wanted - wanted.mean(0)
    power = other.square().sum()
    spread = own.square().sum() + power - 2 * torch.linalg.svdvals(own @ other.T).sum()
    apart = (len(made) - 1) * (made.mean(0) - wanted.mean(0)).square().sum()
    relative: Tensor = (apart + spread) / power
    return relative


class FeatureQueue(nn.Module):
    """The latest images' features, beside which a batch is enough for a distance of sets.

    Args:
        count: of how many images they are kept.
        width: features per image.
    """

    made: Tensor
    wanted: Tensor
    filled: Tensor

    def __init__(self, count: int, width: int = 512) -> None:
        super().__init__()
        self.register_buffer("made", torch.zeros(count, width))
        self.register_buffer("wanted", torch.zeros(count, width))
        self.register_buffer("filled", torch.tensor(0))

    def forward(self, made: Tensor, wanted: Tensor) -> Tensor:
        """`frechet` with a batch's features [b, width] first, times n/b; 0 until there are n.

        But b of the n rows have a gradient; the factor makes it as large as that of a mean over
        the batch.
        """
        count = len(self.made)
        rows = torch.cat((made, self.made))[:count]
        with torch.no_grad():
            self.made.copy_(rows)
            self.wanted.copy_(torch.cat((wanted, self.wanted))[:count])
            self.filled.add_(len(made)).clamp_(max=count)
        if int(self.filled) < count:
            return made.new_zeros(())
        return count / len(made) * frechet(rows, self.wanted)


def lattice(pixels: Tensor, period: int) -> Tensor:
    """What of images repeats every `period` pixels: its mean over windows of about 24 px or more.

    A decoder that makes squares of pixels at once leaves a lattice in flat areas that patch
    discriminators hardly see.

    Args:
        pixels: [B, 3, H, W], sides multiples of the period.
        period: in pixels.

    Returns:
        Deviation of each position in a square from their mean, [B, 3, period², windows…].
    """
    squares = F.pixel_unshuffle(pixels, period)
    side = min(max(5, 24 // period), *squares.shape[-2:])
    means = F.avg_pool2d(squares, side, stride=max(1, side // 2))
    phases = means.reshape(len(means), 3, period**2, *means.shape[-2:])
    return phases - phases.mean(dim=2, keepdim=True)


class AdversarialLosses(nn.Module):
    """Decoder and discriminators, and the losses of both; what a data-parallel wrapper wraps.

    Args:
        vae: the VAE whose decoder is in training; the rest of it is frozen.
        lpips: the perceptual distance with SqueezeNet; its network is frozen.
        config: how losses are weighed.
    """

    def __init__(self, vae: VAE, lpips: LPIPS, config: DecoderConfig) -> None:
        super().__init__()
        self.vae, self.lpips, self.config = vae, lpips, config
        width = config.discriminators.width
        self.discriminators = nn.ModuleList(PatchDiscriminator(width) for _ in range(2))
        self.decoder = decoding_half(vae)
        self.recent = FeatureQueue(config.recent)
        self.trained = nn.ModuleDict(
            {
                "decoder": self.decoder,
                "discriminators": self.discriminators,
                "recent": self.recent,
            }
        )

    def forward(self, images: Tensor, latents: Tensor, step: int) -> dict[str, Tensor]:
        """Losses by name; "total" is reduced.

        The total's gradient improves the decoder against the discriminators and these against the
        decoder: neither part of it reaches the other's weights.

        Args:
            images: float32 [B, 3, H, W] in [0, 1].
            latents: what images like them are to be made of, scaled, [B, C, h, w].
            step: number of the iteration, from 0.
        """
        (made,) = self.vae.decode(latents / self.vae.config.scaling_factor, return_dict=False)
        pixels = 2 * images - 1
        with torch.no_grad():
            wanted = [*self.lpips.taps(images)]
        features = [*self.lpips.taps((made + 1) / 2)]
        losses = {
            "l1": (made - pixels).abs().mean(),
            "lpips": self.lpips.compare(features, wanted).mean(),
            "features": features_error(features[-DEEP_TAPS:], wanted[-DEEP_TAPS:]),
            "lattice": torch.stack(
                [(lattice(made, n) - lattice(pixels, n)).abs().mean() for n in PERIODS]
            ).sum(),
        }
        if self.config.loss.frechet > 0:  # a decomposition of n x n numbers
            sets = (x[-1].float().mean(dim=(2, 3)) for x in (features, wanted))
            losses["frechet"] = self.recent(*sets)
        else:
            losses["frechet"] = made.new_zeros(())
        fakes, reals = ((x, F.avg_pool2d(x, 2)) for x in (made, pixels))
        verdicts, own = [], []
        for opponent, fake, real in zip(self.discriminators, fakes, reals, strict=True):
            verdicts.append(generator_loss(opponent, fake))
            own.append(hinge_loss(opponent(real), opponent(fake.detach())))
        losses["adversarial"] = torch.stack(verdicts).mean()
        losses["discriminators"] = torch.stack(own).mean()
        weights = self.config.loss
        total = (
            weights.l1 * losses["l1"]
            + weights.lpips * losses["lpips"]
            + weights.features * losses["features"]
            + weights.frechet * losses["frechet"]
            + weights.lattice * losses["lattice"]
            + self.adversarial_weight(step) * losses["adversarial"]
            + losses["discriminators"]
        )
        return {"total": total, **losses}

    def adversarial_weight(self, step: int) -> float:
        """Weight of the discriminators' verdict in iteration `step`."""
        opponents = self.config.discriminators
        grown = (step - opponents.start) / max(opponents.ramp, 1)
        if step >= opponents.start and opponents.ramp == 0:
            grown = 1.0
        return self.config.loss.adversarial * min(1.0, max(0.0, grown))


class GradientStep:
    """The step that an iteration takes, of the decoder and of the discriminators.

    Args:
        game: both of them.
        config: their optimisers' settings, and how many iterations there are.
        accelerator: of this process.
    """

    def __init__(
        self, game: AdversarialLosses, config: DecoderConfig, accelerator: Accelerator
    ) -> None:
        self.accelerator, self.iterations = accelerator, config.run.iterations
        self.parts = (
            (game.decoder, config.optimiser),
            (game.discriminators, config.discriminators.optimiser),
        )
        self.optimisers = [Optimiser(network, settings) for network, settings in self.parts]

    def __call__(self, loss: Tensor, step: int) -> None:
        """Move both along the gradients of iteration `step`'s loss, a scalar."""
        self.accelerator.backward(loss)
        for optimiser, (network, settings) in zip(self.optimisers, self.parts, strict=True):
            if settings.clip is not None:
                self.accelerator.clip_grad_norm_(network.parameters(), settings.clip)
            optimiser.step(learning_rate_at(step, self.iterations, settings))


def train(config: DecoderConfig, output: Path) -> Path:
    """Train, or go on training, in the folder `output`.

    Args:
        config: what to train, on what, and how.
        output: gets `checkpoint.pt`, `log.jsonl`, `tensorboard/`, `config.yaml` and `weights/`.

    Returns:
        The folder of the whole scheme with the averaged decoder.

    Raises:
        ValueError: a setting or weights that do not fit, or latents painted with others.
        MetricUnavailable: LPIPS's weights cannot be had.
    """
    source, validation = open_images(config.data)
    accelerator = Accelerator(mixed_precision=config.run.precision)
    device, main = accelerator.device, accelerator.is_main_process
    share = accelerator.process_index, accelerator.num_processes
    codec, refiner = load_receiver(config.weights, device)
    check_sizes(config, refiner, accelerator.num_processes)
    lpips = LPIPS.load("squeeze")
    painted = paint(config, source, codec, refiner)
    batches = SampledBatches(painted, config, stride(refiner.vae))

    set_seed(config.run.seed)
    built = AdversarialLosses(refiner.vae.to(memory_format=torch.channels_last), lpips, config).to(
        device
    )
    networks, descent = built.trained, GradientStep(built, config, accelerator)
    output.mkdir(parents=True, exist_ok=True)
    run = Run(networks, descent.optimisers[0], config, output, descent.optimisers[1])
    start, last = run.restore(), config.run.iterations
    game = accelerator.prepare(built)
    log = Log(output, start, as_yaml(config)) if main else None
    panels = (
        Validator(validation, config, sent_rates(config, codec), codec, refiner)
        if main and validation
        else None
    )
    means = RunningMean()
    networks.train()
    with Progress(disable=not main) as progress:
        task = progress.add_task("training", total=last, completed=start)
        read = prefetch(lambda step: batches.batch_at(step, *share), start, last - start)
        for step, (images, latents) in enumerate(read, start):
            shown = images.to(device, memory_format=torch.channels_last)
            losses = game(shown, latents.to(device), step)
            descent(losses["total"], step)
            run.averaged.update(networks, step)

            done = step + 1
            progress.update(task, completed=done)
            if log is None:
                continue
            means.add(losses)
            if done % config.run.log_every == 0:
                rate = learning_rate_at(step, last, config.optimiser)
                log.numbers(done, {"learning rate": rate} | means.report())
            if done == last or done % config.run.checkpoint_every == 0:
                run.save(done)
            if panels and (done == last or done % config.run.validate_every == 0):
                with swap_weights(networks, run.averaged.state):
                    panels.report(log, done)
    if log is not None:
        log.close()
        with swap_weights(networks, run.averaged.state):
            save_codec(codec, output / "weights")
            save_refiner(refiner, output / "weights", torch.float32)
    leave(accelerator)
    return output / "weights"

"""`diffjscc transmit`."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from typer.models import OptionInfo

from diffjscc.choices import (
    CaptionEnd,
    CaptionerName,
    ColourFix,
    DTypeName,
    QualityEstimate,
    RefinerName,
    Resend,
    SamplerName,
    Start,
)
from diffjscc.cli import paths as files
from diffjscc.cli import shared
from diffjscc.cli.importing import quick_imports
from diffjscc.cli.terminal import CHANNELS, SCHEMES, report_errors
from diffjscc.data.clip_names import is_clip_output

if TYPE_CHECKING:
    from diffjscc.cli.jobs import Sending
    from diffjscc.evaluation.records import Absent, Record

SAMPLES = 8
CORRECTION = "Source error correction (--refiner or --scheme isec)"
LARGEST_SEED = (1 << 63) - 1


def _receiver(description: str) -> OptionInfo:
    """An option of the diffusion receiver; None leaves what the weights were made for."""
    option: OptionInfo = typer.Option(
        help=description, rich_help_panel="Diffusion receiver (default: as the weights have it)"
    )
    return option


def _correction(description: str) -> OptionInfo:
    """An option of source error correction."""
    option: OptionInfo = typer.Option(help=description, rich_help_panel=CORRECTION)
    return option


def _link(description: str) -> OptionInfo:
    """An option of digital links; None leaves it to the SNR."""
    option: OptionInfo = typer.Option(
        help=description, rich_help_panel="Digital links (with --scheme)"
    )
    return option


def _feedback(description: str) -> OptionInfo:
    """An option of schemes with feedback."""
    option: OptionInfo = typer.Option(
        help=description, rich_help_panel="Feedback (with --scheme feedback)"
    )
    return option


def transmit(
    images: shared.Images,
    output: Annotated[
        Path,
        files.option(
            files.output_place,
            "--output",
            "-o",
            help="Folder, clip (.mp4, .mkv, .webm, .gif), or - for standard output.",
        ),
    ],
    snr: Annotated[
        list[float] | None,
        typer.Option(help="Es/N0 in dB; once or several times.", show_default="1"),
    ] = None,
    rate: Annotated[
        list[str] | None,
        typer.Option(help="Channel uses per pixel; once or several times.", show_default="1/128"),
    ] = None,
    weights: Annotated[
        str, files.option(files.place, help="Bundled name, folder or hub id (owner/name@revision).")
    ] = "compact",
    channel: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{CHANNELS}, or my_module:MyChannel; once or several times.",
            show_default="awgn",
            autocompletion=shared.complete_channel,
        ),
    ] = None,
    k_factor: Annotated[float, typer.Option(help="Rician: line-of-sight power ratio.")] = 4.0,
    transmitter_csi: Annotated[bool, typer.Option(help="The transmitter knows the fade.")] = False,
    repeats: Annotated[int, typer.Option(min=1, max=10_000, help="Transmissions per image.")] = 1,
    seed: Annotated[
        int, typer.Option(min=0, max=LARGEST_SEED, help="Seed of noise and fades.")
    ] = 0,
    device: shared.Device = "auto",
    max_side: Annotated[
        int | None,
        typer.Option(min=1, help="Reduce larger images to this longest side, in pixels."),
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=1, max=100_000, help="Send so many first frames of a clip.")
    ] = None,
    json_file: Annotated[
        Path | None,
        files.option(
            files.output_file, "--json", help="Write a record of every transmission here."
        ),
    ] = None,
    uncertainty: Annotated[
        bool, typer.Option(help="Write a map of where samples of the diffusion receiver disagree.")
    ] = False,
    samples: Annotated[
        int | None, typer.Option(min=2, max=256, help="Samples for that map; 8 by default.")
    ] = None,
    scheme: Annotated[
        list[str] | None,
        typer.Option(
            help=f"{SCHEMES}, or my_module:make; several: side by side, over the same noise.",
            autocompletion=shared.complete_scheme,
        ),
    ] = None,
    adversarial: Annotated[
        str | None,
        files.option(files.place, help="--scheme adv: weights that `train adversarial` made."),
    ] = None,
    refiner: Annotated[
        RefinerName | None,
        _receiver("diffusion; isec: source error correction; none: the codec alone."),
    ] = None,
    sampler: Annotated[SamplerName | None, _receiver("ddpm is the paper's.")] = None,
    steps: Annotated[int | None, _receiver("Steps from pure noise, 1 to 1000.")] = None,
    start: Annotated[
        Start | None, _receiver("Where sampling begins; initial: the initial image, noised.")
    ] = None,
    captioner: Annotated[
        CaptionerName | None, _receiver("Captions for a prior with a text encoder.")
    ] = None,
    caption: Annotated[str | None, _receiver("Your own words in a captioner's place.")] = None,
    caption_from: Annotated[
        CaptionEnd, _receiver("End that describes the image; the transmitter's words count.")
    ] = "receiver",
    latent_guidance_scale: Annotated[
        float | None, _receiver("Latent guidance scale Λ; 0 disables it.")
    ] = None,
    likelihood_guidance_scale: Annotated[
        float | None, _receiver("Weight of the channel's likelihood in sampling; 0 disables it.")
    ] = None,
    likelihood_blind: Annotated[
        bool, _receiver("Estimate the noise power that weighs the likelihood.")
    ] = False,
    colour_fix: Annotated[
        ColourFix | None, _receiver("How the initial image's colours are kept.")
    ] = None,
    control_scale: Annotated[
        float | None, _receiver("Factor on the control module's residuals; 0 disables it.")
    ] = None,
    control_guidance_scale: Annotated[
        float | None, _receiver("Guidance scale of the control module; 1 disables it.")
    ] = None,
    full_strength: Annotated[
        bool, _receiver("Generate also where it breaks as much as it repairs.")
    ] = False,
    dtype: Annotated[
        DTypeName,
        _receiver(
            "auto: bfloat16 on CUDA, else float32; float16-storage: half the memory of float32."
        ),
    ] = "auto",
    offload: Annotated[bool, _receiver("Keep each network on the CPU until it computes.")] = False,
    feedback_snr: Annotated[
        float | None, _feedback("Es/N0 of the link back in dB; noiseless without it.")
    ] = None,
    resend: Annotated[
        Resend | None, _feedback("Where the receiver is uncertain (default), or everything.")
    ] = None,
    rate_policy: Annotated[
        QualityEstimate | None,
        typer.Option(
            help="Choose a rate for each image, --rate being the mean; with --scheme.",
            rich_help_panel="Rate policy (with --scheme)",
        ),
    ] = None,
    target_psnr: Annotated[
        float | None,
        typer.Option(
            help="Take the lowest rate that reaches so many dB, up to --rate.",
            rich_help_panel="Rate policy (with --scheme)",
        ),
    ] = None,
    denoiser: Annotated[
        str | None,
        files.option(
            files.place,
            help="Weights of train denoiser, in the diffusion prior's place.",
            panel=CORRECTION,
        ),
    ] = None,
    corrections: Annotated[int | None, _correction("Iterations, 0 to 1000.")] = None,
    mcs: Annotated[str | None, _link('Modulation and code rate, such as "bpsk 2/3".')] = None,
    quality: Annotated[
        int | None, _link("Quality of the source codec; the rate follows from it.")
    ] = None,
    downsample: Annotated[
        bool, _link("Also try fewer pixels, and send what comes closest.")
    ] = False,
) -> None:
    """Transmit images over a noisy channel and write the reconstructions.

    Writes per image: NAME.png, the final image (NAME-2.png, … with --repeats); with a diffusion
    receiver also NAME-initial.png, the codec's own reconstruction; with --uncertainty also
    NAME-uncertainty.png; and NAME-side-by-side.png. Metrics are computed on the images as written.

    With --scheme, given once or several times: NAME-SCHEME.png of each scheme, and all of them in
    NAME-side-by-side.png.

    Folders are sent with their subfolders, which the output has as well. - reads an image from
    standard input, and -o - writes the final one to standard output, as PNG. Of a video or an
    animation all frames are sent, and written to NAME/0001.png, …, or into one clip.

    Several of --snr, --rate or --channel are combined, all with all; what there are several of is
    then in the names: NAME-rate1-64-snr7dB.png, NAME-rayleigh-side-by-side.png, …
    """
    with report_errors():
        # Options are checked first, by modules without torch: a slip is said at once.
        from diffjscc.cli.choice import (  # noqa: PLC0415
            OwnReceiver,
            choose,
            correction_options,
            feedback_options,
            points,
            rate_policy_options,
        )
        from diffjscc.configuration import check  # noqa: PLC0415
        from diffjscc.schemes.channel import ChannelConfig  # noqa: PLC0415
        from diffjscc.schemes.config import SchemeConfig  # noqa: PLC0415
        from diffjscc.schemes.digital_options import DigitalOptions  # noqa: PLC0415
        from diffjscc.schemes.options import RefinerOptions, given  # noqa: PLC0415
        from diffjscc.schemes.rates import check_rates  # noqa: PLC0415

        receiver = RefinerOptions(
            sampler=sampler,
            num_inference_steps=steps,
            start=start,
            captioner=captioner,
            caption=caption,
            caption_from=caption_from,
            latent_guidance_scale=latent_guidance_scale,
            likelihood_guidance_scale=likelihood_guidance_scale,
            likelihood_blind=likelihood_blind,
            colour_fix=colour_fix,
            control_scale=control_scale,
            control_guidance_scale=control_guidance_scale,
            full_strength=full_strength,
            dtype=dtype,
            offload=offload,
        )
        if uncertainty and (output == files.STDOUT or is_clip_output(output)):
            raise ValueError("--uncertainty writes maps beside the images; give a folder as -o")
        if samples is not None and not uncertainty:
            raise ValueError(
                f"--samples {samples} is for the map of --uncertainty; ask for that, or leave it "
                "out"
            )
        over = {"k_factor": k_factor, "transmitter_csi": transmitter_csi}
        digital = given({"mcs": mcs, "quality": quality, "downsample": downsample or None})
        channels = [
            check(ChannelConfig, ChannelConfig.named(name) | over, f"--channel {name}")
            for name in channel or ["awgn"]
        ]
        own = OwnReceiver(
            weights,
            refiner,
            (samples or SAMPLES) if uncertainty else None,
            correction_options(denoiser, corrections),
        )
        places = points(channels, rate or ["1/128"], snr or [1.0])
        options = check(DigitalOptions, digital, "--scheme")
        policy = rate_policy_options(rate_policy, target_psnr)
        feedback = feedback_options(feedback_snr, resend)
        choices = choose(scheme or [], own, adversarial, receiver, options, feedback, policy)
        for choice in choices or [SchemeConfig(kind="deepjscc", weights=weights)]:
            check_rates(choice, [place.rate for place in places])

        with quick_imports():
            from diffjscc.cli import sending  # noqa: PLC0415 - torch
            from diffjscc.cli.inputs import Inputs  # noqa: PLC0415
            from diffjscc.cli.preparation import prepare  # noqa: PLC0415

        alone = sending.is_single(output)
        with ExitStack() as stack:
            inputs = Inputs(images, None if alone else output, max_side, frames)
            found = stack.enter_context(inputs)
            read = [*(one.file for one in found), Path(weights), Path(adversarial or weights)]
            files.check_apart(json_file, "--json", read)
            sending.check_sure_outputs(found, output, places, choices, json_file)
            if alone:
                sending.check_single(output, found, len(places) * repeats * max(1, len(choices)))
                deliver = stack.enter_context(sending.delivering(output, found))
            prepared = prepare(places, repeats, seed, output, device)
            job: Sending[Record | Absent]
            if alone:
                job = prepared.single(next(iter(choices), None), own, receiver, deliver)
            elif choices:
                job = prepared.comparison(choices)
            else:
                job = prepared.transmission(own, receiver)
            sent, failed = sending.send_all(job, found, json_file)
    sending.show_failed(failed)
    if failed or not sent:
        raise typer.Exit(1 if sent else 2)

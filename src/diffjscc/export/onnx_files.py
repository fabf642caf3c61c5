"""Networks of a set of weights as ONNX files, compared with PyTorch before they count.

    FOLDER/codec_encoder.onnx        images, snr_db, rate_index -> latent
    FOLDER/codec_decoder.onnx        latent, snr_db, rate_index -> images
    FOLDER/vae_encoder.onnx          images -> latent; these only if there is a diffusion receiver
    FOLDER/vae_decoder.onnx          latent -> images
    FOLDER/condition_encoder.onnx    only if it is not the VAE's own encoder
    FOLDER/denoiser.onnx             latent, step, condition, snr_db, control_scale -> noise
    FOLDER/distilled_denoiser.onnx   likewise, of few steps, if the weights have one

Batch and image size are free. A file's metadata holds the facts that its user needs.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from diffjscc.codecs.deepjscc import DeepJSCC
from diffjscc.codecs.joint import JointCodec
from diffjscc.data.files import new_folder
from diffjscc.export.graphs import (
    LatentDecoder,
    LatentEncoder,
    NoisePredictor,
    UnknownCodecError,
    codec_graphs,
    full_precision,
)
from diffjscc.pretrained.diffjscc import DiffJSCC
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.refiners.latents import stride
from diffjscc.refiners.prior import reads_text

TOLERANCE = 1e-4  # largest difference from PyTorch, relative to the output's rms
# Batch, and height and width in units of the multiple: of the export, and then of comparisons.
SIZES = ((2, 2, 3), (1, 3, 2), (3, 1, 4))
LARGEST_FILE = 1_500_000_000  # bytes of weights in one file; ONNX's own limit is 2 GiB
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


class ExportError(ValueError):
    """Networks that cannot be exported, or compute something else once they are."""


@dataclass(frozen=True)
class _Part:
    """A network to export.

    Attributes:
        name: of the file.
        graph: see `graphs`.
        inputs: makes inputs for (batch, rows, columns) in units of the multiple.
        scales: units per position of each spatial input.
        facts: metadata of the file.
        smallest: least height and width in units of the multiple.
    """

    name: str
    graph: nn.Module
    inputs: Callable[[int, int, int], tuple[Tensor, ...]]
    scales: dict[str, int]
    facts: dict[str, str]
    smallest: int = 1


def export_onnx(
    source: str, folder: Path, written: Callable[[Path], None] = lambda _: None
) -> list[Path]:
    """Export all networks of some weights, each compared with PyTorch at other sizes.

    Args:
        source: see `DiffJSCC.from_pretrained`.
        folder: to write; it must not exist, or be empty.
        written: called with each file's name as it is finished.

    Returns:
        The files.

    Raises:
        ExportError: a package is missing, or an exported network differs from PyTorch's.
        UnknownCodecError: the codec cannot be exported.
        ValueError: no such weights.
        OSError: the folder cannot be written, or holds something.
    """
    check_packages()
    scheme = DiffJSCC.from_pretrained(source, device="cpu", dtype=torch.float32)
    if not isinstance(scheme.codec, JointCodec):
        raise UnknownCodecError(
            f"{type(scheme.codec).__name__} is a codec of your own; export it by torch.onnx.export"
        )
    parts = _codec_parts(scheme, scheme.codec)
    if isinstance(scheme.refiner, ControlledDiffusion):
        parts += _receiver_parts(scheme, scheme.refiner)
    with new_folder(folder) as temporary:
        for part in parts:
            _export(part, temporary / f"{part.name}.onnx")
            written(folder / f"{part.name}.onnx")
    return [folder / f"{part.name}.onnx" for part in parts]


def check_packages() -> None:
    """Raise ExportError unless the packages of the extra are installed."""
    from importlib.util import find_spec  # noqa: PLC0415

    missing = [name for name in PACKAGES if find_spec(name) is None]
    if missing:
        raise ExportError(
            f"the export needs {', '.join(missing)}, not installed: pip install 'diffjscc[onnx]'"
        )


def _codec_parts(scheme: DiffJSCC, codec: JointCodec) -> list[_Part]:
    side, channels = codec.stride, codec.channels
    # Its padding by reflection is that of more than one latent position.
    smallest = 2 if isinstance(codec, DeepJSCC) else 1
    low, high = codec.snr_range_db
    facts = {
        "weights": scheme.provenance,
        "rates": " ".join(map(str, codec.rates)),
        "channels": " ".join(map(str, channels)),
        "snr_range_db": f"{low:g} {high:g}",
        "pixel_range": "0 1",
        "size_multiple": str(side),
        "smallest_side": str(smallest * side),
        "padding": codec.padding,
    }

    def given(first: Tensor, graph: nn.Module) -> tuple[Tensor, ...]:
        snr_db = torch.linspace(low, high, len(first))
        both = (first, snr_db)
        rate = torch.tensor(len(channels) - 1)
        return (*both, rate) if "rate_index" in graph.names else both  # type: ignore[operator]

    encoder, decoder = codec_graphs(codec)
    return [
        _Part(
            "codec_encoder",
            encoder,
            lambda b, h, w: given(_images(b, side * h, side * w), encoder),
            {"images": side},
            facts,
            smallest,
        ),
        _Part(
            "codec_decoder",
            decoder,
            lambda b, h, w: given(_normal(b, channels[-1], h, w), decoder),
            {"latent": 1},
            facts,
            smallest,
        ),
    ]


def _receiver_parts(scheme: DiffJSCC, refiner: ControlledDiffusion) -> list[_Part]:
    vae, denoiser = refiner.vae, refiner.denoiser
    unet, side = denoiser.unet, stride(vae)
    low, high = refiner.snr_range_db
    reduced = refiner.multiple // side  # latent positions per position of the prior's middle
    config = denoiser.control.config
    text = reads_text(unet)
    facts = {
        "weights": scheme.provenance,
        "snr_range_db": f"{low:g} {high:g}",
        "pixel_range": "0 1",
        "size_multiple": str(refiner.multiple),
        "latent_stride": str(side),
    }
    schedule = {key: refiner.scheduler.config[key] for key in SCHEDULE}
    settings = {
        "control_scale": f"{refiner.config.control_scale:g}",
        "noise_schedule": json.dumps(schedule),
    }
    guidance = {"control_guidance_scale": f"{refiner.config.control_guidance_scale:g}"}
    denoisers = [("denoiser", denoiser.control, guidance)]
    if denoiser.distilled is not None:
        few = {"distilled_steps": str(denoiser.distilled_steps)}
        denoisers.append(("distilled_denoiser", denoiser.distilled, few))

    def prior(b: int, h: int, w: int) -> tuple[Tensor, ...]:
        size = (reduced * h, reduced * w)
        inputs = (
            _normal(b, unet.config.in_channels, *size),
            torch.linspace(1, 900, b).long(),
            _normal(b, config.condition_channels, *size),
            torch.linspace(low, high, b),
            torch.tensor(0.7),
        )
        context = _normal(b, 3 + h, unet.config.cross_attention_dim) if text else None
        return inputs if context is None else (*inputs, context)

    encoders = {"vae_encoder": LatentEncoder(vae)}
    if refiner.condition_encoder is not None:
        encoders["condition_encoder"] = LatentEncoder(refiner.condition_encoder)
    return [
        *(
            _Part(
                name,
                graph,
                lambda b, h, w: (_images(b, side * h, side * w),),
                {"images": side},
                facts,
            )
            for name, graph in encoders.items()
        ),
        _Part(
            "vae_decoder",
            LatentDecoder(vae),
            lambda b, h, w: (_normal(b, vae.config.latent_channels, h, w),),
            {"latent": 1},
            facts,
        ),
        *(
            _Part(
                name,
                NoisePredictor(unet, control, text),
                prior,
                {"latent": reduced, "condition": reduced},
                facts | settings | own,
            )
            for name, control, own in denoisers
        ),
    ]


SCHEDULE = ("num_train_timesteps", "beta_start", "beta_end", "beta_schedule", "prediction_type")


def _images(batch: int, height: int, width: int) -> Tensor:
    return torch.rand(batch, 3, height, width, generator=torch.Generator().manual_seed(0))


def _normal(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


@torch.no_grad()
def _export(part: _Part, path: Path) -> None:
    """Write a network and compare it."""
    graph = full_precision(part.graph)
    names: tuple[str, ...] = graph.names  # type: ignore[assignment]
    inputs = part.inputs(*SIZES[0])
    weights = sum(tensor.nbytes for tensor in graph.state_dict().values())
    with _quietly():
        try:
            program = torch.onnx.export(
                graph,
                inputs,
                dynamo=True,
                dynamic_shapes=_free(names, inputs, part.scales),
                input_names=list(names),
                output_names=list(graph.outputs),  # type: ignore[arg-type]
                verbose=False,
            )
        except torch.onnx.OnnxExporterError as error:
            raise ExportError(
                f"torch {torch.__version__} cannot export {path.name} ({type(error).__name__}); "
                "try another version of torch and onnxscript"
            ) from error
        assert program is not None
        program.model.metadata_props.update(part.facts)
        program.save(path, external_data=weights > LARGEST_FILE)
    del program
    _compare(graph, part, path)


def _free(
    names: tuple[str, ...], inputs: tuple[Tensor, ...], scales: dict[str, int]
) -> tuple[dict[int, object], ...]:
    """Dimensions of each input that are free: batch, and spatial ones in multiples."""
    batch, rows, columns, length = (Dim(name) for name in ("batch", "rows", "columns", "length"))
    free = []
    for name, tensor in zip(names, inputs, strict=True):
        own: dict[int, object] = {0: batch} if tensor.ndim else {}
        if name in scales:
            own |= {2: scales[name] * rows, 3: scales[name] * columns}
        elif tensor.ndim == 3:
            own |= {1: length}
        free.append(own)
    return tuple(free)


def _compare(graph: nn.Module, part: _Part, path: Path) -> None:
    """Raise ExportError where ONNX Runtime computes something else than PyTorch."""
    import onnxruntime  # noqa: PLC0415 - an extra

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    for batch, rows, columns in SIZES:
        inputs = part.inputs(batch, max(rows, part.smallest), max(columns, part.smallest))
        names = [item.name for item in session.get_inputs()]
        given = dict(zip(names, (tensor.numpy() for tensor in inputs), strict=True))
        expected = graph(*inputs)
        expected = (expected,) if isinstance(expected, Tensor) else expected
        for name, found, wanted in zip(
            [item.name for item in session.get_outputs()],
            session.run(None, given),
            expected,
            strict=True,
        ):
            rms = float(wanted.square().mean().sqrt())
            error = float((torch.from_numpy(found) - wanted).abs().max()) / rms
            if not (math.isfinite(error) and error <= TOLERANCE):
                raise ExportError(
                    f"{path.name} differs from PyTorch: {name} by {error:.1e} of its rms at size "
                    f"{tuple(wanted.shape)}, more than {TOLERANCE:g}; report it with your "
                    f"versions of {', '.join(PACKAGES)} and torch"
                )


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep the exporter's notes to its own developers from the user."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)

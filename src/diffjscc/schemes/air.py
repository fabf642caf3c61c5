"""Schemes on the air: which scheme a frame's header names, and the header of a scheme's symbols."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from diffjscc.choices import DigitalKind, RefinerName
from diffjscc.codecs.digital.mcs import ALL, most_efficient
from diffjscc.data.images import MAX_PIXELS
from diffjscc.plugins import is_import_string
from diffjscc.pretrained.diffjscc import DiffJSCC
from diffjscc.pretrained.pretrained import bundled_weights, find_weights, open_weights
from diffjscc.pretrained.storage import read_json
from diffjscc.radio.header import Header, quantised_snr
from diffjscc.rate import Rate, parse_rate
from diffjscc.scheme import Scheme
from diffjscc.schemes.digital import SOURCES, digital_scheme, source_name
from diffjscc.schemes.digital_options import DigitalOptions
from diffjscc.schemes.loader import SchemeLoader, load_scheme
from diffjscc.schemes.options import RefinerOptions

if TYPE_CHECKING:
    from diffjscc.symbols import Symbols

NO_WEIGHTS = "0" * 12
NEURAL, CUSTOM = 1, 255
# Numbers in headers; they never change.
DIGITAL: Mapping[int, DigitalKind] = {
    16: "bpg-ldpc",
    17: "bpg-420-ldpc",
    18: "bpgenc-ldpc",
    19: "jpeg-ldpc",
    20: "jpeg2000-ldpc",
    21: "webp-ldpc",
    22: "avif-ldpc",
}
_MCS_NAMES = list(ALL)
# By `--scheme`: a receiver alone is not on the air, so that both are the same to a transmitter.
_NEURAL_NAMES = ("deepjscc", "diffjscc", "adv")


class UnknownSchemeError(ValueError):
    """A frame is of weights or of a scheme that the receiver was not given."""


def codec_hash(folder: Path) -> str:
    """Compute the hash of a codec's weights, 12 hexadecimal digits, at either end alike.

    It is that of the file names that codec/config.json lists, which hold the hashes of their
    contents; the files of the other end need not be there.
    """
    config = read_json(folder / "codec" / "config.json")
    listed = config.get("files") or {"model": config.get("file")}
    names = sorted(Path(str(name)).name for name in listed.values() if name)
    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:12]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@dataclass(frozen=True)
class Transmitter:
    """A scheme's encoder, with what its frames' headers say of it.

    Attributes:
        scheme: the codec at its rate; a refiner is not used.
        kind: number of the scheme's kind.
        weights: hash of the codec's weights, 12 hexadecimal digits.
        digital: options of a digital link.
    """

    scheme: Scheme
    kind: int
    weights: str
    digital: DigitalOptions = field(default_factory=DigitalOptions)

    @classmethod
    def load(
        cls, name: str, weights: str, rate: Rate, digital: DigitalOptions, device: str = "auto"
    ) -> Transmitter:
        """Load the transmitter of a scheme: of neural codecs the encoder's weights alone.

        Args:
            name: "deepjscc" or another neural kind, a digital link such as "bpg-ldpc", or an
                import string of a function that returns a scheme.
            weights: of neural kinds, see `open_weights`.
            rate: nominal, in channel uses per pixel.
            digital: options of digital links.
            device: where to compute.

        Raises:
            ValueError: a scheme that cannot be sent, weights or a rate that are not there, or
                options without effect.
        """
        numbers = {kind: number for number, kind in DIGITAL.items()}
        if digital.model_fields_set and name not in numbers:
            given = ", ".join(f"--{field}" for field in sorted(digital.model_fields_set))
            raise ValueError(f"{given}: for digital links such as bpg-ldpc, not for {name}")
        if is_import_string(name):
            made = SchemeLoader(device).custom(name, {}).at_rate(parse_rate(rate))
            return cls(made, CUSTOM, _digest(made.provenance))
        if name in numbers:
            link = digital_scheme(name, parse_rate(rate), digital)
            return cls(link, numbers[name], NO_WEIGHTS, digital)
        if name not in _NEURAL_NAMES:
            known = ", ".join((*_NEURAL_NAMES, *numbers))
            raise ValueError(f"{name} cannot be sent as a frame; known: {known}, or my_module:make")
        found = open_weights(weights)
        scheme = DiffJSCC.from_pretrained(
            found, rate, refiner=None, parts="transmitter", device=device
        )
        return cls(scheme, NEURAL, codec_hash(found.folder))

    def encode(self, image: Tensor, snr_db: float, number: int) -> tuple[Header, Symbols]:
        """Encode an image [3, H, W] in [0, 1]; the SNR in dB is rounded to 0.01.

        Raises:
            InfeasibleError: a digital link has nothing to send at this rate and SNR.
            ValueError: an image or SNR that a header cannot describe.
        """
        assumed = quantised_snr(snr_db)
        symbols = self.scheme.encode(image, assumed)
        mcs = 0 if self.digital.mcs is None else _MCS_NAMES.index(self.digital.mcs) + 1
        height, width = symbols.image_size
        header = Header(
            self.kind,
            self.weights,
            symbols.nominal_rate,
            height,
            width,
            symbols.channel_uses,
            assumed,
            number,
            mcs,
            self.digital.quality is not None,
            self.digital.downsample,
        )
        return header, symbols


class ReceiverSchemes:
    """Schemes by frames' headers; each set of weights is loaded when its first frame comes.

    Args:
        weights: sources of weights to receive with, see `open_weights`.
        factory: import string of the user's own scheme, if any.
        refiner: "diffusion", "none", or None for the weights' own.
        options: settings of the diffusion receiver.
        device: where to compute.

    Raises:
        ValueError: weights that are not there.
    """

    def __init__(
        self,
        weights: Sequence[str],
        factory: str | None = None,
        refiner: RefinerName | None = None,
        options: RefinerOptions | None = None,
        device: str = "auto",
    ) -> None:
        self.refiner, self.options, self.device = refiner, options or RefinerOptions(), device
        self._sources = {codec_hash(open_weights(name).folder): name for name in weights}
        self._loaded: dict[str, Scheme] = {}
        self._custom = None if factory is None else SchemeLoader(device).custom(factory, {})

    def scheme_for(self, header: Header) -> Scheme:
        """Return the scheme that decodes a frame.

        Raises:
            UnknownSchemeError: a frame of other weights, or of an unknown scheme.
            ValueError: a header that contradicts itself, or weights that cannot be loaded.
        """
        if header.height * header.width > MAX_PIXELS:
            raise ValueError(
                f"the header says {header.width}x{header.height} pixels; at most {MAX_PIXELS:,} "
                "are received"
            )
        if header.kind in DIGITAL:
            return _digital(header)
        if header.kind == CUSTOM:
            return self._own(header)
        if header.kind != NEURAL:
            raise UnknownSchemeError(f"scheme number {header.kind} is not known; update diffjscc")
        if header.weights not in self._sources:
            raise UnknownSchemeError(self._other_weights(header.weights))
        if header.weights not in self._loaded:
            self._loaded[header.weights] = load_scheme(
                self._sources[header.weights], None, self.refiner, self.options, self.device
            )
        return self._loaded[header.weights].at_rate(header.rate)

    def _own(self, header: Header) -> Scheme:
        if self._custom is None:
            raise UnknownSchemeError(
                "it was sent by a scheme of the sender's own; give that as --scheme my_module:make"
            )
        scheme = self._custom.at_rate(header.rate)
        if _digest(scheme.provenance) != header.weights:
            raise UnknownSchemeError(
                f"it was sent by another scheme of somebody's own ({header.weights}) than "
                f"{scheme.provenance}"
            )
        return scheme

    def _other_weights(self, found: str) -> str:
        names = [
            name for name in bundled_weights() if codec_hash(find_weights(name).folder) == found
        ]
        named = f' ("{names[0]}")' if names else ""
        held = ", ".join(f"{name} ({hash_})" for hash_, name in self._sources.items())
        return f"weights {found}{named} sent it, and --weights are {held}; give those as well"


def _digital(header: Header) -> Scheme:
    """Make the receiver of a digital link at the MCS that the transmitter chose."""
    kind = DIGITAL[header.kind]
    if header.mcs > len(_MCS_NAMES):
        raise ValueError(f"the header says modulation and code rate number {header.mcs}; unknown")
    if header.mcs:
        mcs = _MCS_NAMES[header.mcs - 1]
    else:
        chosen = most_efficient(header.snr_db)
        if chosen is None:
            raise ValueError(
                f"the header says {header.snr_db:g} dB, at which no digital link works"
            )
        mcs = chosen.name
    source = SOURCES[source_name(kind)]()
    quality = source.qualities[0] if header.fixed_quality else None
    options = DigitalOptions(mcs=mcs, quality=quality, downsample=header.downsampled)
    return digital_scheme(kind, header.rate, options, source)


def header_as_dict(header: Header) -> dict[str, object]:
    """Write a header as plain data, for JSON."""
    return {
        "kind": header.kind,
        "weights": header.weights,
        "rate": str(header.rate),
        "height": header.height,
        "width": header.width,
        "symbols": header.symbols,
        "assumed_snr_db": header.snr_db,
        "number": header.number,
        "mcs": header.mcs,
        "fixed_quality": header.fixed_quality,
        "downsampled": header.downsampled,
    }


def header_from_dict(values: Mapping[str, object]) -> Header:
    """Read what `header_as_dict` wrote.

    Raises:
        ValueError: a value is missing, or of another type or range.
    """
    try:
        return Header(
            int(str(values["kind"])),
            f"{int(str(values['weights']), 16):012x}",
            Fraction(str(values["rate"])),
            int(str(values["height"])),
            int(str(values["width"])),
            int(str(values["symbols"])),
            float(str(values["assumed_snr_db"])),
            int(str(values.get("number", 0))),
            int(str(values.get("mcs", 0))),
            bool(values.get("fixed_quality", False)),
            bool(values.get("downsampled", False)),
        )
    except (KeyError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(
            f"the description of a frame lacks {error}, or it is out of range"
        ) from error


def as_array(symbols: Symbols) -> NDArray[np.complex64]:
    """Take the one image's symbols, complex64 [K], to the CPU."""
    return symbols.values[0].detach().cpu().numpy()

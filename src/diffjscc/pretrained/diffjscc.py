"""`DiffJSCC.from_pretrained`: a scheme from any set of weights."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch
from torch import nn

from diffjscc.codecs.feedback import FeedbackJSCC
from diffjscc.codecs.joint import JointCodec, Parts, check_parts
from diffjscc.plugins import Factory
from diffjscc.pretrained.codec import read_codec, save_codec
from diffjscc.pretrained.custom import is_custom, load_custom, save_custom
from diffjscc.pretrained.offered import offered_rates
from diffjscc.pretrained.pretrained import Weights, open_weights
from diffjscc.pretrained.sources import with_revision
from diffjscc.pretrained.storage import WeightsError, has_refiner, read_json, write_json
from diffjscc.protocols import Codec, Refiner
from diffjscc.rate import Rate, check_offered, parse_rate
from diffjscc.refiners.devices import Precision, usable_device
from diffjscc.scheme import Scheme

CUSTOM_REFINER = "custom_refiner"  # folder of a custom refiner


def choose_device(name: str = "auto") -> torch.device:
    """Return the device of that name; "auto" is a CUDA GPU if there is one, else the CPU.

    Raises:
        ValueError: no such device on this machine, or one that this build of torch cannot use.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return usable_device(name)


@dataclass(frozen=True, init=False, repr=False)
class DiffJSCC(Scheme):
    """A scheme loaded from saved weights.

    Attributes:
        codec, rate, refiner: see `Scheme`.
        provenance: source of the weights, and the start of the hash of the loaded ones (always
            both ends of the codec): "compact@1a2b3c".
        card: training and data of the weights, and metrics measured with them.
    """

    card: dict[str, Any] | None

    def __init__(
        self,
        codec: Codec,
        rate: Rate,
        refiner: Refiner | None = None,
        provenance: str = "",
        card: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(codec, rate, refiner, provenance)
        object.__setattr__(self, "card", card)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path | Weights = "compact",
        rate: Rate | None = None,
        *,
        refiner: Literal["default"] | Refiner | None = "default",
        parts: Parts = "both",
        device: str = "auto",
        dtype: Precision = None,
        offload: bool = False,
        trust_custom_code: bool = False,
        revision: str | None = None,
    ) -> DiffJSCC:
        """Load weights.

        Args:
            source: name of bundled weights, a folder written by `save_pretrained`, or a hub id,
                with a revision if need be ("owner/name@revision").
                A folder or hub id may also be a checkpoint that the paper's authors released; it
                is converted once. `Weights` that were found before are not looked up again.
            rate: nominal rate in cpp, such as "1/128"; the weights' lowest where it is None.
            refiner: refiner of the initial images: "default" is the weights' own if they have one,
                None gives the codec alone, and any other refiner is used as it is.
            parts: "transmitter" or "receiver" loads that end only; a transmitter loads no refiner.
            device: "auto", "cpu", "cuda", "cuda:1", …
            dtype: of the refiner's weights; by default bfloat16 on CUDA and float32 elsewhere.
                `WeightStorage.FLOAT16` stores float16 and computes in float32. The codec
                computes in float32.
            offload: keep the refiner on the CPU and bring each of its networks to `device` only
                while it is needed, for GPUs that cannot hold them all.
            trust_custom_code: consent to import and call the code that the folder of a custom
                codec or refiner names.
            revision: branch, tag or commit of a hub id, as if it were written after its @.

        Raises:
            ValueError: unknown or damaged weights, a rate that they do not offer, no such device,
                part or dtype, custom code without consent.
        """
        if isinstance(refiner, str) and refiner != "default":
            raise ValueError(f"refiner {refiner!r} is neither 'default', None nor a refiner")
        check_parts(parts)
        computing = choose_device(device)
        if revision is not None:
            source = with_revision(source, revision)
        offered = None if rate is None else offered_rates(str(getattr(source, "source", source)))
        if rate is not None and offered is not None:  # before gigabytes are fetched and read
            check_offered(parse_rate(rate), offered, f'(weights "{source}")')
        weights = source if isinstance(source, Weights) else open_weights(source)
        folder = weights.folder
        codec: Codec
        if is_custom(folder / "codec" / "config.json"):
            codec = load_custom(folder / "codec", computing, trust_custom_code)
        else:
            codec = read_codec(folder, parts, computing)
        loaded, chosen = ["codec"], None if isinstance(refiner, str) else refiner
        if refiner == "default" and parts != "transmitter":
            if weights.has_refiner:
                # Imported here: a codec alone does not wait for diffusers.
                from diffjscc.pretrained.networks import FOLDERS  # noqa: PLC0415
                from diffjscc.pretrained.receiver import load_refiner  # noqa: PLC0415

                chosen = load_refiner(folder, computing, dtype, offload)
                chosen.codec = codec
                loaded += FOLDERS
            elif (folder / CUSTOM_REFINER).is_dir():
                chosen = load_custom(folder / CUSTOM_REFINER, computing, trust_custom_code)
                loaded.append(CUSTOM_REFINER)
        card = folder / "card.json"
        return cls(
            codec,
            codec.rates[0] if rate is None else rate,
            chosen,
            weights.provenance(loaded),
            read_json(card) if card.exists() else None,
        )

    def save_pretrained(
        self,
        folder: str | Path,
        dtype: torch.dtype = torch.float32,
        *,
        codec_factory: Factory | None = None,
        refiner_factory: Factory | None = None,
    ) -> None:
        """Write codec and refiner to `folder`, tensors stored as `dtype`, so that they load again.

        Args:
            folder: gets the weights.
            dtype: torch.float32 loses nothing; float16 and bfloat16 take half the space, and int8
                a quarter, with one scale per row of every large tensor (see `storage`). Whatever
                they are stored as, weights load as `from_pretrained` is asked to.
            codec_factory: import string and arguments that build a custom codec.
            refiner_factory: import string and arguments that build a custom refiner.

        Raises:
            ValueError: `dtype` is none of these or cannot hold the numbers, a custom codec or
                refiner comes without its factory, the codec was loaded for one end only, or
                `folder` holds a refiner and this scheme has none.
            OSError: `folder` cannot be written.
        """
        target = Path(folder)
        if self.refiner is None and (has_refiner(target) or (target / CUSTOM_REFINER).is_dir()):
            raise ValueError(
                f"{target} holds a refiner, which would be taken for this scheme's, but it "
                "has none; save to another folder"
            )
        refiner = self.refiner
        if refiner is not None and refiner_factory is None:
            from diffjscc.pretrained.receiver import save_refiner  # noqa: PLC0415
            from diffjscc.refiners.diffusion import ControlledDiffusion  # noqa: PLC0415

            if not isinstance(refiner, ControlledDiffusion):
                raise _needs_factory(refiner, "refiner")
            self._save_codec(target, dtype, codec_factory)
            save_refiner(refiner, target, dtype)
        else:
            self._save_codec(target, dtype, codec_factory)
            if refiner is not None and refiner_factory is not None:
                save_custom(refiner, target / CUSTOM_REFINER, refiner_factory, dtype)
        if self.card is not None:
            # A converted checkpoint's checksums are those of the files that it was converted to.
            card = {key: value for key, value in self.card.items() if key != "sha256"}
            write_json(target / "card.json", card)

    def push_to_hub(
        self,
        repo_id: str,
        *,
        dtype: torch.dtype = torch.float32,
        results: Iterable[Mapping[str, Any]] = (),
        dataset: str = "own images",
        licence: str | None = None,
        codec_factory: Factory | None = None,
        refiner_factory: Factory | None = None,
        commit_message: str = "Upload weights with diffjscc",
        private: bool | None = None,
        token: str | None = None,
        revision: str | None = None,
        create_pr: bool = False,
    ) -> str:
        """Write codec and refiner to the hub, with a model card, in one commit.

        The card is made of `card` and `results`. `DiffJSCC.from_pretrained(repo_id)` loads them.

        Args:
            repo_id: "owner/name"; made if it does not exist.
            dtype: see `save_pretrained`.
            results: records as plain values, `evaluate(…).as_dicts()`, for the card's table and
                the hub's metadata.
            dataset: name of the images that they are of.
            licence: identifier that the hub knows, such as "apache-2.0".
            codec_factory: see `save_pretrained`.
            refiner_factory: see `save_pretrained`.
            commit_message: of the commit.
            private: whether a new repository is private; None leaves it to its owner's settings.
            token: of the hub; None takes that of `hf auth login` or HF_TOKEN.
            revision: branch to commit to.
            create_pr: propose the commit in place of making it.

        Returns:
            Address of the commit, or of the proposal.

        Raises:
            ValueError: weights that cannot be saved, no token, or a hub that refuses them.
        """
        from diffjscc.pretrained.publishing import Upload  # noqa: PLC0415

        upload = Upload(repo_id, commit_message, private, token, revision, create_pr)
        upload.check()
        text = self.model_card(repo_id, results, dataset, licence)
        with TemporaryDirectory(prefix="diffjscc-") as place:
            self.save_pretrained(
                place, dtype, codec_factory=codec_factory, refiner_factory=refiner_factory
            )
            return upload.send(Path(place), {"README.md": text.encode()})

    def model_card(
        self,
        repo_id: str,
        results: Iterable[Mapping[str, Any]] = (),
        dataset: str = "own images",
        licence: str | None = None,
    ) -> str:
        """Write the model card of `push_to_hub`, in Markdown with the hub's metadata at its head.

        Args:
            repo_id: see `push_to_hub`, as for the others.
            results: records as plain values.
            dataset: name of the images that they are of.
            licence: identifier that the hub knows.

        Raises:
            ValueError: results that are no records.
        """
        from diffjscc.pretrained.model_card import Facts, model_card  # noqa: PLC0415

        facts = Facts(
            repo_id,
            type(self.codec).__name__,
            [str(rate) for rate in self.codec.rates],
            None if self.refiner is None else type(self.refiner).__name__,
            sum((_sizes(self.codec) | _sizes(self.refiner)).values()),
            self.card,
            licence,
        )
        return model_card(facts, results, dataset)

    def _save_codec(self, target: Path, dtype: torch.dtype, factory: Factory | None) -> None:
        if factory is not None:
            save_custom(self.codec, target / "codec", factory, dtype)
        elif isinstance(self.codec, JointCodec | FeedbackJSCC):
            save_codec(self.codec, target, dtype)
        else:
            raise _needs_factory(self.codec, "codec")


def _sizes(part: object) -> dict[int, int]:
    """Size of each parameter of a torch module, or of those that a part of this package holds."""
    if isinstance(part, nn.Module):
        return {id(parameter): parameter.numel() for parameter in part.parameters()}
    if not type(part).__module__.startswith("diffjscc."):
        return {}
    held = [_sizes(one) for one in getattr(part, "__dict__", {}).values()]
    return {key: size for sizes in held for key, size in sizes.items()}


def _needs_factory(part: object, name: str) -> WeightsError:
    kind = type(part).__name__
    return WeightsError(
        f"{kind} is a {name} of your own; give the factory that builds it, such as "
        f'{name}_factory=Factory(factory="my_module:{kind}"), or save the scheme without it'
    )

"""Parts shared by stages that train one part of a diffusion receiver and write the whole scheme."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import torch

from diffjscc.codecs.joint import JointCodec
from diffjscc.data.sources import ImageSource
from diffjscc.pretrained.pretrained import save_codec
from diffjscc.pretrained.receiver import save_refiner
from diffjscc.refiners.diffusion import ControlledDiffusion
from diffjscc.training.control_config import ControlConfig
from diffjscc.training.sampled_config import SampledStageConfig
from diffjscc.training.stage import Batch, Stage, Validation
from diffjscc.training.validation import ReceiverValidation


class ReceiverStage(Stage[Batch]):
    """Base of stages that train a part of a diffusion receiver.

    Attributes:
        held_out: images for validation, if there are any.
        rates: at which they are sent.
        codec: frozen.
        refiner: the receiver, one of whose networks is in training.
    """

    config: ControlConfig | SampledStageConfig
    held_out: ImageSource | None
    rates: Sequence[Fraction]
    codec: JointCodec
    refiner: ControlledDiffusion

    def validation(self) -> Validation | None:
        """PSNR and, where its weights are installed, LPIPS of held-out images."""
        if self.held_out is None:
            return None
        return ReceiverValidation(self.held_out, self.config, self.rates, self.codec, self.refiner)

    def save(self, folder: Path) -> None:
        """Write the whole scheme."""
        save_codec(self.codec, folder)
        save_refiner(self.refiner, folder, torch.float32)

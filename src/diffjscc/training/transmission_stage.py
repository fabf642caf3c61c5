"""Parts shared by stages that train on transmissions of crops."""

from __future__ import annotations

from diffjscc.data.readable import ReadableImages
from diffjscc.training.stage import Stage
from diffjscc.training.transmission import PSNRByRate, TransmissionBatch, TransmissionBatches


class TransmissionStage(Stage[TransmissionBatch]):
    """Base of stages that train on transmissions of crops.

    Attributes:
        batches: of every iteration.
        psnr: of the training images, by rate.
    """

    batches: TransmissionBatches
    psnr: PSNRByRate

    def batches_at(self, step: int, process: int, processes: int) -> tuple[TransmissionBatch]:
        """See `Stage.batches_at`."""
        return (self.batches.batch_at(step, process, processes),)

    def names_at(self, step: int, process: int, processes: int) -> list[str]:
        """See `Stage.names_at`."""
        return self.batches.crops.names_at(step, process, processes)

    def readable(self) -> ReadableImages:
        """The images that crops are taken of."""
        return self.batches.crops.source

    def metrics(self) -> dict[str, float]:
        """PSNR of the training images by rate."""
        return self.psnr.report()

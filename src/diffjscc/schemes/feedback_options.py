"""Options of schemes with feedback."""

from __future__ import annotations

from pydantic import model_validator

from diffjscc.choices import Resend
from diffjscc.configuration import Decibels, Section


class FeedbackOptions(Section):
    """Settings of the link back and of what further rounds send, see `FeedbackJSCC`.

    Attributes:
        snr_db: Es/N0 of the feedback link; None: noiseless.
        resend: None takes "uncertain" over a noiseless link, and "everything" over a noisy one,
            over which both ends cannot agree on where the receiver is uncertain.
    """

    snr_db: Decibels | None = None
    resend: Resend | None = None

    @model_validator(mode="after")
    def _agreement(self) -> FeedbackOptions:
        if self.snr_db is not None and self.resend == "uncertain":
            raise ValueError(
                f"resend = uncertain needs a noiseless feedback link, not one of {self.snr_db:g} "
                "dB: both ends must agree on where the receiver is uncertain; take everything"
            )
        return self

    @property
    def chosen(self) -> Resend:
        """The rule that holds, None replaced by its default."""
        return self.resend or ("uncertain" if self.snr_db is None else "everything")

    @property
    def label(self) -> str:
        """The settings that differ from the defaults, for names: ", feedback at 10 dB"."""
        noisy = "" if self.snr_db is None else f", feedback at {self.snr_db:g} dB"
        return noisy or ("" if self.chosen == "uncertain" else ", everything")

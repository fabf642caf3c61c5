"""Rates of schemes, checked before anything is loaded."""

from __future__ import annotations

from collections.abc import Sequence

from diffjscc.pretrained.offered import offered_rates
from diffjscc.rate import Rate, check_offered, parse_rate
from diffjscc.schemes.config import SchemeConfig
from diffjscc.schemes.kinds import KINDS


def check_rates(config: SchemeConfig, rates: Sequence[Rate]) -> None:
    """Raise ValueError for a rate that is no number, or known not to be one of the weights'."""
    wanted = [parse_rate(rate) for rate in rates]
    pooling = KINDS[config.kind].pooling
    weights = config.weights if config.codec is None else config.codec
    offered = None if pooling is None else offered_rates(weights)
    if pooling is None or offered is None:
        return
    if config.rate_policy is not None:
        for rate in wanted:
            if not offered[0] <= rate <= offered[-1]:
                raise ValueError(
                    f"{config.name}: rate {rate} is outside {offered[0]} to {offered[-1]}, the "
                    f'rates of weights "{config.weights}"'
                )
        return
    for rate in wanted:
        try:
            check_offered(rate, [one / pooling for one in offered], f'(weights "{weights}")')
        except ValueError as error:
            raise ValueError(f"{config.name}: {error}") from None

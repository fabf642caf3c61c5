"""Several rounds over one channel, between which the transmitter learns what was received.

A sender is a generator: it yields the symbols of a round and is sent what the feedback link brought
of them, until no round is left. The receiver decodes from the symbols of all rounds together.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from diffjscc.symbols import ChannelState, Generators, Received, Symbols

Sender = Generator[Symbols, Received, None]
Send = Callable[[Symbols, Generators, ChannelState | None], Received]
FeedBack = Callable[[Received, Generators], Received]


def exchange(
    sender: Sender,
    rounds: int,
    send: Send,
    feed_back: FeedBack,
    state: ChannelState,
    generator: Generators = None,
) -> Received:
    """Send the symbols of all rounds, each but the last fed back before the next.

    A gain per image stays over all rounds, as it does over the symbols of an image that is sent at
    once: neither way has more diversity. A channel with a gain per symbol samples every round.

    Args:
        sender: of the batch, not begun.
        rounds: that it has, at least 1.
        send: the channel, which samples its state where it is given None.
        feed_back: the link from the receiver to the transmitter.
        state: of the channel in the first round.
        generator: drives fades and noise of both links.

    Returns:
        The symbols of all rounds, see `joined`.
    """
    received = [send(next(sender), generator, state)]
    for _ in range(rounds - 1):
        symbols = sender.send(feed_back(received[-1], generator))
        faded = received[-1].state.gain.shape[1] > 1
        received.append(send(symbols, generator, None if faded else state))
    sender.close()
    return joined(received)


def joined(rounds: Sequence[Received]) -> Received:
    """Join the rounds of an image, in their order; all but the last were fed back.

    Returns:
        All symbols, with one gain per image where all rounds have the same, and else one each.
    """
    first = rounds[0]
    gains = [one.state.gain for one in rounds]
    gain = gains[0]
    if not all(one.shape[1] == 1 and torch.equal(one, gain) for one in gains):
        gain = torch.cat([_each(one.state.gain, one.values) for one in rounds], dim=1)
    kinds: dict[str, int] = {}
    for one in rounds:
        for kind, uses in one.uses_by_kind.items():
            kinds[kind] = kinds.get(kind, 0) + uses
    return replace(
        first,
        values=torch.cat([one.values for one in rounds], dim=1),
        state=ChannelState(gain, first.state.mean_snr_db, first.state.transmitter_csi),
        uses_by_kind=kinds,
        feedback_uses=sum(one.channel_uses for one in rounds[:-1]),
    )


def parted(received: Received, uses: Sequence[int]) -> list[Received]:
    """Part received symbols into their rounds, of so many channel uses each; undoes `joined`.

    The receiver may stop after any round: rounds of which there are no symbols are left out.

    Raises:
        ValueError: the symbols are not those of whole rounds.
    """
    parts, first = list[Received](), 0
    for number in uses:
        if first == received.channel_uses and parts:
            break
        parts.append(received.span(slice(first, first + number), received.nominal_rate))
        first += number
    if first != received.channel_uses:
        listed = " + ".join(map(str, uses))
        raise ValueError(
            f"{received.channel_uses} symbols received, but the rounds of a "
            f"{received.image_size[1]}x{received.image_size[0]} image at rate "
            f"{received.nominal_rate} are {listed}"
        )
    return parts


def _each(gain: Tensor, values: Tensor) -> Tensor:
    """Expand gains to one for each symbol, [B, K]."""
    return gain.expand_as(values)

"""Transmissions of which some may fail: those that do are noted, and the others go on."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from diffjscc.evaluation.images import SourceImage
from diffjscc.evaluation.records import Absent, OperatingPoint
from diffjscc.evaluation.transmission import Delivery, Link
from diffjscc.memory import memory_error
from diffjscc.protocols import InfeasibleError

# What may end a single transmission: wrong values, an operator or device that fails, no memory.
FAILURES = (ValueError, RuntimeError, ArithmeticError, MemoryError, OSError)


@dataclass(frozen=True, eq=False)
class Refusal:
    """Transmission of which nothing was delivered.

    Attributes:
        error: that ended it.
        repeat: number of the transmission; None stands for all.
    """

    error: Exception
    repeat: int | None

    @property
    def failed(self) -> bool:
        """Return whether the transmission failed; otherwise the scheme cannot send this image."""
        return not isinstance(self.error, InfeasibleError)

    def at(self, point: OperatingPoint, image: str) -> Absent:
        """Note it."""
        return Absent(*point, image, _reason(self.error), self.failed, self.repeat)


def attempt(
    link: Link,
    image_of: Callable[[int], SourceImage],
    images: Sequence[int],
    repeats: Sequence[int],
    at_once: int = 1,
) -> Iterator[tuple[int, Delivery | Refusal]]:
    """Transmit images, see `Link.transmit`; where one of several fails, each is tried alone.

    Args:
        link: to send over.
        image_of: reads an image, by its number.
        images: numbers of images, all of one size.
        repeats: numbers of the transmissions of each.
        at_once: see `Link.transmit`.

    Yields:
        The number of an image, and what was delivered of it, or why nothing was.
    """
    parts: list[tuple[Sequence[int], Sequence[int]]] = [(images, repeats)]
    while parts:
        some, numbers = parts.pop(0)
        try:
            sent = link.transmit([image_of(index) for index in some], numbers, at_once)
        except FAILURES as error:
            failed = not isinstance(error, InfeasibleError)
            if len(some) > 1:
                parts += [((index,), numbers) for index in some]
                continue
            if failed and len(numbers) > 1:
                parts += [(some, (number,)) for number in numbers]
                continue
            free(error)
            yield some[0], Refusal(error, numbers[0] if failed else None)
        else:
            yield from zip((index for index in some for _ in numbers), sent, strict=True)


def free(error: BaseException) -> None:
    """Let go of what the functions that an error ended hold in memory; its traceback stays."""
    chain: BaseException | None = error
    while chain is not None:
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__


def _reason(error: Exception) -> str:
    """Put an error in one line."""
    full = memory_error(error)
    if full is not None:
        return str(full)
    lines = str(error).strip().splitlines()
    text = lines[0] if lines else ""
    if isinstance(error, ValueError) and text:
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__

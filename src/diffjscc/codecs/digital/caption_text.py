"""Captions in few bits: arithmetic coding of their letters by what precedes them.

The model is static: it counts which byte follows which, over up to `ORDER` bytes, in a text of
common words that both ends have, and blends the counts of long and short contexts (Witten and
Bell, "The zero-frequency problem", 1991, method C). The coder is that of Witten, Neal and Cleary,
"Arithmetic coding for data compression", 1987.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

ORDER = 4
END = 256  # the symbol behind the last byte
SYMBOLS = END + 1
LONGEST = 255  # bytes of UTF-8
TOTAL = 1 << 16  # sum of all frequencies, at most
PRIMER = "caption_text.txt"

_BITS = 32
_WHOLE, _HALF, _QUARTER = 1 << _BITS, 1 << _BITS - 1, 1 << _BITS - 2


def compress(text: str) -> bytes:
    """Compress a caption; spaces at its ends are dropped, and of several one is left.

    Raises:
        ValueError: it is longer than `LONGEST` bytes of UTF-8.
    """
    data = " ".join(text.split()).encode()
    if len(data) > LONGEST:
        raise ValueError(
            f"the caption has {len(data)} bytes; at most {LONGEST} are sent: shorten it"
        )
    low, high, waiting = 0, _WHOLE - 1, 0
    bits: list[int] = []

    def put(bit: int) -> None:
        nonlocal waiting
        bits.extend([bit, *[1 - bit] * waiting])
        waiting = 0

    for place, symbol in enumerate([*data, END]):
        frequencies = _frequencies(data[max(0, place - ORDER) : place])
        total, before = sum(frequencies), sum(frequencies[:symbol])
        span = high - low + 1
        high = low + span * (before + frequencies[symbol]) // total - 1
        low = low + span * before // total
        while True:
            if high < _HALF:
                put(0)
            elif low >= _HALF:
                put(1)
                low, high = low - _HALF, high - _HALF
            elif low >= _QUARTER and high < 3 * _QUARTER:
                waiting += 1
                low, high = low - _QUARTER, high - _QUARTER
            else:
                break
            low, high = 2 * low, 2 * high + 1
    # A single 1 behind what is certain lies between low and high, and zeros may follow.
    waiting += 1
    put(0 if low < _QUARTER else 1)
    return _packed(bits)


def decompress(data: bytes) -> str:
    """Undo `compress`; zero bytes may follow.

    Raises:
        ValueError: no caption was compressed to these bytes.
    """
    low, high, code = 0, _WHOLE - 1, 0
    source = _unpacked(data)
    for _ in range(_BITS):
        code = 2 * code + next(source)
    found = bytearray()
    while True:
        frequencies = _frequencies(bytes(found[-ORDER:]))
        total, span = sum(frequencies), high - low + 1
        target = ((code - low + 1) * total - 1) // span
        symbol, before = 0, 0
        while before + frequencies[symbol] <= target:
            before += frequencies[symbol]
            symbol += 1
        if symbol == END:
            break
        found.append(symbol)
        if len(found) > LONGEST:
            raise ValueError(f"a caption of more than {LONGEST} bytes was not sent")
        high = low + span * (before + frequencies[symbol]) // total - 1
        low = low + span * before // total
        while True:
            if low >= _HALF:
                low, high, code = low - _HALF, high - _HALF, code - _HALF
            elif low >= _QUARTER and high < 3 * _QUARTER:
                low, high, code = low - _QUARTER, high - _QUARTER, code - _QUARTER
            elif high >= _HALF:
                break
            low, high, code = 2 * low, 2 * high + 1, 2 * code + next(source)
    try:
        return found.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"a caption that is no text was not sent: {error}") from error


@cache
def _counts() -> dict[bytes, Counter[int]]:
    """Count what follows each context of up to `ORDER` bytes in the primer's lines."""
    text = files("diffjscc.codecs.digital").joinpath(PRIMER).read_text(encoding="utf-8")
    counts: dict[bytes, Counter[int]] = {}
    for line in text.splitlines():
        data = line.encode()
        for place, symbol in enumerate([*data, END]):
            for order in range(min(ORDER, place) + 1):
                counts.setdefault(data[place - order : place], Counter())[symbol] += 1
    return counts


@cache
def _frequencies(context: bytes) -> tuple[int, ...]:
    """Frequencies of the next symbol, at least 1 each, as both ends compute them."""
    # Sums, products and quotients of floats are the same on every machine.
    shares = [1 / SYMBOLS] * SYMBOLS
    for order in range(len(context) + 1):
        counts = _counts().get(context[len(context) - order :])
        if counts is None:
            break
        seen, kinds = sum(counts.values()), len(counts)
        shorter = kinds / (seen + kinds)
        shares = [shorter * share for share in shares]
        for symbol, count in counts.items():
            shares[symbol] += count / (seen + kinds)
    return tuple(1 + int((TOTAL - SYMBOLS) * share) for share in shares)


def _packed(bits: list[int]) -> bytes:
    """Pack bits into bytes, the first one highest, without zero bytes at the end."""
    whole = "".join(map(str, bits)).ljust(-(-len(bits) // 8) * 8, "0")
    return bytes(int(whole[i : i + 8], 2) for i in range(0, len(whole), 8)).rstrip(b"\0")


def _unpacked(data: bytes) -> Iterator[int]:
    """Yield the bits of bytes, then zeros."""
    for byte in data:
        yield from (byte >> shift & 1 for shift in range(7, -1, -1))
    while True:
        yield 0

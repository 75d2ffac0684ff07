"""Label Studio's brush format: thi.ng's rle-pack over the RGBA values of a mask.

A bit stream, most significant bit first, given as a list of bytes:

    32 bits  N = width × height × 4
     5 bits  7: values have 8 bits
    4 × 4    2, 3, 7, 15: counts have 3, 4, 8 or 16 bits
    then, until there are N values:
      1 bit x · 2 bits i · count - 1 in sizes[i] bits · x ? one value, count times : count values

Format: https://github.com/thi-ng/umbrella/tree/develop/packages/rle-pack. `encode` gives the very bytes of
`label_studio_sdk.converter.brush.mask2rle`, `decode` reads those and what browsers make of anti-aliased
strokes.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from training.data.regions.errors import BadRegion

_HEADER_BITS = 53
_SIZES = np.array([3, 4, 8, 16])
_AFTER_COUNT = 0b00111_0010_0011_0111_1111
"""What follows the 32 bits of N: word size and count sizes."""
_LONGEST_RUN = 2**16
_MOST_BITS_PER_VALUE = 27
"""Of a token of one value whose count takes 16 bits."""
_PADDING_BITS = 64


def encode(mask: NDArray[Any]) -> list[int]:
    """Bytes of a mask (H, W), bool or integer: alpha 255 where it is not zero, R = G = B = alpha.

    The same bytes as `mask2rle` of Label Studio's SDK, including its extra zero byte where the stream ends on
    a byte boundary. Raises `ValueError` for an array that is no mask.
    """
    if mask.ndim != 2 or not mask.size:
        raise ValueError(f"a mask must have the shape (height, width), not {mask.shape}")
    runs, values = _runs(mask.ravel() != 0)
    codes, lengths = _tokens(4 * runs, np.where(values, 255, 0))
    header = (4 * mask.size << 21 | _AFTER_COUNT, _HEADER_BITS)
    return list(_packed(header, codes, lengths))


def _runs(flat: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Lengths and values of the runs of equal pixels."""
    starts = np.concatenate(([0], np.flatnonzero(flat[1:] != flat[:-1]) + 1))
    return np.diff(starts, append=flat.size), flat[starts]


def _tokens(
    counts: NDArray[np.int64], values: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """One token per run of at least two values, as (code, number of bits).

    A run beyond the longest count becomes several tokens, the rest of it with 16 bits like the others.
    """
    pieces = -(-counts // _LONGEST_RUN)
    i = np.select([counts <= 8, counts <= 16, counts <= 256], [0, 1, 2], 3)
    i, values = np.repeat(i, pieces), np.repeat(values, pieces)
    lasts = np.cumsum(pieces) - 1
    sizes = np.full(i.size, _LONGEST_RUN)
    sizes[lasts] = counts - (pieces - 1) * _LONGEST_RUN
    codes = (4 + i << _SIZES[i] | sizes - 1) << 8 | values
    return codes, 11 + _SIZES[i]


def _packed(header: tuple[int, int], codes: NDArray[np.int64], lengths: NDArray[np.int64]) -> bytes:
    """The bit stream of a header of at most 64 bits and codes of at most 32, padded as the SDK does it."""
    ends = header[1] + np.cumsum(lengths)
    starts = ends - lengths
    words = starts // 32
    shifted = codes.astype(np.uint64) << (64 - lengths - starts % 32).astype(np.uint64)
    # Tokens share no bits, so adding is joining; sums below 2**32 are exact in bincount's float64.
    count = int(ends[-1]) // 32 + 2
    stream = np.bincount(words, (shifted >> np.uint64(32)).astype(np.float64), count)
    stream += np.bincount(words + 1, (shifted & np.uint64(0xFFFFFFFF)).astype(np.float64), count)
    packed = stream.astype(np.uint32)
    first = header[0] << 64 - header[1]
    packed[:2] |= np.array([first >> 32, first & 0xFFFFFFFF], np.uint32)
    return packed.astype(">u4").tobytes()[: int(ends[-1]) // 8 + 1]


def decode(rle: Sequence[int], shape: tuple[int, int]) -> NDArray[np.uint8]:
    """Alpha (H, W) in 0…255 of a brush region on an image of `shape` (height, width).

    Raises `BadRegion` for a stream of another size, one that is cut short, or anything that is no stream;
    memory and time stay in proportion to the image and to the stream.
    """
    values = 4 * shape[0] * shape[1]
    stream = _stream(rle, values)
    tokens = _token_positions(stream)
    heads = _bits(stream, tokens, 7)
    is_run, i = heads >> 6 == 1, heads >> 4 & 3
    counts = (_bits(stream, tokens + 3, 16) >> 16 - _SIZES[i]) + 1
    data = tokens + 3 + _SIZES[i]
    used = int(np.searchsorted(np.cumsum(counts), values)) + 1
    if used > counts.size or counts[:used].sum() != values:
        raise BadRegion("its RLE does not fill the image; it is damaged or cut short.")
    return _alpha(stream, is_run[:used], counts[:used], data[:used]).reshape(shape)


def _stream(rle: Sequence[int], values: int) -> NDArray[np.uint8]:
    """The checked bytes, padded so that 24 bits can be read at any of their bits."""
    if not isinstance(rle, list | tuple | bytes) or not rle:
        raise BadRegion("its RLE is missing; it must be a list of bytes.")
    if len(rle) * 8 > _HEADER_BITS + values * _MOST_BITS_PER_VALUE + _PADDING_BITS:
        raise BadRegion("its RLE is longer than any mask of this size.")
    try:
        stream = np.frombuffer(bytes(rle) + b"\0\0\0", np.uint8)
    except (TypeError, ValueError):
        raise BadRegion("its RLE is no list of bytes, integers from 0 to 255.") from None
    header = int.from_bytes(stream[:7].tobytes(), "big") >> 3
    if stream.size < 10 or header & (1 << 21) - 1 != _AFTER_COUNT:
        raise BadRegion("its RLE is not in Label Studio's brush format.")
    if header >> 21 != values:
        raise BadRegion(f"its RLE is of {header >> 23} px, but the image has {values // 4} px.")
    return stream


def _token_positions(stream: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Bit position of every token.

    Where a token starts is known only from the one before it. This walk is the one serial part: the length a
    token would have is looked up beforehand for every bit of the stream.
    """
    windows = stream[:-1].astype(np.uint16) << 8 | stream[1:]
    steps = _step_table()[windows].tobytes()
    end = 8 * (stream.size - 3)
    positions = array("q")
    append = positions.append
    position = _HEADER_BITS
    while position < end:
        append(position)
        step = steps[position]
        position += step or _long_literal_bits(stream, position)
    tokens = np.frombuffer(positions, np.int64)
    # the last one may be padding, or cut off: it counts only if all of it is there
    return tokens if position <= end else tokens[:-1]


@lru_cache(maxsize=1)
def _step_table() -> NDArray[np.uint64]:
    """For 16 bits of a stream: the length of the token at each of the first 8, as the 8 bytes of an integer.

    0 stands for literals whose count is not within 7 bits.
    """
    heads = np.arange(128)
    is_run, i = heads >> 6 == 1, heads >> 4 & 3
    counts = np.where(i == 0, heads >> 1 & 7, heads & 15) + 1
    steps = 3 + _SIZES[i] + np.where(is_run, 8, 8 * counts)
    steps[~is_run & (i >= 2)] = 0
    windows = np.arange(2**16)
    table = np.stack([steps[windows >> 9 - bit & 127] for bit in range(8)], axis=1)
    return table.astype(np.uint8).view(np.uint64).ravel()


def _long_literal_bits(stream: NDArray[np.uint8], position: int) -> int:
    size = 16 if _bit(stream, position + 2) else 8
    at, shift = divmod(position + 3, 8)
    window = int.from_bytes(stream[at : at + 3].tobytes().ljust(3, b"\0"), "big")
    count = (window >> 24 - shift - size & (1 << size) - 1) + 1
    return 3 + size + 8 * count


def _bit(stream: NDArray[np.uint8], position: int) -> int:
    return int(stream[position >> 3]) >> 7 - (position & 7) & 1


def _bits(stream: NDArray[np.uint8], positions: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """The `count` ≤ 16 bits at each position."""
    at, shift = positions >> 3, positions & 7
    high, middle, low = (stream[at + k].astype(np.int64) for k in range(3))
    window: NDArray[np.int64] = high << 16 | middle << 8 | low
    return window >> 24 - count - shift & (1 << count) - 1


def _alpha(
    stream: NDArray[np.uint8], is_run: NDArray[np.bool_], counts: NDArray[np.int64], data: NDArray[np.int64]
) -> NDArray[np.uint8]:
    """Every fourth value, without ever writing out the other three."""
    if not is_run.all():
        items = np.where(is_run, 1, counts)
        firsts = np.cumsum(items) - items
        data = np.repeat(data - 8 * firsts, items) + 8 * np.arange(items.sum())
        counts = np.repeat(np.where(is_run, counts, 1), items)
    ends = np.cumsum(counts)
    pixels = ends // 4 - (ends - counts) // 4
    return np.repeat(_bits(stream, data, 8).astype(np.uint8), pixels)

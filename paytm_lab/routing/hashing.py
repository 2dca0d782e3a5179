"""Stable 64-bit hashes of user ids, one at a time and on numpy arrays.

Every process, version and machine gives the same number (Python's ``hash()`` of text is salted per
process, so it is never used). Two hashes:

* ``user_hash``: 1-18 ASCII digits hash to themselves, so that ``user_hash(id) % 4`` is literally
  the user's number modulo 4; any other id is the first 8 bytes (little-endian) of BLAKE2b of its
  UTF-8 text.
* ``mixed_hash``: ``mix64(user_hash(id))``, for strategies that need every bit to look random. On a
  ring the ids 1..100,000 taken as they are would all lie in one arc.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from paytm_lab.core.errors import BadInput
from paytm_lab.core.ids import SLOTS

U64 = npt.NDArray[np.uint64]
DIGITS_MAX = 18  # every number of 18 digits fits a signed 64-bit integer
_TEXTS_PER_CHUNK = 16_384  # ids of 64 characters then take 4 MiB at a time
_MASK = (1 << 64) - 1
_GOLDEN = 0x9E37_79B9_7F4A_7C15
_MIX_1 = 0xBF58_476D_1CE4_E5B9
_MIX_2 = 0x94D0_49BB_1331_11EB


def text_hash(text: str) -> int:
    """0..2^64-1: the first 8 bytes, little-endian, of BLAKE2b (digest size 8) of the UTF-8 text."""
    return int.from_bytes(blake2b(text.encode(), digest_size=8).digest(), "little")


def user_hash(user_id: str) -> int:
    """0..2^64-1; an id of 1-18 ASCII digits is its own hash ('007' and '7' share one)."""
    if len(user_id) <= DIGITS_MAX and user_id.isascii() and user_id.isdigit():
        return int(user_id)
    return text_hash(user_id)


def mix64(number: int) -> int:
    """One step of splitmix64 (Steele, Lea, Flood 2014): a bijection of 0..2^64-1."""
    z = (number + _GOLDEN) & _MASK
    z = ((z ^ (z >> 30)) * _MIX_1) & _MASK
    z = ((z ^ (z >> 27)) * _MIX_2) & _MASK
    return z ^ (z >> 31)


def mixed_hash(user_id: str) -> int:
    return mix64(user_hash(user_id))


def slot_of(user_id: str) -> int:
    """The user's slot, 0..1023."""
    return user_hash(user_id) % SLOTS


def user_numbers(user_ids: Sequence[str] | npt.NDArray[Any]) -> U64:
    """``user_hash`` of each id as uint64, shape (n,): what the vectorised strategies take.

    Takes texts (a sequence, a numpy or pandas text array) or an integer array, in which 42 stands
    for the id '42'. Text that is not digits is hashed one by one. Raises BadInput for integers
    outside 0..10^18-1. Ids are such as ``core.ids.require_user_id`` lets pass.
    """
    if isinstance(user_ids, np.ndarray) and user_ids.dtype.kind in "iu":
        if len(user_ids) and not 0 <= int(user_ids.min()) <= int(user_ids.max()) < 10**DIGITS_MAX:
            raise BadInput(
                "A user number is outside 0..10^18-1", remedy="Write such ids as text instead."
            )
        return user_ids.astype(np.uint64)
    numbers = np.empty(len(user_ids), dtype=np.uint64)
    for start in range(0, len(user_ids), _TEXTS_PER_CHUNK):
        texts = np.asarray(user_ids[start : start + _TEXTS_PER_CHUNK], dtype=np.str_)
        numbers[start : start + len(texts)] = _text_numbers(texts)
    return numbers


def _text_numbers(texts: npt.NDArray[np.str_]) -> U64:
    width = max(1, texts.dtype.itemsize // 4)  # numpy keeps 4 bytes a character, padded with zeros
    by_place = np.ascontiguousarray(texts.view(np.uint32).reshape(len(texts), width).T)
    numbers = np.zeros(len(texts), dtype=np.uint64)
    ended = np.zeros(len(texts), dtype=np.bool_)
    plain = by_place[0] != 0
    for place, codes in enumerate(by_place):
        digits = codes - np.uint32(ord("0"))  # wraps far above 9 for anything below '0'
        is_digit = digits <= 9
        ended |= codes == 0
        plain &= np.where(ended, codes == 0, is_digit & (place < DIGITS_MAX))
        if place < DIGITS_MAX:
            numbers = np.where(ended, numbers, numbers * np.uint64(10) + digits)
    for i in np.flatnonzero(~plain).tolist():
        numbers[i] = text_hash(str(texts[i]))
    return numbers


def mix64_array(numbers: U64) -> U64:
    """``mix64`` of each number; same shape. Arithmetic of uint64 arrays wraps modulo 2^64."""
    z = numbers + np.uint64(_GOLDEN)
    scratch = z >> np.uint64(30)
    z ^= scratch
    z *= np.uint64(_MIX_1)
    np.right_shift(z, np.uint64(27), out=scratch)
    z ^= scratch
    z *= np.uint64(_MIX_2)
    np.right_shift(z, np.uint64(31), out=scratch)
    z ^= scratch
    return z

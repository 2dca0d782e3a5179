"""Stable hashes: fixed vectors, and array forms that agree with the scalar ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from paytm_lab.core.errors import BadInput
from paytm_lab.routing.hashing import (
    mix64,
    mix64_array,
    mixed_hash,
    slot_of,
    text_hash,
    user_hash,
    user_numbers,
)

USER_IDS = st.one_of(
    st.integers(0, 10**20).map(str),
    st.from_regex(r"[0-9]{1,20}", fullmatch=True),
    st.text(st.characters(exclude_categories=("Cc", "Cs")), min_size=1, max_size=64),
)


@pytest.mark.parametrize(
    ("user_id", "expected"),
    [
        ("0", 0),
        ("7", 7),
        ("007", 7),
        ("999999999999999999", 999_999_999_999_999_999),  # 18 digits
        ("1234567890123456789", 0x0B61_C6C3_A96E_FFDD),  # 19 are text
        ("alice", 0x89DA_54CE_0CEC_EA4D),  # printf alice | b2sum -l 64, bytes reversed
        ("पेटीएम", 0x0239_7FB7_3ABE_4C7C),
        ("user-42", 0xA6EF_E67B_4DCA_A06F),
        ("+5", 0xA6C8_64D0_B7C0_99B5),  # int() would take it
        ("٣", 0x5E1E_1141_40AE_1304),  # an Arabic digit: isdigit() would take it
        ("x" * 64, 0x3C9A_6E53_E054_0EA1),
    ],
)
def test_user_hash_vectors(user_id: str, expected: int) -> None:
    assert user_hash(user_id) == expected
    assert slot_of(user_id) == expected % 1024
    assert mixed_hash(user_id) == mix64(expected)
    assert user_numbers([user_id]).tolist() == [expected]


def test_mix64_is_splitmix64() -> None:
    """The first outputs of the published generator from seed 0."""
    gamma = 0x9E37_79B9_7F4A_7C15
    states = [i * gamma % 2**64 for i in range(3)]
    expected = [0xE220_A839_7B1D_CDAF, 0x6E78_9E6A_A1B9_65F4, 0x06C4_5D18_8009_454F]
    assert [mix64(state) for state in states] == expected
    assert mix64_array(np.array(states, dtype=np.uint64)).tolist() == expected


def test_another_process_with_another_hash_seed_agrees() -> None:
    code = "from paytm_lab.routing.hashing import user_hash; print(user_hash('alice'))"
    root = str(Path(__file__).parents[2])
    for seed in ("1", "2"):
        said = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONHASHSEED": seed, "PYTHONPATH": root},
            capture_output=True,
            check=True,
            text=True,
        ).stdout
        assert int(said) == user_hash("alice")


@given(st.lists(USER_IDS, max_size=20))
@example(["1", "a", "22", ""])
@example(["123456789012345678", "1234567890123456789", "0123456789012345678"])
@example(["12/", "12:", "1 2", "/", ":", "1２"])
def test_user_numbers_agree_with_user_hash(user_ids: list[str]) -> None:
    expected = [user_hash(user_id) for user_id in user_ids]
    assert user_numbers(user_ids).tolist() == expected
    assert user_numbers(np.array(user_ids, dtype=np.str_)).tolist() == expected
    assert user_numbers(pd.Series(user_ids, dtype="str").array).tolist() == expected


@given(st.lists(st.integers(0, 2**64 - 1)))
def test_mix64_array_agrees_with_mix64(numbers: list[int]) -> None:
    array = np.array(numbers, dtype=np.uint64)
    assert mix64_array(array).tolist() == [mix64(number) for number in numbers]
    assert array.tolist() == numbers, "the argument is left as it was"


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_mix64_is_one_to_one(a: int, b: int) -> None:
    assert (mix64(a) == mix64(b)) == (a == b)


def test_many_texts_in_chunks() -> None:
    user_ids = [f"user-{i}" if i % 3 else str(i) for i in range(40_000)]
    assert user_numbers(user_ids).tolist() == [user_hash(user_id) for user_id in user_ids]


@pytest.mark.parametrize("dtype", [np.int64, np.uint64, np.int32])
def test_integers_stand_for_their_digits(dtype: type[np.generic]) -> None:
    ids = np.array([0, 1, 1_000_000], dtype=dtype)
    assert user_numbers(ids).tolist() == [user_hash(str(i)) for i in ids.tolist()]
    assert user_numbers(np.array([], dtype=dtype)).tolist() == []


@pytest.mark.parametrize("number", [-1, 10**18])
def test_integers_that_are_no_digits_of_18_are_refused(number: int) -> None:
    with pytest.raises(BadInput):
        user_numbers(np.array([1, number]))


def test_each_bit_of_a_text_hash_is_even() -> None:
    """5 standard errors on 20,000 texts, for each of the 64 bits and each of the 1,024 slots."""
    hashes = np.array([text_hash(f"u{i}") for i in range(20_000)], dtype=np.uint64)
    ones = [(hashes >> np.uint64(bit) & np.uint64(1)).mean() for bit in range(64)]
    assert np.abs(np.array(ones) - 0.5).max() < 5 * 0.5 / 20_000**0.5
    per_slot = np.bincount((hashes % np.uint64(1024)).astype(np.int64), minlength=1024)
    chi_square = ((per_slot - 20_000 / 1024) ** 2).sum() / (20_000 / 1024)
    assert abs(chi_square - 1023) < 5 * (2 * 1023) ** 0.5

"""External ids: one type, all different, kept as given."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towers.errors import InputError
from towers.ids import IdList, as_id_array


@pytest.mark.parametrize(
    ("given_ids", "kept"),
    [
        (["b", "a", ""], ["b", "a", ""]),
        ([3, -1, 2**63 - 1], [3, -1, 2**63 - 1]),
        (np.array([5, 4], np.int32), [5, 4]),
        (np.array(["x", "y"]), ["x", "y"]),
        (pa.array([1, 2], pa.uint8()), [1, 2]),
        (pa.chunked_array([["a"], ["b"]]), ["a", "b"]),
        (pa.array(["a", "b"]).dictionary_encode(), ["a", "b"]),
        (pa.array(["a"], pa.string_view()), ["a"]),
        ((i for i in (2, 1)), [2, 1]),
        ([], []),
    ],
)
def test_ids_are_given_back_as_given(given_ids: object, kept: list[object]) -> None:
    ids = IdList(given_ids)  # type: ignore[arg-type]
    assert ids.to_list() == kept
    assert len(ids) == len(kept)
    assert [ids[row] for row in range(len(ids))] == kept


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["a", 1], "ids must be all strings or all integers, got int, str"),
        ([1.5], "got float"),
        ([True], "got bool"),
        ([2**63], "64 bits"),
        (["\ud800"], "ids must be text or integers that fit 64 bits"),
        (pa.array([2**63], pa.uint64()), "ids must fit 64 bits"),
        (pa.array([1.0]), "ids must be strings or integers, got double"),
        (["a", None], "1 of 2 ids are missing"),
        (["b", "a", "a", "a"], "got 2 duplicates among 4, such as 'a'"),
        ("i17", "expected a list of ids, got the one value 'i17'"),
    ],
)
def test_what_cannot_be_ids_is_refused(wrong: object, message: str) -> None:
    with pytest.raises(InputError) as caught:
        IdList(wrong)  # type: ignore[arg-type]
    assert message in str(caught.value)


def test_one_id_in_place_of_a_list_is_refused() -> None:
    with pytest.raises(InputError, match="expected a list of ids, got the one value 'abc': put it in a list"):
        IdList(["a", "b", "c"]).rows("abc")


def test_rows_and_back() -> None:
    ids = IdList(["x", "y", "z"])
    assert ids.rows(["z", "nobody", None, "x", "z"]).tolist() == [2, -1, -1, 0, 2]  # type: ignore[list-item]
    assert ids.rows([]).tolist() == []
    assert ids.rows([]).dtype == np.int64
    assert ids.take([2, -1, 0]) == ["z", None, "x"]
    assert IdList([]).rows(["x"]).tolist() == [-1]


def test_text_and_integers_meet_only_where_they_are_written_alike() -> None:
    assert IdList([17, -3]).rows(["17", "017", "17.0", "-3", "x", " 17", "+17"]).tolist() == [0, -1, -1, 1, -1, -1, -1]
    assert IdList(["17", "017", "x"]).rows([17, 18, -1]).tolist() == [0, -1, -1]
    assert IdList([2**63 - 1]).rows([str(2**63 - 1), str(2**63)]).tolist() == [0, -1]


@given(st.lists(st.integers(0, 2000), max_size=40))
def test_few_and_many_lookups_agree(wanted: list[int]) -> None:
    """Small requests go through a dictionary, large ones through Arrow."""
    known = list(range(0, 2000, 2))
    ids, texts = IdList(known), IdList([str(i) for i in known])
    expected = [i // 2 if i in set(known) else -1 for i in wanted]
    for one in (ids, texts):
        assert one.rows(wanted).tolist() == expected
        assert [one.rows([i]).tolist()[0] for i in wanted] == expected
        assert one.rows([str(i) for i in wanted]).tolist() == expected


def test_equality_and_fingerprint_know_order_and_type() -> None:
    lists = [[1, 2], [2, 1], ["1", "2"], ["12"], [12], [1, 2, 3], []]
    assert len({IdList(ids).fingerprint for ids in lists}) == len(lists)
    assert IdList([1, 2]).fingerprint == IdList(pa.array([1, 2], pa.int8())).fingerprint
    assert IdList([1, 2]) == IdList(np.array([1, 2]))
    assert IdList([1, 2]) != IdList(["1", "2"])
    assert IdList([1, 2]) != [1, 2]


def test_nulls_pass_through_as_id_array() -> None:
    assert as_id_array([None, "a"]).to_pylist() == [None, "a"]  # type: ignore[list-item]
    assert as_id_array(pa.nulls(2)).type == pa.large_string()

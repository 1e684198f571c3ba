"""Filters mean what they say, and a filtered search finds what brute force finds, on every kind."""

from __future__ import annotations

import functools
import json
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexing import nearest
from indexing.exact import exact_search
from indexing.filters import Filter
from indexing.index import ItemIndex
from indexing.vectors import unit
from towers.errors import InputError

SHOP = pa.table(
    {
        "genre": ["Comedy", "Drama", None, "Comedy", "Horror"],
        "year": pa.array([1989, 1990, 1995, None, 2001], pa.int16()),
        "price": pa.array([0.1, 9.5, 3.0, float("nan"), None], pa.float32()),
        "sold": [True, False, None, True, False],
        "tags": [["a", "b"], [], None, ["b", None], ["c"]],
        "shown": pa.array([date(2020, 1, 1), date(2021, 5, 2), None, date(2022, 1, 1), date(2020, 1, 1)]),
        "size": pa.array([0, 5, 2**64 - 1, 2**53 + 1, None], pa.uint64()),
        "empty": pa.nulls(5),
    }
)


def passing(condition):
    return np.flatnonzero(Filter.read(condition).passing(SHOP)).tolist()


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ({"genre": "Comedy"}, [0, 3]),
        ({"genre": ["Comedy", "Horror"]}, [0, 3, 4]),
        ({"genre": []}, []),
        ({"genre": None}, [2]),
        ({"genre": ["Drama", None]}, [1, 2]),
        ({"genre": {"!=": "Comedy"}}, [1, 2, 4]),
        ({"genre": {">": "Comedy"}}, [1, 4]),
        ({"year": 1990}, [1]),
        ({"year": {">=": 1990, "<": 2001}}, [1, 2]),
        ({"year": {">": 1989.5}}, [1, 2, 4]),
        ({"year": {">=": 1989.5}}, [1, 2, 4]),
        ({"year": {"<": 1989.5}}, [0]),
        ({"year": {"<=": 1989.5}}, [0]),
        ({"year": 1989.5}, []),
        ({"year": {"<": 2**70}}, [0, 1, 2, 4]),
        ({"year": {">": 2**70}}, []),
        ({"year": {">=": -(2**70)}}, [0, 1, 2, 4]),
        ({"year": 10**6}, []),
        ({"price": 0.1}, [0]),
        ({"price": {"<=": 3}}, [0, 2]),
        ({"sold": True}, [0, 3]),
        ({"sold": {"!=": True}}, [1, 2, 4]),
        ({"tags": "b"}, [0, 3]),
        ({"tags": ["a", "c"]}, [0, 4]),
        ({"tags": None}, [2]),
        ({"shown": "2020-01-01"}, [0, 4]),
        ({"shown": {">": date(2020, 1, 1)}}, [1, 3]),
        ({"size": 2**53 + 1}, [3]),
        ({"size": {">=": 2**53 + 2}}, [2]),
        ({"size": {">": -1}}, [0, 1, 2, 3]),
        ({"empty": "x"}, []),
        ({"empty": None}, [0, 1, 2, 3, 4]),
        ({"genre": "Comedy", "year": {"<": 2000}}, [0]),
        ({"or": [{"genre": "Drama"}, {"year": {">": 2000}}]}, [1, 4]),
        ({"and": [{"sold": False}, {"not": {"genre": "Drama"}}]}, [4]),
        ({"not": {"year": {">": 1990}}}, [0, 1, 3]),
        ({"genre": {"in": ["Drama"]}}, [1]),
    ],
)
def test_a_filter_lets_pass_what_it_says(condition, rows):
    assert passing(condition) == rows
    assert passing(Filter.read(condition).to_json()) == rows


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ({"gender": "Comedy"}, "the column 'gender', which the attributes do not have; did you mean 'genre'?"),
        ({"zzz": 1}, "there are 'genre', 'year'"),
        ({"genre": 3}, "compares 'genre', a column of string, with 3"),
        ({"year": "1990"}, "compares 'year', a column of int16, with '1990'"),
        ({"year": True}, "compares 'year', a column of int16, with True"),
        ({"year": {">": None}}, "'year' cannot be > null"),
        ({"year": float("inf")}, "cannot be compared with inf"),
        ({"sold": 1}, "compares 'sold', a column of bool, with 1"),
        ({"sold": {">": True}}, "which '>' cannot compare"),
        ({"price": float("nan")}, "compares 'price'"),
        ({"shown": "yesterday"}, "compares 'shown', a column of date32.*'yesterday'"),
        ({"tags": 3}, "compares 'tags'"),
        ({"year": {"~": 3}}, r"'year' is compared by ==, !=, in, <, <=, >, >=; got \['~'\]"),
        ({"year": {"in": 3}}, "'in' must be given a list of values, got 3"),
        ({"year": {}}, "'year' is compared by"),
        ({}, "must be a dictionary that names at least one column"),
        ({"or": []}, "'or' must hold a list of filters"),
        ({"not": [1]}, "must be a dictionary"),
        ({3: 1}, "names columns, got 3"),
        ([1], "must be a dictionary"),
        ("{year: 3}", 'must be JSON such as {"genre": "Comedy"'),
        ("[1]", "must be a dictionary"),
    ],
)
def test_what_is_no_filter_or_does_not_fit_is_refused(condition, reason):
    with pytest.raises(InputError, match=reason):
        passing(condition)


def nested(times, around):
    condition = {"year": 1990}
    for _ in range(times):
        condition = around(condition)
    return condition


@pytest.mark.parametrize("around", [lambda one: {"not": one}, lambda one: {"or": [one]}, lambda one: {"genre": [one]}])
def test_a_filter_in_filters_has_an_end(around):
    with pytest.raises(InputError, match="nested more than 100 deep"):
        Filter.read(nested(3000, around))
    assert passing(nested(98, lambda one: {"not": one})) == [1]


# What is compared exactly

NOON = datetime(2020, 1, 2, 12)
EXACT = pa.table(
    {
        "single": pa.array([0.5, 2.0**24, 2.0**24 + 4, None], pa.float32()),
        "half": pa.array(np.array([0.1, 5, 2048, np.nan], np.float16)),
        "price": pa.array([Decimal("1.50"), Decimal("9.99"), Decimal("2000.00"), None], pa.decimal128(10, 2)),
        "vast": pa.array([Decimal(10**40), Decimal(10**40 + 1), Decimal(-1), None], pa.decimal256(50, 0)),
        "day": pa.array([date(2020, 1, 1), date(2020, 1, 2), date(2020, 1, 3), None]),
        "day64": pa.array([date(2020, 1, 1), date(2020, 1, 2), date(2020, 1, 3), None], pa.date64()),
        "second": pa.array([datetime(2020, 1, 2), NOON, datetime(9999, 1, 1), None], pa.timestamp("s")),
        "nano": pa.array([NOON.replace(hour=0), NOON, datetime(2100, 1, 1), None], pa.timestamp("ns")),
        "utc": pa.array([datetime(2020, 1, 2), NOON, datetime(2021, 1, 1), None], pa.timestamp("us", "UTC")),
        "clock": pa.array([time(8), time(12, 30), time(23, 59, 59), None], pa.time32("s")),
        "clock64": pa.array([time(8), time(12, 30, 0, 5), time(23, 59, 59), None], pa.time64("ns")),
        "length": pa.array([timedelta(0), timedelta(seconds=90), timedelta(days=1), None], pa.duration("ms")),
        "lengths": pa.array([[timedelta(0)], [], [timedelta(seconds=5)], None], pa.list_(pa.duration("s"))),
        "prices": pa.array([[Decimal("1.5")], [Decimal("2.5"), None], [], None], pa.list_(pa.decimal128(5, 1))),
    }
)


@pytest.mark.parametrize(
    ("condition", "rows"),
    [
        ({"half": {"<": 5}}, [0]),
        ({"half": 0.1}, [0]),
        ({"half": [5, 2049]}, [1]),
        ({"half": {"<": 2049}}, [0, 1, 2]),
        ({"single": {"<": 2**24 + 2}}, [0, 1]),
        ({"single": 2**24 + 1}, [1]),
        ({"single": Decimal("0.5")}, [0]),
        ({"half": {"<": 1e9}}, [0, 1, 2]),
        ({"price": 2000}, [2]),
        ({"price": 9.99}, [1]),
        ({"price": Decimal("9.99")}, [1]),
        ({"price": Decimal("9.990000001")}, []),
        ({"price": {">": Decimal("9.98999")}}, [1, 2]),
        ({"price": {"<": 9.991}}, [0, 1]),
        ({"price": "1.50"}, [0]),
        ({"price": ["1.5", 9.99, None]}, [0, 1, 3]),
        ({"price": {">": -1e300}}, [0, 1, 2]),
        ({"price": {">=": 1e300}}, []),
        ({"vast": 10**40 + 1}, [1]),
        ({"vast": {"<=": Decimal(10**40)}}, [0, 2]),
        ({"vast": {">": -0.5}}, [0, 1]),
        ({"day": {"<": NOON}}, [0, 1]),
        ({"day": {">=": NOON}}, [2]),
        ({"day": NOON}, []),
        ({"day": datetime(2020, 1, 2)}, [1]),
        ({"day": "2020-01-02T12:00"}, []),
        ({"day": {"<=": "2020-01-02T12:00"}}, [0, 1]),
        ({"day64": {"<": NOON}}, [0, 1]),
        ({"day64": date(2020, 1, 3)}, [2]),
        ({"second": NOON.replace(microsecond=5)}, []),
        ({"second": {"<": NOON.replace(microsecond=5)}}, [0, 1]),
        ({"second": {">=": "2020-01-02T12:00:00.000005"}}, [2]),
        ({"second": {">": "2020-01-02T11:59:59.999999999"}}, [1, 2]),
        ({"second": date(2020, 1, 2)}, [0]),
        ({"second": {">": date(2020, 1, 2)}}, [1, 2]),
        ({"second": "9999-01-01"}, [2]),
        ({"nano": {"<": "9999-01-01"}}, [0, 1, 2]),
        ({"nano": {"<": date(1, 1, 1)}}, []),
        ({"nano": np.datetime64("2020-01-02T12:00:00.000000000")}, [1]),
        ({"nano": {">": np.datetime64("2020-01-02T11:59:59.999999999")}}, [1, 2]),
        ({"nano": np.datetime64("2020-01-02")}, [0]),
        ({"nano": {"<": pd.Timestamp("2020-01-02T12:00:00.000000001")}}, [0, 1]),
        ({"utc": "2020-01-02"}, [0]),
        ({"utc": date(2020, 1, 2)}, [0]),
        ({"utc": "2020-01-02T12:00:00Z"}, [1]),
        ({"utc": "2020-01-02T12:00:00"}, [1]),
        ({"utc": NOON}, [1]),
        ({"utc": "2020-01-02T14:00:00+02:00"}, [1]),
        ({"utc": datetime(2020, 1, 2, 14, tzinfo=timezone(timedelta(hours=2)))}, [1]),
        ({"clock": time(12, 30)}, [1]),
        ({"clock": {"<": "12:30:00.5"}}, [0, 1]),
        ({"clock64": {">": "12:30:00.000004999"}}, [1, 2]),
        ({"length": {">=": timedelta(seconds=90)}}, [1, 2]),
        ({"length": {"<": timedelta(microseconds=1)}}, [0]),
        ({"length": 90}, [1]),
        ({"length": {"<": 0.0005}}, [0]),
        ({"length": np.timedelta64(90_000_000_000, "ns")}, [1]),
        ({"lengths": 5}, [2]),
        ({"prices": {">": 1.5}}, [1]),
    ],
)
def test_values_finer_than_a_column_are_not_rounded(condition, rows):
    for one in (condition, Filter.read(condition).to_json()):
        assert np.flatnonzero(Filter.read(one).passing(EXACT)).tolist() == rows


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ({"single": Decimal("sNaN")}, "'single', a column of float, with Decimal.'sNaN'.; expected a number"),
        ({"single": 10**400}, "expected a number"),
        ({"price": Decimal("sNaN")}, "'price' cannot be compared with sNaN"),
        ({"half": "5"}, "a column of halffloat, with '5'; expected a number"),
        ({"price": "cheap"}, r"a column of decimal128\(10, 2\), with 'cheap'; expected a number"),
        ({"price": True}, "with True; expected a number"),
        ({"price": "NaN"}, "'price' cannot be compared with NaN"),
        ({"price": "1e999999999"}, r"'price' cannot be compared with 1E\+999999999"),
        ({"day": 5}, 'expected a date such as "2020-01-31", or a moment without a zone such as "2020-01-31T12:00:00"$'),
        ({"second": "2020-01-02T12:00:00Z"}, 'or a moment without a zone such as "2020-01-31T12:00:00"$'),
        ({"second": NOON.replace(tzinfo=UTC)}, "without a zone"),
        ({"utc": "noon"}, 'or a moment with a zone or in UTC such as "2020-01-31T12:00:00Z"'),
        ({"utc": time(12)}, "a moment with a zone"),
        ({"nano": np.datetime64("NaT")}, "with None; expected a date"),
        ({"clock": NOON}, 'expected a time of day without a zone, such as "12:30:00"'),
        ({"clock": time(12, tzinfo=UTC)}, "without a zone"),
        ({"clock": "25:00"}, "with '25:00'; expected a time of day"),
        ({"length": "90"}, "expected seconds, or a timedelta"),
        ({"length": time(1)}, "expected seconds, or a timedelta"),
    ],
)
def test_what_cannot_be_compared_is_told_with_a_form_that_can(condition, reason):
    with pytest.raises(InputError, match=reason):
        Filter.read(condition).passing(EXACT)


# Search

COUNT, DIMENSION = 2000, 32
KINDS = {  # recall of the ten nearest that a filtered search must reach
    "Flat": 1.0,
    "HNSW32": 0.97,
    "IVF16,Flat": 0.95,
    "IVF16,PQ8x4fsr,RFlat": 0.9,
    "IVF16,PQ16x4fsr": 0.35,
    "PQ16x4fs,RFlat": 0.9,
    "HNSW16_SQ8,RFlat": 0.9,
    "SQ8": 0.93,
    "PCA16,Flat": 0.35,
    "IVF16,SQ8": 0.9,
    "NSG16": 0.9,
}


def clustered(count, seed):
    centres = np.random.default_rng(0).normal(size=(60, DIMENSION))
    generator = np.random.default_rng(seed)
    cloud = generator.integers(60, size=count)
    return unit(centres[cloud] + 0.5 * generator.normal(size=(count, DIMENSION))), cloud


VECTORS, CLOUD = clustered(COUNT, 1)
QUERIES = clustered(20, 2)[0]
ORDER = np.random.default_rng(3).permutation(COUNT)
ATTRIBUTES = pa.table({"order": ORDER, "cloud": CLOUD})


@functools.cache
def built(kind):
    return ItemIndex.from_arrays(range(COUNT), VECTORS, ATTRIBUTES, kind=kind)


def share_found(hits, exact):
    pairs = [(set(a[a >= 0]), set(b[b >= 0])) for a, b in zip(hits.rows, exact.rows, strict=True)]
    return sum(len(a & b) for a, b in pairs) / max(1, sum(len(b) for _, b in pairs))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("left", [0, 1, 9, 10, 200, 399, 400, 401, 1000, 1900, 1999, 2000])
def test_every_kind_finds_what_passes_and_nothing_else(kind, left):
    index = built(kind)
    hits = index.search(QUERIES, 10, where={"order": {"<": left}})
    exact = exact_search(QUERIES, VECTORS, 10, exclude=[np.flatnonzero(left <= ORDER)] * len(QUERIES))
    assert ((hits.rows >= 0).sum(axis=1) == min(10, left)).all()
    assert (ORDER[hits.rows[hits.rows >= 0]] < left).all()
    if kind == "Flat" or left <= 400:
        np.testing.assert_array_equal(hits.rows, exact.rows)
        np.testing.assert_array_equal(hits.scores, exact.scores)
    assert (hits.scores <= exact.scores).all()
    assert left == 0 or share_found(hits, exact) >= KINDS[kind]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=10, deadline=None)
@given(
    low=st.integers(-5, COUNT),
    width=st.integers(0, COUNT),
    clouds=st.sets(st.integers(0, 59), max_size=50),
    shape=st.sampled_from(["range", "clouds", "both", "either", "neither"]),
    k=st.integers(1, 30),
    seen=st.integers(0, 60),
)
def test_a_search_with_filter_and_exclusions_is_brute_force_after_filtering(kind, low, width, clouds, shape, k, seen):
    index = built(kind)
    between, among = {"order": {">=": low, "<": low + width}}, {"cloud": sorted(clouds)}
    fits, one = (low <= ORDER) & (low + width > ORDER), np.isin(CLOUD, list(clouds))
    where, passes = {
        "range": (between, fits),
        "clouds": (among, one),
        "both": ({**between, **among}, fits & one),
        "either": ({"or": [between, among]}, fits | one),
        "neither": ({"not": {"or": [between, among]}}, ~(fits | one)),
    }[shape]
    queries, nearest = QUERIES[:4], exact_search(QUERIES[:4], VECTORS, 60).rows
    barred = [row[:seen] for row in nearest]
    hits = index.search(queries, k, exclude=barred, where=where)
    for query in range(len(queries)):
        allowed = passes.copy()
        allowed[barred[query]] = False
        found = hits.rows[query][hits.rows[query] >= 0]
        assert len(set(found)) == len(found) == min(k, allowed.sum())
        assert allowed[found].all()
        np.testing.assert_array_equal(
            hits.rows[query], index.search(queries[[query]], k, exclude=[barred[query]], where=where).rows[0]
        )
        if kind == "Flat":
            rows = exact_search(queries[[query]], VECTORS, k, exclude=[np.flatnonzero(~allowed)])
            np.testing.assert_array_equal(hits.rows[query], rows.rows[0])
            np.testing.assert_array_equal(hits.scores[query], rows.scores[0])


def test_many_that_pass_are_not_scanned(monkeypatch):
    def scan(*_, **__):
        raise AssertionError("a scan")

    monkeypatch.setattr(nearest, "exact_search", scan)
    monkeypatch.setattr(nearest, "scan_rows", scan)
    assert (built("HNSW32").search(QUERIES, 10, where={"order": {"<": 800}}).rows >= 0).all()
    with pytest.raises(AssertionError, match="a scan"):
        built("HNSW32").search(QUERIES, 10, where={"order": {"<": 100}})


def test_the_share_up_to_which_a_scan_pays_falls_with_the_root_of_the_items():
    last = {2_000: 400, 25_000: 5_000, 100_000: 10_000}
    for count, passing in last.items():
        assert nearest.scan_pays(passing, count)
        assert not nearest.scan_pays(passing + 1, count)


def test_a_bonus_brings_in_no_item_that_does_not_pass():
    bonus = (ORDER % 7).astype(np.float32)
    hits = built("Flat").search(QUERIES, 10, bonus=bonus, where={"cloud": [1, 2, 3]})
    allowed = np.isin(CLOUD, [1, 2, 3])
    scores = QUERIES.astype(float) @ VECTORS.T.astype(float) + bonus
    scores[:, ~allowed] = -np.inf
    np.testing.assert_allclose(hits.scores[:, 0], scores.max(axis=1), atol=1e-5)
    assert allowed[hits.rows].all()


def test_equals_at_the_cut_go_to_the_lower_row_under_a_filter():
    vectors = VECTORS[:60].copy()
    vectors[30:50] = vectors[30]
    index = ItemIndex.from_arrays(range(60), vectors, pa.table({"row": list(range(60))}), kind="Flat")
    assert index.search(vectors[30:31], 3, where={"row": {">": 31}}).rows.tolist() == [[32, 33, 34]]


def test_without_attributes_a_filter_is_refused():
    index = ItemIndex.from_arrays(range(3), np.eye(3, dtype=np.float32))
    with pytest.raises(InputError, match="this index has none"):
        index.search(np.eye(3, dtype=np.float32), 1, where={"year": 3})
    with pytest.raises(InputError, match="did you mean 'order'"):
        built("Flat").search(QUERIES, 1, where=json.dumps({"orders": 3}))

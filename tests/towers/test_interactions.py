"""The interaction log: columns, what is set aside, and how events become histories."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from towers.catalog import Catalog
from towers.errors import InputError
from towers.interactions import Interactions, Positive

CATALOG = Catalog.read(pa.table({"item_id": ["a", "b", "c", "d"]}))


def log_of(**columns: object) -> pa.Table:
    """A log of one person and one item unless `columns` say otherwise."""
    count = len(next(iter(columns.values())))  # type: ignore[arg-type]
    return pa.table({"user_id": ["u"] * count, "item_id": ["a"] * count, **columns})


def set_aside(log: Interactions) -> list[tuple[int, str]]:
    return sorted((row["row"], row["reason"]) for row in log.rejected.rows)


@pytest.mark.parametrize("make", [pa.table, pl.DataFrame, pd.DataFrame])
def test_columns_come_out_in_their_final_types(make: type) -> None:
    log = Interactions.read(
        make(
            {
                "colour": ["red", "blue"],
                "split": ["train", "test"],
                "rating": [1, 5],
                "item_id": [7, 8],
                "user_id": ["u", "v"],
                "timestamp": [10, 20],
                "position": [1.0, 2.0],
                "event": ["view", None],
                "weight": [2.0, None],
                "text": [None, "nice"],
            }
        )
    )
    assert log.table.schema == pa.schema(
        {
            "user_id": pa.large_string(),
            "item_id": pa.int64(),
            "timestamp": pa.float64(),
            "position": pa.int64(),
            "rating": pa.float32(),
            "event": pa.large_string(),
            "weight": pa.float32(),
            "text": pa.large_string(),
            "split": pa.large_string(),
        }
    )
    assert log.table.to_pylist()[1] == {
        "user_id": "v",
        "item_id": 8,
        "timestamp": 20.0,
        "position": 2,
        "rating": 1.0,
        "event": None,
        "weight": 1.0,
        "text": "nice",
        "split": "test",
    }
    assert log.rating_range == (1.0, 5.0)
    assert log.ignored == ("colour",)
    assert log.rejected.summary() == "none of 2 rows set aside"


@pytest.mark.parametrize("ids", [{"user_id": [1, "a"], "item_id": [1, 2]}, {"user_id": [1, 2], "item_id": [1, "a"]}])
def test_mixed_ids_are_refused(ids: dict[str, list[object]]) -> None:
    with pytest.raises(InputError, match="_id: ids must be all strings or all integers, got int, str"):
        Interactions.read(pd.DataFrame(ids))


def test_missing_columns_and_empty_logs_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"has no column 'user_id' \(did you mean 'userid'\?\); it has: userid, item_id"
    ):
        Interactions.read(pa.table({"userid": [1], "item_id": [1]}))
    with pytest.raises(InputError, match=r"the Arrow table has no usable row$"):
        Interactions.read(pa.table({"user_id": pa.array([], pa.int64()), "item_id": pa.array([], pa.int64())}))
    with pytest.raises(
        InputError, match=r"no usable row \(2 of 2 rows set aside: 2 timestamp not in seconds from 1970"
    ):
        Interactions.read(log_of(timestamp=[1_700_000_000_000, 1_700_000_000_001]))  # milliseconds


def test_rows_without_ids_are_set_aside(tmp_path: Path) -> None:
    source = pa.table({"user_id": ["u", None, "u", " "], "item_id": ["a", "a", "", "b"]})
    log = Interactions.read(source, rejected_to=tmp_path / "r.jsonl")
    assert log.table.to_pydict() == {"user_id": ["u"], "item_id": ["a"]}
    assert set_aside(log) == [(2, "missing user_id"), (3, "missing item_id"), (4, "missing user_id")]
    assert len((tmp_path / "r.jsonl").read_text().splitlines()) == 3


@pytest.mark.parametrize("name", ["timestamp", "position", "rating", "weight", "text", "event", "split"])
@pytest.mark.parametrize("kind", [pa.large_string(), pa.float64(), pa.null()])
def test_columns_of_nothing_do_no_harm(name: str, kind: pa.DataType) -> None:
    """Every row already gone, and a row without a value in the column."""
    gone = pa.table({"user_id": pa.nulls(2, pa.string()), "item_id": ["a", "b"], name: pa.nulls(2, kind)})
    with pytest.raises(InputError, match="2 of 2 rows set aside: 2 missing user_id"):
        Interactions.read(gone)
    empty = log_of(**{name: pa.nulls(1, kind)})
    if name in ("timestamp", "position"):
        with pytest.raises(InputError, match=f"1 of 1 rows set aside: 1 missing {name}"):
            Interactions.read(empty)
    else:
        expected = 1.0 if name == "weight" else None
        assert Interactions.read(empty).table[name].to_pylist() == [expected]


NOON = datetime(2020, 1, 1, 12, tzinfo=UTC)
NOON_SECONDS = 1_577_880_000.0


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1_577_880_000]),
        pa.array([1_577_880_000.0]),
        pa.array([1_577_880_000], pa.uint32()),
        *(pa.array([NOON.replace(tzinfo=None)], pa.timestamp(unit)) for unit in ("s", "ms", "us", "ns")),
        pa.array([NOON], pa.timestamp("us", "Europe/Paris")),
        pa.array(["1577880000"]),
        pa.array(["2020-01-01T12:00:00Z"]),
        pa.array(["2020-01-01 12:00:00"]),
        pa.array(["2020-01-01T14:00:00+02:00"]),
    ],
    ids=lambda column: f"{column.type} {column[0]}",
)
def test_times_of_every_kind_become_seconds(column: pa.Array) -> None:
    assert Interactions.read(log_of(timestamp=column)).table["timestamp"].to_pylist() == [NOON_SECONDS]


def test_each_text_is_a_time_by_itself() -> None:
    times = {
        "2020-01-01T12:00:00": 0.0,
        "2020-01-01T12:00:00Z": 0.0,
        "2020-01-01 12:00": 0.0,
        "2020-01-01T14:00:00+02:00": 0.0,
        "2020-01-01T08:30:00-0330": 0.0,
        "2020-01-01T13:00:00.5+01": 0.5,
        "2020-01-01T12:00:00.123456789Z": 0.123457,
        "2020-01-01 12:00:00 UTC": 0.0,
        "2020/1/1 12:00:01": 1.0,
        "2020.01.01 12:00:01": 1.0,
        "20200101T120003": 3.0,
        "20200101T1400+0200": 0.0,
        "2020-01-01": -12 * 3600.0,
        "1577880002": 2.0,
    }
    log = Interactions.read(log_of(timestamp=list(times)))
    since = np.array(log.table["timestamp"].to_pylist()) - NOON_SECONDS
    np.testing.assert_allclose(since, list(times.values()), atol=1e-6)
    assert log.rejected.count == 0


def test_what_is_no_time_costs_its_own_row() -> None:
    bad = ["2020-02-30", "2020-01-01T25:00:00", "2020-13-01", "12:00", "2020-01-01T12:00:00 CET", "1.1.2020", ""]
    bad.append("2020-01-01T12:00+99:00")
    log = Interactions.read(log_of(timestamp=["2020-01-01T12:00:00", *bad]))
    assert log.table["timestamp"].to_pylist() == [NOON_SECONDS]
    assert log.rejected.counts == {"timestamp is neither a number nor a date": len(bad)}


@pytest.mark.parametrize("date", ["01/02/2024", "1/2/2024 10:00", "25/12/2024", "01-02-24", "01.02.2024"])
def test_a_date_with_the_year_last_is_not_guessed(date: str) -> None:
    with pytest.raises(InputError, match=f"column timestamp: '{date}' does not begin with the year.*as 2024-01-31"):
        Interactions.read(log_of(timestamp=["2024-01-03", date, date]))


@pytest.mark.parametrize("kind", [pa.int64(), pa.float64(), pa.string()])
def test_days_without_hyphens_are_no_seconds(kind: pa.DataType) -> None:
    days = pa.array([20240102, 0, 20231231, None]).cast(kind)
    with pytest.raises(InputError, match="20240102 and all other numbers look like days without hyphens"):
        Interactions.read(log_of(timestamp=days))
    log = Interactions.read(log_of(timestamp=pa.array([20240102, 20241399]).cast(kind)))  # the second is no day
    assert log.table["timestamp"].to_pylist() == [20240102.0, 20241399.0]


@pytest.mark.parametrize("kind", [pa.date32(), pa.date64()])
def test_dates_become_seconds(kind: pa.DataType) -> None:
    log = Interactions.read(log_of(timestamp=pa.array([date(2020, 1, 1)], kind)))
    assert log.table["timestamp"].to_pylist() == [NOON_SECONDS - 12 * 3600]


def test_bad_times_are_set_aside() -> None:
    times = [-1.0, float("nan"), float("inf"), None, 0.0, 253_402_300_799.0, 253_402_300_800.0]
    log = Interactions.read(log_of(timestamp=times))
    assert log.table["timestamp"].to_pylist() == [0.0, 253_402_300_799.0]
    outside = "timestamp not in seconds from 1970 to 9999"
    assert set_aside(log) == [(1, outside), (2, outside), (3, outside), (4, "missing timestamp"), (7, outside)]

    log = Interactions.read(log_of(timestamp=["5", "soon", None, "2020-01-01", "1969-12-31"]))
    assert log.table["timestamp"].to_pylist() == [5.0, NOON_SECONDS - 12 * 3600]
    assert set_aside(log) == [
        (2, "timestamp is neither a number nor a date"),
        (3, "missing timestamp"),
        (5, outside),
    ]


def test_bad_positions_are_set_aside() -> None:
    log = Interactions.read(log_of(position=[3.0, 1.5, None, float("inf"), -2.0]))
    assert log.table["position"].to_pylist() == [3, -2]
    assert set_aside(log) == [
        (2, "position is no whole number"),
        (3, "missing position"),
        (4, "position is no whole number"),
    ]


def test_weights_reach_the_histories_in_their_order() -> None:
    catalog = Catalog.read(pl.DataFrame({"item_id": ["a", "b"]}))
    log = {"user_id": ["u", "v", "u"], "item_id": ["a", "b", "b"], "timestamp": [2, 1, 1]}
    weights = Interactions.read(pl.DataFrame(log | {"weight": [3.0, 0.5, None]})).histories(catalog)[1].weights
    assert weights is not None
    assert weights.tolist() == [1.0, 3.0, 0.5]
    assert Interactions.read(pl.DataFrame(log)).histories(catalog)[1].weights is None


def test_bad_weights_are_set_aside() -> None:
    log = Interactions.read(log_of(weight=[0.0, -1.0, float("nan"), 1e300, None, 2.5]))
    assert log.table["weight"].to_pylist() == [0.0, 1.0, 2.5]
    assert set_aside(log) == [(row, "weight is negative or not finite") for row in (2, 3, 4)]


def test_ratings_are_mapped_from_the_declared_scale() -> None:
    ratings = [1.0, 5.0, 2.0, None, 0.5, 6.0, float("inf"), float("-inf")]
    log = Interactions.read(log_of(rating=ratings), rating_range=(1, 5))
    assert log.table["rating"].to_pylist() == [0.0, 1.0, 0.25, None]
    assert set_aside(log) == [
        (5, "rating outside 1 to 5"),
        (6, "rating outside 1 to 5"),
        (7, "rating is not finite"),
        (8, "rating is not finite"),
    ]
    assert log.rejected.rows[-1]["value"] == "6"
    assert log.rating_range == (1, 5)


def test_ratings_without_a_scale_are_mapped_from_the_range_found() -> None:
    log = Interactions.read(log_of(rating=["2", "n/a", "4", "10", ""]))
    assert log.table["rating"].to_pylist() == [0.0, 0.25, 1.0]
    assert log.rating_range == (2.0, 10.0)
    assert set_aside(log) == [(2, "rating is not a number"), (5, "rating is not a number")]


def test_nan_is_no_rating_wherever_it_stands(tmp_path: Path) -> None:
    """The event stays in the past, and the range is that of the numbers."""
    frame = pl.DataFrame({"user_id": [1, 1, 1], "item_id": ["a", "b", "c"], "rating": [2.0, float("nan"), 4.0]})
    frame.write_parquet(tmp_path / "log.parquet")
    for name, nan in {"log.csv": "NaN", "small.csv": "nan", "empty.csv": ""}.items():
        (tmp_path / name).write_text(f"user_id,item_id,rating\n1,a,2\n1,b,{nan}\n1,c,4\n")
    line = '{{"user_id": 1, "item_id": "{}", "rating": {}}}\n'
    (tmp_path / "log.jsonl").write_text(line.format("a", 2) + line.format("b", "NaN") + line.format("c", 4))
    for source in (frame, frame.to_arrow(), frame.to_pandas(), *sorted(tmp_path.iterdir())):
        log = Interactions.read(source)
        assert log.table["rating"].to_pylist() == [0.0, None, 1.0], source
        assert (log.rating_range, log.rejected.count) == ((2.0, 4.0), 0), source
    none = Interactions.read(frame.with_columns(rating=float("nan")))
    assert (none.rating_range, len(none), none.rejected.count) == (None, 3, 0)


def test_a_row_set_aside_for_another_reason_does_not_widen_the_range() -> None:
    log = Interactions.read(log_of(timestamp=[1, 2, -3], rating=[1, 2, 100]))
    assert log.rating_range == (1.0, 2.0)


def test_one_rating_everywhere_means_yes_and_none_means_nothing() -> None:
    log = Interactions.read(log_of(rating=[1, 1, None]))
    assert log.table["rating"].to_pylist() == [1.0, 1.0, None]
    log = Interactions.read(log_of(rating=pa.array([None, None], pa.float64())))
    assert log.rating_range is None
    assert np.isnan(log.histories(CATALOG)[1].ratings).all()


@pytest.mark.parametrize("scale", [(5, 1), (1, 1), (0, float("inf")), (float("nan"), 1)])
def test_an_impossible_scale_is_refused(scale: tuple[float, float]) -> None:
    with pytest.raises(InputError, match=r"rating_range must be \(smallest, largest\)"):
        Interactions.read(log_of(rating=[1, 2]), rating_range=scale)


def test_a_scale_without_ratings_is_refused() -> None:
    with pytest.raises(InputError, match="a rating_range was given, but the Arrow table has no column 'rating'"):
        Interactions.read(log_of(position=[1]), rating_range=(1, 5))


@pytest.mark.parametrize(
    ("name", "column", "message"),
    [
        ("rating", [[1]], "column rating: expected numbers, got"),
        ("rating", [True], "column rating: expected numbers, got bool"),
        ("timestamp", [True], "column timestamp: expected numbers, got bool"),
        ("text", [["a"]], "column text: expected text, got"),
    ],
)
def test_columns_of_the_wrong_type_are_refused(name: str, column: list[object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Interactions.read(log_of(**{name: column}))


def test_a_csv_log_is_read_row_by_row(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(
        b"user_id,item_id,rating,timestamp,event\n1,a,3,10,view\n2,b,good,11,view\n3,\xff,4,12,buy\n4,c,,x,buy\n5,d,,13,7\n"
    )
    log = Interactions.read(tmp_path / "log.csv", rating_range=(1, 5), rejected_to=tmp_path / "r.jsonl")
    assert log.table.to_pylist() == [
        {"user_id": 1, "item_id": "a", "timestamp": 10.0, "rating": 0.5, "event": "view"},
        {"user_id": 5, "item_id": "d", "timestamp": 13.0, "rating": None, "event": "7"},
    ]
    assert [json.loads(line) for line in (tmp_path / "r.jsonl").read_text().splitlines()] == [
        {"file": str(tmp_path / "log.csv"), "row": row, "reason": reason, "value": value}
        for row, reason, value in [
            (3, "invalid UTF-8", "\ufffd"),
            (4, "timestamp is neither a number nor a date", "x"),
            (2, "rating is not a number", "good"),
        ]
    ]


def test_unknown_items_are_set_aside_by_known() -> None:
    log = Interactions.read(pa.table({"user_id": ["", "u", "v", "u"], "item_id": ["a", "x", "b", "c"]}))
    with pytest.raises(
        InputError, match=r"1 events have an item that the catalog lacks: use log\.known\(catalog\) first"
    ):
        log.histories(CATALOG)
    known = log.known(CATALOG)
    assert set_aside(known) == [(1, "missing user_id"), (2, "unknown item_id")]
    assert known.rejected.summary() == "2 of 4 rows set aside: 1 missing user_id, 1 unknown item_id"
    assert log.rejected.count == 1  # the log itself is not changed
    users, past = known.histories(CATALOG)
    assert users.to_list() == ["v", "u"]
    assert past.items.tolist() == [1, 2]


def test_a_log_of_another_catalog_is_refused() -> None:
    log = Interactions.read(pa.table({"user_id": [1], "item_id": ["x"]}))
    with pytest.raises(
        InputError, match=r"no event of the Arrow table has an item of the catalog: got \['x'\], it has \['a'"
    ):
        log.known(CATALOG)


def test_text_files_meet_tables_of_integers(tmp_path: Path) -> None:
    """A CSV file with one odd id is text throughout; its other ids still find the catalog's integers."""
    (tmp_path / "log.csv").write_text("user_id,item_id\n1,30\n1,x9\n2,010\n2,10\n")
    catalog = Catalog.read(pa.table({"item_id": [10, 20, 30]}))
    known = Interactions.read(tmp_path / "log.csv").known(catalog)
    assert known.histories(catalog)[1].items.tolist() == [2, 0]
    assert [row["value"] for row in known.rejected.rows] == ["x9", "010"]


def test_events_are_sorted_by_time_then_position_then_file_order() -> None:
    columns = {
        "user_id": ["v", "u", "v", "u", "u", "v"],
        "item_id": ["a", "b", "c", "d", "a", "b"],
        "timestamp": [5.0, 9.0, 5.0, 1.0, 9.0, 2.0],
        "rating": [1.0, 2.0, 3.0, 4.0, 5.0, None],
        "text": ["t0", None, "t2", "t3", "t4", "t5"],
    }
    users, past = Interactions.read(pa.table(columns)).histories(CATALOG)
    assert users.to_list() == ["v", "u"]
    assert past.offsets.tolist() == [0, 3, 6]
    assert past.items.tolist() == [1, 0, 2, 3, 1, 0]
    assert past.times is not None
    assert past.times.tolist() == [2.0, 5.0, 5.0, 1.0, 9.0, 9.0]
    np.testing.assert_array_equal(past.ratings, np.float32([np.nan, 0, 0.5, 0.75, 0.25, 1]))
    assert past.texts is not None
    assert past.texts.to_pylist() == ["t5", "t0", "t2", "t3", None, "t4"]
    assert past.ties == 2
    assert past.about is None

    _, past = Interactions.read(pa.table({**columns, "position": [2, 2, 1, 9, 1, 7]})).histories(CATALOG)
    assert past.items.tolist() == [1, 2, 0, 3, 0, 1]

    del columns["timestamp"]
    _, past = Interactions.read(pa.table({**columns, "position": [2, 2, 1, 9, 1, 7]})).histories(CATALOG)
    assert past.items.tolist() == [2, 0, 1, 0, 1, 3]
    assert past.times is None
    assert past.ties == 0

    _, past = Interactions.read(pa.table(columns)).histories(CATALOG)
    assert past.items.tolist() == [0, 2, 1, 1, 3, 0]


events = st.lists(
    st.tuples(st.sampled_from("xyz"), st.sampled_from("abcd"), st.integers(0, 3)), min_size=1, max_size=30
)


@given(events)
def test_histories_agree_with_plain_python(rows: list[tuple[str, str, int]]) -> None:
    table = {name: [row[n] for row in rows] for n, name in enumerate(("user_id", "item_id", "timestamp"))}
    users, past = Interactions.read(pa.table(table)).histories(CATALOG)
    expected_users = list(dict.fromkeys(user for user, _, _ in rows))
    assert users.to_list() == expected_users
    for n, user in enumerate(expected_users):
        mine = sorted((row for row in rows if row[0] == user), key=lambda row: row[2])
        assert past.items[past.offsets[n] : past.offsets[n + 1]].tolist() == ["abcd".index(row[1]) for row in mine]


def test_what_counts_as_positive_is_one_setting() -> None:
    log = Interactions.read(
        pa.table(
            {
                "user_id": ["u", "u", "v", "u", "u"],
                "item_id": ["a", "b", "c", "d", "a"],
                "rating": [5, 3, 1, None, 4],
                "event": ["buy", "buy", "buy", "view", None],
            }
        )
    )

    def items(positive: Positive | None) -> list[list[int]]:
        users, past = log.histories(CATALOG, positive=positive)
        assert users.to_list() == ["u", "v"]  # people keep their row, even without a positive event
        return [past.items[past.offsets[u] : past.offsets[u + 1]].tolist() for u in range(2)]

    assert items(None) == items(Positive()) == [[0, 1, 3, 0], [2]]
    assert items(Positive(min_rating=0.75)) == [[0, 3, 0], []]
    assert items(Positive(events=("buy",))) == [[0, 1], [2]]
    assert items(Positive(min_rating=0.5, events=("buy", "view"))) == [[0, 1, 3], []]
    with pytest.raises(InputError, match=r"has no event 'bye' \(did you mean 'buy'\?\); it has: buy, view"):
        items(Positive(events=("bye",)))
    with pytest.raises(InputError, match=r"min_rating must lie in \[0, 1\], where ratings are mapped to, got 3"):
        Positive(min_rating=3)
    without = Interactions.read(log.table.select(["user_id", "item_id"]))
    with pytest.raises(InputError, match="were asked for, but the Arrow table has no column 'event'"):
        without.histories(CATALOG, positive=Positive(events=("buy",)))


def test_a_rating_on_the_threshold_counts() -> None:
    """(4 - 1) / (6 - 1) is not exact in float32; the threshold is rounded alike."""
    log = Interactions.read(log_of(rating=[1, 4, 6]), rating_range=(1, 6))
    assert len(log.histories(CATALOG, positive=Positive(min_rating=0.6))[1].items) == 2


def test_keep_takes_one_split() -> None:
    log = Interactions.read(log_of(item_id=["a", "b", "c"], split=["train", "test", "train"]))
    train = log.keep(np.array([True, False, True]))
    assert train.table["item_id"].to_pylist() == ["a", "c"]
    assert train.rejected.count == 0
    assert train.loaded.rows.tolist() == [1, 3]
    nothing = log.keep(np.zeros(3, bool)).known(CATALOG)
    users, past = nothing.histories(CATALOG)
    assert (len(nothing), len(users), len(past)) == (0, 0, 0)


def test_people_are_described_in_words(tmp_path: Path) -> None:
    (tmp_path / "people.tsv").write_text(
        "user_id\tage\tgender\tjob_title\n2\t24\tM\ttechnician\n1\t\tF\t\n2\t99\tX\tdouble\n\t5\tM\tnobody\n3\t\t\t\n"
    )
    log = Interactions.read(
        pa.table({"user_id": [1, 2, 3, 4], "item_id": ["a", "b", "c", "d"]}), people=tmp_path / "people.tsv"
    )
    assert log.people is not None
    assert log.people["user_id"].to_pylist() == [2, 1, 3]
    _, past = log.histories(CATALOG)
    assert past.about is not None
    assert past.about.to_pylist() == ["gender F", "age 24, gender M, job title technician", None, None]
    assert log.rejected.summary() == "2 of 9 rows set aside: 1 missing user_id, 1 duplicate user_id"
    assert {row["file"] for row in log.rejected.rows} == {str(tmp_path / "people.tsv")}
    assert log.people_rejected.summary() == "2 of 5 rows set aside: 1 missing user_id, 1 duplicate user_id"
    assert log.loaded.rejected.summary() == "none of 4 rows set aside"
    assert log.described == 3


def test_people_of_another_log_are_refused() -> None:
    log = pa.table({"user_id": [1, 2, 1], "item_id": ["a", "b", "c"]})
    people = pa.table({"user_id": ["u1", "u2"], "age": [30, 40]})
    with pytest.raises(InputError, match=r"has nobody of the Arrow table: got \['u1', 'u2'\], the log has \[1, 2\]"):
        Interactions.read(log, people=people)
    assert Interactions.read(log, people=people.set_column(0, "user_id", pa.array(["u1", "2"]))).described == 1
    with pytest.raises(InputError, match="has no usable row"):
        Interactions.read(log, people=people[:0])


def test_what_was_read_in_words() -> None:
    bare = pa.table({"user_id": [1, 2, 1], "item_id": ["a", "b", "c"]})
    assert Interactions.read(bare).summary() == "3 events of 2 people, without times, without ratings"
    times, ratings = ["2024-01-02", "2024-03-04T10:00:00Z", "2023-12-31"], [1, 4.5, 2]
    full = bare.append_column("timestamp", [times]).append_column("rating", [ratings])
    assert Interactions.read(full).summary() == "3 events of 2 people, 2023-12-31 to 2024-03-04, ratings from 1 to 4.5"


def test_a_column_that_is_missed_may_be_another_one() -> None:
    log = {"user_id": ["u"], "item_id": ["a"], "RATING": [5], "time": [1]}
    with pytest.raises(
        InputError, match=r"no column 'rating' \(did you mean 'RATING'\?\); it has: user_id, item_id, RA"
    ):
        Interactions.read(pa.table(log), rating_range=(1, 5))
    assert Interactions.read(pa.table(log)).lacks("timestamp") == (
        "the Arrow table has no column 'timestamp' (did you mean 'time'?); it has: user_id, item_id, RATING, time"
    )


def test_people_without_attributes_say_nothing() -> None:
    log = Interactions.read(log_of(position=[1]), people=pa.table({"user_id": ["u"]}))
    about = log.histories(CATALOG)[1].about
    assert about is not None
    assert about.to_pylist() == [None]


def test_movielens_100k(movielens_100k: Path) -> None:
    def read(part: str) -> pl.DataFrame:
        frame = pl.read_csv(movielens_100k / f"ml-100k.{part}", separator="\t", quote_char=None, infer_schema=False)
        return frame.rename(lambda name: name.split(":")[0])

    catalog = Catalog.read(read("item"))
    log = Interactions.read(read("inter"), rating_range=(1, 5), people=read("user")).known(catalog)
    users, past = log.histories(catalog)
    assert (len(catalog), len(users), len(past.items)) == (1682, 943, 100_000)
    assert log.rejected.count == 0
    assert past.times is not None
    assert past.about is not None
    assert past.about[users.rows(["1"])[0]].as_py() == "age 24, gender M, occupation technician, zip code 85711"
    last = past.offsets[1:] - 1
    assert (past.times[last] == past.times[last - 1]).sum() == 415
    assert past.ties == read("inter").select(pl.struct("user_id", "timestamp").is_duplicated()).height - (
        read("inter").select("user_id", "timestamp").n_unique()
    )

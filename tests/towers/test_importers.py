"""Importers: small files in exactly the formats that are downloaded, odd rows included, against values by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from towers.artefact import read_manifest
from towers.catalog import Catalog
from towers.errors import ArtefactError, InputError
from towers.importers import amazon, movielens, recbole
from towers.importers.source import KIND
from towers.interactions import Interactions
from towers.movielens import movielens_100k as from_wheel

NAMES = ("user_id", "item_id", "rating", "timestamp")


def events_of(log: Interactions) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in NAMES) for row in log.table.to_pylist()]


def rejected_of(thing: Catalog | Interactions) -> list[tuple[str, int, str, str | None]]:
    return [(Path(r["file"]).name, r["row"], r["reason"], r.get("value")) for r in thing.rejected.rows]


def flags(*numbers: int) -> str:
    return "|".join("1" if number in numbers else "0" for number in range(19))


@pytest.fixture
def ml_100k(tmp_path: Path) -> Path:
    films = [
        f"1|Toy Story (1995)|01-Jan-1995||http://us.imdb.com/M/title-exact?Toy%20Story%20(1995)|{flags(3, 4, 5)}",
        f"2|Café | Bar, The (1994)|01-Jan-1994||http://x|{flags(8, 18)}",
        f"3|Land Before Time III (1995) (V)|01-Jan-1995||http://x|{flags(3)}",
        f"267|unknown||||{flags(0)}",
        f"5|No Flags (1990)|01-Jan-1990||http://x|{flags(3)[:-2]}",
        f"6|2001: A Space Odyssey (1968)|01-Jan-1968||http://x|{flags()}",
    ]
    (tmp_path / "u.item").write_bytes("\n".join([*films, ""]).encode("latin-1"))
    (tmp_path / "u.user").write_text("1|24|M|technician|85711\n2|53|F|other|T8H1N\n", "latin-1")
    events = ["1\t2\t3\t881250949", "2\t267\t5\t891717742", "2\t1\tx\t1", "2\t1\t6\t1", "2\t1\t4", "1\t1\t1\t878887116"]
    (tmp_path / "u.data").write_text("\n".join(events) + "\n", "latin-1")
    return tmp_path


def test_ml_100k(ml_100k: Path) -> None:
    catalog, log = movielens.read(ml_100k)
    assert catalog.table.to_pylist() == [
        {"item_id": 1, "title": "Toy Story", "year": 1995, "genres": "Animation, Children's, Comedy"},
        {"item_id": 2, "title": "The Café | Bar", "year": 1994, "genres": "Drama, Western"},
        {"item_id": 3, "title": "Land Before Time III", "year": 1995, "genres": "Animation"},
        {"item_id": 267, "title": "unknown", "year": None, "genres": "unknown"},
        {"item_id": 6, "title": "2001: A Space Odyssey", "year": 1968, "genres": None},
    ]
    assert rejected_of(catalog)[0][:3] == ("u.item", 5, "wrong number of fields")
    assert log.rating_range == (1, 5)
    assert events_of(log) == [(1, 2, 0.5, 881250949.0), (2, 267, 1.0, 891717742.0), (1, 1, 0.0, 878887116.0)]
    assert rejected_of(log) == [
        ("u.data", 5, "wrong number of fields", "2\t1\t4"),
        ("u.data", 3, "rating is not a number", "x"),
        ("u.data", 4, "rating outside 1 to 5", "6"),
    ]
    assert log.rejected.total == 8  # six lines of events and two of people
    assert log.people is not None
    assert log.people.to_pylist() == [
        {"user_id": 1, "age": "24", "gender": "M", "occupation": "technician"},
        {"user_id": 2, "age": "53", "gender": "F", "occupation": "other"},
    ]


def test_ml_1m_has_latin_titles_and_codes_for_people(tmp_path: Path) -> None:
    films = "1::Toy Story (1995)::Animation|Children's|Comedy\r\n73::Misérables, Les (1995)::Drama|Musical\r\n"
    (tmp_path / "movies.dat").write_bytes((films + "9::Odd :: Title (1990)::Drama\r\n").encode("latin-1"))
    (tmp_path / "users.dat").write_text("1::F::1::10::48067\n2::M::56::16::70072\n3::M::35::0::x\n", "latin-1")
    (tmp_path / "ratings.dat").write_text("1::73::5::978300760\n2::1::4::978302109\n", "latin-1")
    catalog, log = movielens.read(tmp_path)
    assert catalog.table["title"].to_pylist() == ["Toy Story", "Misérables, Les", "Odd :: Title"]
    assert catalog.table["genres"].to_pylist() == ["Animation, Children's, Comedy", "Drama, Musical", "Drama"]
    assert log.rating_range == (1, 5)
    assert events_of(log) == [(1, 73, 1.0, 978300760.0), (2, 1, 0.75, 978302109.0)]
    assert log.people is not None
    assert [tuple(person.values()) for person in log.people.to_pylist()] == [
        (1, "under 18", "F", "K-12 student"),
        (2, "56 and over", "M", "self-employed"),
        (3, "35-44", "M", "other"),
    ]


def test_ml_10m_has_half_stars_and_no_people(tmp_path: Path) -> None:
    (tmp_path / "movies.dat").write_text("1::Amélie (2001)::Comedy|Romance\n", "utf-8")
    (tmp_path / "ratings.dat").write_text("1::1::0.5::838985046\n1::1::5::838983525\n", "utf-8")
    catalog, log = movielens.read(tmp_path)
    assert catalog.titles == ["Amélie"]
    assert (log.rating_range, log.people) == ((0.5, 5), None)
    assert [event[2] for event in events_of(log)] == [0.0, 1.0]


@pytest.fixture
def ml_latest(tmp_path: Path) -> Path:
    rows = [
        "movieId,title,genres",
        "1,Toy Story (1995),Adventure|Animation",
        '11,"American President, The (1995)",Comedy|Drama|Romance',
        '5,"""Great Performances"" Cats (1998)",Musical',
        '6,"Cosmos, an Odyssey ",(no genres listed)',
        "7,Fawlty Towers (1975–1979),Comedy",
        "8,Death Note (2006-) ,Animation",
        "9,Too,Many,Fields",
        "x,Not a number (1990),Drama",
    ]
    (tmp_path / "movies.csv").write_text("\r\n".join(rows) + "\r\n", "utf-8")
    events = [
        "userId,movieId,rating,timestamp",
        "1,11,3.5,1112486027",
        "1,99,4.0,1112484676",
        "",
        "2,1,0.5,1",
        "2,1,,7",
    ]
    (tmp_path / "ratings.csv").write_text("\n".join(events) + "\n", "utf-8")
    return tmp_path


def test_ml_latest_is_csv(ml_latest: Path) -> None:
    catalog, log = movielens.read(ml_latest)
    assert [tuple(film.values()) for film in catalog.table.to_pylist()] == [
        (1, "Toy Story", 1995, "Adventure, Animation"),
        (11, "The American President", 1995, "Comedy, Drama, Romance"),
        (5, '"Great Performances" Cats', 1998, "Musical"),
        (6, "Cosmos, an Odyssey", None, None),
        (7, "Fawlty Towers", 1975, "Comedy"),
        (8, "Death Note", 2006, "Animation"),
        (99, None, None, None),  # only the ratings know it
    ]
    assert rejected_of(catalog) == [
        ("movies.csv", 7, "wrong number of fields", "9,Too,Many,Fields"),
        ("movies.csv", 8, "item_id is not a whole number", "x"),
    ]
    assert log.rating_range == (0.5, 5)
    found = events_of(log)
    assert [event[:2] + event[3:] for event in found] == [
        (1, 11, 1112486027),
        (1, 99, 1112484676),
        (2, 1, 1),
        (2, 1, 7),
    ]
    assert [event[2] for event in found] == [pytest.approx(3 / 4.5), pytest.approx(3.5 / 4.5), 0.0, None]
    assert movielens.load(ml_latest).bare == 1


def test_a_title_without_a_year_keeps_its_brackets(ml_latest: Path) -> None:
    rows = 'movieId,title,genres\n1,"Seven (a.k.a. Se7en) (1995)",Crime\n2,Babylon (live),Drama\n3,2012 (2009),Action\n'
    (ml_latest / "movies.csv").write_text(rows, "utf-8")
    table = movielens.read(ml_latest)[0].table
    assert table["title"].to_pylist()[:3] == ["Seven (a.k.a. Se7en)", "Babylon (live)", "2012"]
    assert table["year"].to_pylist()[:3] == [1995, None, 2009]


def test_what_is_missing_is_named(ml_latest: Path, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    with pytest.raises(InputError, match=r"empty holds no MovieLens: looked for u\.data \(ml-100k\), ratings\.dat"):
        movielens.read(empty)
    with pytest.raises(InputError, match=r"empty holds no Amazon Reviews 2023: looked for <Category>\.jsonl"):
        amazon.read(empty)
    with pytest.raises(InputError, match=r"empty holds no atomic files of RecBole: looked for <name>\.inter"):
        recbole.read(empty)
    for importer in (movielens, amazon, recbole):
        with pytest.raises(InputError, match=r"expected the folder of a data set at .*nowhere, but there is none"):
            importer.read(tmp_path / "nowhere")
    (ml_latest / "movies.csv").unlink()
    with pytest.raises(InputError, match=r"is MovieLens, but its file movies\.csv is missing"):
        movielens.read(ml_latest)


def test_a_stranger_among_the_csv_files_is_refused(ml_latest: Path) -> None:
    (ml_latest / "ratings.csv").write_text("user,movie,stars,when\n1,1,5,1\n", "utf-8")
    with pytest.raises(InputError, match=r"must begin with the line userId,movieId,rating,timestamp, got 'user,movie"):
        movielens.read(ml_latest)
    (ml_latest / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,1,5,1\n", "utf-8")
    (ml_latest / "movies.csv").write_text("id,title,genres\n1,a,b\n", "utf-8")
    with pytest.raises(InputError, match=r"movies\.csv has no column 'movieId'; it has: id, title, genres"):
        movielens.read(ml_latest)


# RecBole


def atomic(path: Path, *rows: str) -> None:
    path.write_text("".join(row.replace(" | ", "\t") + "\n" for row in rows), "utf-8")


def test_the_wheel_of_ml_100k(movielens_100k: Path) -> None:
    catalog, log = recbole.read(movielens_100k)
    ours, our_log = from_wheel()
    assert catalog.table["item_id"].equals(ours.table["item_id"])
    assert catalog.table.column_names == ["item_id", "title", "release_year", "class"]
    assert log.table.select(our_log.table.column_names).equals(our_log.table)
    assert log.rating_range == our_log.rating_range == (1, 5)
    assert log.people is not None
    assert log.people["age"].to_pylist() == [int(age) for age in our_log.people["age"].to_pylist()]


def test_atomic_files(tmp_path: Path) -> None:
    atomic(
        tmp_path / "x.item",
        "item_id:token | movie_title:token_seq | year:token | price:float | vector:float_seq | zip:token",
        'a | 5" Nails, "live" | 1995 | 2.5 | 0.5 -1 3e2 | 007',
        "b |  | 1996 |  |  | 12",
        "c | short",
        "d | Four | 1997 | much | 1 2 3 | 1",
    )
    atomic(tmp_path / "x.user", "user_id:token | age:token", "1 | 24", "2 | 53")
    atomic(
        tmp_path / "x.inter",
        "user_id:token | item_id:token | rating:float | timestamp:float | review:token_seq | mood:token",
        "1 | a | 2 | 10.5 | very good | x",
        "2 | b | -1 | 11 |  | y",
        "2 | zz | 4 | 12 | fine | y",
        "2 | a | ? | 13 | fine | y",
    )
    catalog, log = recbole.read(tmp_path)
    assert catalog.table.to_pylist() == [
        {
            "item_id": "a",
            "title": '5" Nails, "live"',
            "year": 1995,
            "price": 2.5,
            "vector": [0.5, -1, 300],
            "zip": "007",
        },
        {"item_id": "b", "title": None, "year": 1996, "price": None, "vector": None, "zip": "12"},
        {"item_id": "zz", "title": None, "year": None, "price": None, "vector": None, "zip": None},
    ]
    assert rejected_of(catalog) == [
        ("x.item", 3, "wrong number of fields", "c\tshort"),
        ("x.item", 4, "price is not a number", "much"),
    ]
    assert log.rating_range == (-1, 4)  # as found
    assert events_of(log) == [(1, "a", pytest.approx(0.6), 10.5), (2, "b", 0.0, 11), (2, "zz", 1.0, 12)]
    assert log.table["text"].to_pylist() == ["very good", None, "fine"]
    assert rejected_of(log) == [("x.inter", 4, "rating is not a number", "?")]
    assert log.people is not None
    assert log.people.to_pylist() == [{"user_id": 1, "age": 24}, {"user_id": 2, "age": 53}]


def test_ids_are_integers_only_where_all_of_both_files_are(tmp_path: Path) -> None:
    atomic(tmp_path / "x.item", "item_id:token | name:token_seq | brand_name:token", "1 | one | x", "2 | two | y")
    atomic(tmp_path / "x.inter", "user_id:token | item_id:token", "07 | 1", "8 | 2")
    catalog, log = recbole.read(tmp_path)
    assert catalog.table["item_id"].to_pylist() == log.table["item_id"].to_pylist() == [1, 2]
    assert log.table["user_id"].to_pylist() == ["07", "8"]
    assert catalog.table.column_names == ["item_id", "name", "brand_name"]
    atomic(tmp_path / "x.inter", "user_id:token | item_id:token", "7 | 1", "8 | two")
    catalog, log = recbole.read(tmp_path)
    assert catalog.table["item_id"].to_pylist() == ["1", "2", "two"]
    assert log.table["item_id"].to_pylist() == ["1", "two"]


def test_other_names_and_a_split_in_files(tmp_path: Path) -> None:
    atomic(tmp_path / "yelp.item", "business_id:token | item_name:token_seq", "p | Pub", "q | Quay")
    head = "review_id:token | user_id:token | business_id:token | stars:float | date:float"
    atomic(tmp_path / "yelp.train.inter", head, "r1 | u | p | 3 | 100", "r2 | u | q | 5 | 200")
    atomic(tmp_path / "yelp.test.inter", head, "r3 | u | p | 1 | 300")
    catalog, log = recbole.read(tmp_path)
    assert catalog.table.to_pylist() == [{"item_id": "p", "title": "Pub"}, {"item_id": "q", "title": "Quay"}]
    assert events_of(log) == [("u", "p", 0.5, 100), ("u", "q", 1.0, 200), ("u", "p", 0.0, 300)]
    assert log.table["split"].to_pylist() == ["train", "train", "test"]


def test_a_log_alone_suffices(tmp_path: Path) -> None:
    atomic(tmp_path / "x.inter", "user_id:token | item_id:token", "u | b", "u | a", "v | b")
    catalog, log = recbole.read(tmp_path)
    assert catalog.table.to_pylist() == [{"item_id": "b"}, {"item_id": "a"}]
    assert (log.rating_range, log.people, len(log)) == (None, None, 3)
    recbole.load(tmp_path).write(tmp_path / "data")
    names = sorted(path.name for path in (tmp_path / "data").iterdir())
    assert names == ["interactions.parquet", "items.parquet", "manifest.json"]


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({"a.inter": "user_id:token\n", "b.inter": "user_id:token\n"}, r"several data sets \(a, b\)"),
        ({"a.inter": "user_id\titem_id\n1\t2\n"}, r"a\.inter is no atomic file: .* got 'user_id\\titem_id'"),
        ({"a.inter": "user_id:token\titem_id:int\n1\t2\n"}, r"a\.inter is no atomic file"),
        ({"a.inter": ""}, r"a\.inter is no atomic file"),
        (
            {"a.inter": "user_id:token\tartist:token\n1\t2\n"},
            r"a\.inter has no column 'item_id'; it has: user_id, artist",
        ),
    ],
)
def test_faulty_atomic_files(tmp_path: Path, files: dict[str, str], says: str) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(InputError, match=says):
        recbole.read(tmp_path)


# Written as Parquet


def test_what_is_written_reads_the_same(ml_latest: Path, tmp_path: Path) -> None:
    out = tmp_path / "data"
    catalog, log = movielens.load(ml_latest).write(out)
    assert sorted(path.name for path in out.iterdir()) == [
        "interactions.parquet", "items.parquet", "manifest.json", "rejected.jsonl",
    ]  # fmt: skip
    assert pl.read_parquet(out / "interactions.parquet")["rating"].to_list() == [3.5, 4.0, 0.5, None]
    again = Interactions.read(out / "interactions.parquet", rating_range=(0.5, 5))
    assert (again.table.equals(log.table), again.rejected.count) == (True, 0)
    assert Catalog.read(out / "items.parquet").fingerprint == catalog.fingerprint
    manifest = read_manifest(out, KIND)
    assert (manifest["rows"], manifest["rating_range"]) == ({"items": 7, "interactions": 4}, [0.5, 5.0])
    reasons = [json.loads(line)["reason"] for line in (out / "rejected.jsonl").read_text("utf-8").splitlines()]
    assert reasons == ["wrong number of fields", "item_id is not a whole number"]


def test_people_are_written_and_rows_set_aside_are_not(ml_100k: Path, tmp_path: Path) -> None:
    _, log = movielens.load(ml_100k).write(tmp_path / "data")
    rows = pl.read_parquet(tmp_path / "data" / "interactions.parquet").select(NAMES).rows()
    assert rows == [(1, 2, 3.0, 881250949.0), (2, 267, 5.0, 891717742.0), (1, 1, 1.0, 878887116.0)]
    people = Interactions.read(
        tmp_path / "data" / "interactions.parquet", rating_range=(1, 5), people=tmp_path / "data" / "people.parquet"
    ).people
    assert people is not None
    assert people.equals(log.people)


def test_an_import_is_replaced_and_anything_else_is_left_alone(ml_100k: Path, tmp_path: Path) -> None:
    source = movielens.load(ml_100k)
    source.write(tmp_path / "data")
    source.write(tmp_path / "data")
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine", "utf-8")
    with pytest.raises(ArtefactError, match="other exists and is not a whole twotower/data"):
        source.write(other)
    assert [path.name for path in other.iterdir()] == ["mine.txt"]

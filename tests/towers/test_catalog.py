"""The catalog: what is kept, what is set aside, and how items become text."""

from __future__ import annotations

import dataclasses
import json
from datetime import date
from pathlib import Path

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from towers.catalog import Catalog
from towers.errors import InputError

FILMS = {
    "title": ["Heat", " ", "Ran", "Solaris"],
    "item_id": ["h", "b", "r", "s"],
    "year": [1995.0, None, float("nan"), 1972.5],
    "genres": [["Crime", "Drama"], ["War", None], [], None],
}


@pytest.fixture
def films() -> Catalog:
    return Catalog.read(pa.table(FILMS))


def test_ids_come_first_and_everything_is_kept(films: Catalog) -> None:
    assert films.table.column_names == ["item_id", "title", "year", "genres"]
    assert len(films) == 4
    assert films.ids.to_list() == ["h", "b", "r", "s"]
    assert films.rows(["s", "h", "nobody"]).tolist() == [3, 0, -1]
    with pytest.raises(dataclasses.FrozenInstanceError):
        films.loaded = films.loaded  # type: ignore[misc]


@pytest.mark.parametrize("make", [pa.table, pl.DataFrame, pd.DataFrame])
def test_bad_rows_are_set_aside_and_counted(make: type, tmp_path: Path) -> None:
    source = make({"item_id": ["a", None, "a", " ", None, "b", ""], "title": ["x", "y", "z", "w", None, None, "v"]})
    catalog = Catalog.read(source, rejected_to=tmp_path / "rejected.jsonl")
    assert catalog.table.to_pydict() == {"item_id": ["a", "b"], "title": ["x", None]}
    assert catalog.rejected.summary() == "5 of 7 rows set aside: 3 missing item_id, 1 empty row, 1 duplicate item_id"
    lines = [json.loads(line) for line in (tmp_path / "rejected.jsonl").read_text().splitlines()]
    assert {(line["row"], line["reason"], line.get("value")) for line in lines} == {
        (5, "empty row", None),
        (2, "missing item_id", None),
        (4, "missing item_id", None),
        (7, "missing item_id", None),
        (3, "duplicate item_id", "a"),
    }


def test_integer_ids_are_given_back_as_integers() -> None:
    catalog = Catalog.read(pd.DataFrame({"item_id": [10, 30, 20]}))
    assert catalog.ids.to_list() == [10, 30, 20]
    assert catalog.ids.take([2, -1]) == [20, None]


@pytest.mark.parametrize("ids", [[], [None, None], ["", " "]])
def test_an_empty_catalog_is_refused(ids: list[str | None], tmp_path: Path) -> None:
    table = pa.table({"item_id": pa.array(ids, pa.string()), "title": pa.array(["x"] * len(ids), pa.string())})
    with pytest.raises(InputError, match="the Arrow table has no usable row"):
        Catalog.read(table, rejected_to=tmp_path / "rejected.jsonl")
    assert len((tmp_path / "rejected.jsonl").read_text().splitlines()) == len(ids)


def test_mixed_ids_are_refused() -> None:
    with pytest.raises(InputError, match="column item_id: ids must be all strings or all integers, got int, str"):
        Catalog.read(pd.DataFrame({"item_id": [1, "1"]}))


@pytest.mark.parametrize(
    ("template", "texts"),
    [
        ("{title}", ["Heat", "", "Ran", "Solaris"]),
        (
            "{title}[ ({year})][. {genres}]",
            ["Heat (1995). Crime, Drama", ". War", "Ran", "Solaris (1972.5)"],
        ),
        ("A film: {title} {year}", ["A film: Heat 1995", "", "A film: Ran", "A film: Solaris 1972.5"]),
        ("[{year} {genres}]", ["1995 Crime, Drama", "", "", ""]),
        ("{item_id}[ {title}/{title}]", ["h Heat/Heat", "b", "r Ran/Ran", "s Solaris/Solaris"]),
        ("", ["", "", "", ""]),
    ],
)
def test_templates(films: Catalog, template: str, texts: list[str]) -> None:
    assert films.texts(template) == texts


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{titel}", "has no column 'titel' (did you mean 'title'?); it has: item_id, title, year, genres"),
        ("{title", "is not a template"),
        ("title}", "is not a template"),
        ("{}", "is not a template"),
        ("[{title}", "is not a template"),
        ("{title}]", "is not a template"),
        ("[{title}[{year}]]", "is not a template"),
        ("A film", "names no column"),
    ],
)
def test_faulty_templates_are_refused(films: Catalog, template: str, message: str) -> None:
    with pytest.raises(InputError) as caught:
        films.texts(template)
    assert message in str(caught.value)


def test_values_of_every_type_are_written_for_people() -> None:
    table = {
        "item_id": [1],
        "flag": [True],
        "day": [date(1995, 12, 15)],
        "sizes": [[40.0, 41.5]],
        "pair": pa.array([[1.0, 2.0]], pa.list_(pa.float64(), 2)),
        "big": [10**12],
        "kind": pa.array(["a"]).dictionary_encode(),
        "nothing": pa.nulls(1),
    }
    catalog = Catalog.read(pa.table(table))
    template = "|".join(f"{{{name}}}" for name in table)
    assert catalog.texts(template) == ["1|true|1995-12-15|40, 41.5|1, 2|1000000000000|a|"]


@pytest.mark.parametrize("column", [[b"png"], [{"a": 1}]])
def test_bytes_and_records_cannot_be_text(column: list[object]) -> None:
    with pytest.raises(InputError, match=r"column 'x' holds .* which cannot be written as text"):
        Catalog.read(pa.table({"item_id": [1], "x": column})).texts("{x}")


def test_the_default_template_reads_title_first() -> None:
    catalog = Catalog.read(
        pa.table(
            {
                "genres": [["Crime", "Drama"], None],
                "item_id": [1, 2],
                "release_year": [1995, None],
                "title": ["Heat", "Ran"],
                "image": ["heat.png", None],
                "audio": ["heat.flac", None],
                "price": [9.99, 1.0],
                "image_vector": [[0.1, 0.2], [0.3, 0.4]],
            }
        )
    )
    assert catalog.default_template() == "[{title}. ][{genres}. ][release year {release_year}. ]"
    assert catalog.texts(catalog.default_template()) == ["Heat. Crime, Drama. release year 1995.", "Ran."]


def test_a_catalog_of_pictures_has_no_text() -> None:
    catalog = Catalog.read(pa.table({"item_id": [1, 2], "image": [b"a", b"b"]}))
    assert catalog.default_template() == ""
    assert catalog.texts("") == ["", ""]


def test_titles_fall_back_to_ids(films: Catalog) -> None:
    assert films.titles == ["Heat", "b", "Ran", "Solaris"]
    assert Catalog.read(pa.table({"item_id": [7], "name": ["Lamp"]})).titles == ["Lamp"]
    assert Catalog.read(pa.table({"item_id": [7, 8]})).titles == ["7", "8"]


def test_select_keeps_rows_in_the_order_asked_for(films: Catalog) -> None:
    some = films.select([2, 0])  # type: ignore[arg-type]
    assert some.ids.to_list() == ["r", "h"]
    assert some.titles == ["Ran", "Heat"]


def test_the_fingerprint_is_of_the_content_only(tmp_path: Path) -> None:
    columns = {"item_id": [1, 2], "title": ["Heat", None], "image": ["a.png", "b.png"]}
    pl.DataFrame(columns).write_csv(tmp_path / "t.csv")
    pl.DataFrame(columns).write_parquet(tmp_path / "t.parquet")
    same = [pa.table(columns), pl.DataFrame(columns), pd.DataFrame(columns), tmp_path / "t.csv", tmp_path / "t.parquet"]
    same.append(pa.concat_tables([pa.table(columns).slice(0, 1), pa.table(columns).slice(1)]))
    same.append(pa.table(dict(reversed(columns.items()))))
    assert len({Catalog.read(source).fingerprint for source in same}) == 1
    changed = [
        {**columns, "title": ["Heat", ""]},
        {**columns, "title": ["heat", None]},
        {**columns, "item_id": ["1", "2"]},
        {"item_id": [1, 2], "name": ["Heat", None], "image": ["a.png", "b.png"]},
        {**columns, "image": [b"a.png", b"b.png"]},
        {name: values[::-1] for name, values in columns.items()},
    ]
    assert len({Catalog.read(pa.table(source)).fingerprint for source in [columns, *changed]}) == 1 + len(changed)

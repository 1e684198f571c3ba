"""The page of records: every figure of every record on it, drawn where it can be, nothing fetched."""

from __future__ import annotations

import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from benchmarks.page import page, rendered
from benchmarks.page_plots import difference_figures, figures, groups, part_figures
from benchmarks.record import RESULTS, read_record
from towers.errors import InputError

FACTS = {
    "commit": "abc1234",
    "machine": "9 cores",
    "seconds": 180.0,
    "date": "2026-01-02",
    "command": "python -m benchmarks.x --save",
    "versions": {"torch": "9.8.7"},
}


class Cells(HTMLParser):
    """The tables as rows of cells, all text outside scripts and styles, and every tag with its attributes."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.words: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self._hidden = self._in_cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self._hidden = tag in ("script", "style")
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self._in_cell = True
        elif tag == "small":
            self.rows[-1][-1] += " "

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False
        self._in_cell = self._in_cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)
            if self._in_cell:
                self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def row(method: str, split: str, seed: int = 0, **metrics: Any) -> dict[str, Any]:
    return {
        "method": method,
        "split": split,
        "seed": seed,
        "metrics": {n.replace("_", "@"): v for n, v in metrics.items()},
    }


def written(folder: Path, *records: dict[str, Any]) -> Path:
    for record in records:
        (folder / f"{record['bench']}.json").write_text(json.dumps({**FACTS, **record}), "utf-8")
    return folder


QUALITY = [
    row(
        "ease", "cold", recall_20=[0.25, 0.2, 0.31], ndcg_20=[0.1, 0.05, 0.15], **{"recall@20/tail": [0.35, 0.3, 0.36]}
    ),
    row("twotower", "cold", 0, recall_20=[0.41, 0.4, 0.45], **{"recall@20/tail": [0.15, 0.1, 0.2]}),
    row("twotower", "cold", 1, recall_20=[0.43, 0.42, 0.44], gini_20=0.5, **{"recall@20/cold": 0.125}),
]


def test_every_kept_record_is_on_the_page_with_every_figure() -> None:
    cells = Cells(page(RESULTS))
    for path in RESULTS.glob("*.json"):
        record = read_record(path)
        for one in record["rows"]:
            beside = [
                line for line in cells.rows if line[0] == one["method"] and {one["split"], str(one["seed"])} & set(line)
            ]
            shown = {cell for line in beside for cell in line}
            for name, value in one["metrics"].items():
                upright = {line[1] for line in cells.rows if line[0] == name and len(line) == 2}  # a single long row
                assert any(same(cell, value) for cell in shown | upright), (one["method"], one["split"], name)
        for fact in ("commit", "date", "command", "machine"):
            assert record[fact] in cells.text


def same(cell: str, value: Any) -> bool:
    """Whether a cell shows a value; a number to the three decimals or four digits that the cell has."""
    if isinstance(value, str | bool | None):
        return cell == (value if isinstance(value, str) else json.dumps(value))
    try:
        shown = [float(part.replace(",", "")) for part in re.split("[ –]", cell)]
    except ValueError:
        return cell == str(value)
    return shown == pytest.approx(value if isinstance(value, list) else [value], rel=1e-3, abs=6e-4)


def test_a_record_tells_what_was_run(tmp_path: Path) -> None:
    text = Cells(page(written(tmp_path, {"bench": "b", "rows": QUALITY, "protocol": "all <ranked>"}))).text
    for words in (
        "abc1234",
        "9 cores",
        "3 min",
        "2026-01-02",
        "python -m benchmarks.x --save",
        "torch 9.8.7",
        "all <ranked>",
    ):
        assert words in text


def test_tables_hold_the_rows_and_parts_have_one_of_their_own(tmp_path: Path) -> None:
    rows = Cells(page(written(tmp_path, {"bench": "b", "rows": QUALITY}))).rows
    assert rows[:2] == [["benchmark", "date", "took", "rows"], ["b", "2026-01-02", "3 min", "3"]]
    assert rows[2:6] == [
        ["method", "seed", "recall@20", "ndcg@20", "gini@20"],
        ["ease", "0", "0.250 0.200–0.310", "0.100 0.050–0.150", "–"],
        ["twotower", "0", "0.410 0.400–0.450", "–", "–"],
        ["twotower", "1", "0.430 0.420–0.440", "–", "0.500"],
    ]
    assert rows[6:] == [
        ["method", "seed", "recall@20/tail", "recall@20/cold"],
        ["ease", "0", "0.350 0.300–0.360", "–"],
        ["twotower", "0", "0.150 0.100–0.200", "–"],
        ["twotower", "1", "–", "0.125"],
    ]


def test_what_nobody_knows_is_shown_as_it_is(tmp_path: Path) -> None:
    odd = {
        "method": "<odd>",
        "metrics": {
            "kills": 12,
            "tiny": 2e-8,
            "same": True,
            "words": "a & b",
            "nested": {"x": [1]},
            "none": None,
            "big": 12345.6,
            "nan": math.nan,
        },
        "cases": 1000,
    }
    cells = Cells(page(written(tmp_path, {"bench": "b", "rows": [odd], "settings": {"width": 77}})))
    assert cells.rows[2:] == [
        ["method", "cases", "kills", "tiny", "same", "words", "nested", "none", "big", "nan"],
        ["<odd>", "1,000", "12", "2e-08", "true", "a & b", '{"x": [1]}', "–", "12,346", "nan"],
    ]
    assert "More of the record: settings" in cells.text
    assert '"width": 77' in cells.text


def test_one_long_row_stands_upright(tmp_path: Path) -> None:
    metrics = {f"m{number}": number / 8 for number in range(20)}
    rows = Cells(page(written(tmp_path, {"bench": "b", "rows": [{"method": "ranx", "metrics": metrics}]}))).rows
    assert rows[3:] == [["method", "ranx"], *([name, f"{value:.3f}"] for name, value in metrics.items())]


def test_a_record_without_rows_still_tells_what_was_run(tmp_path: Path) -> None:
    assert "abc1234" in Cells(page(written(tmp_path, {"bench": "b", "rows": []}))).text


def drawn(trace: Any, error: str = "x") -> list[list[float]]:
    """Value, low and high of each point."""
    values = trace[error]
    above, below = trace[f"error_{error}"]["array"], trace[f"error_{error}"]["arrayminus"]
    return [[value, value - down, value + up] for value, up, down in zip(values, above, below, strict=True)]


def test_intervals_are_drawn_from_the_best_method_down() -> None:
    first, second = figures("cold", QUALITY)
    assert [first.layout.title.text, second.layout.title.text] == ["recall@20", "ndcg@20"]
    assert list(first.layout.yaxis.ticktext) == ["twotower", "ease"]
    theirs, ours = first.data
    assert list(theirs.text) == ["ease"]
    assert drawn(theirs) == [pytest.approx([0.25, 0.2, 0.31])]
    assert list(theirs.y) == [1.0]
    assert list(ours.text) == ["twotower, seed 0", "twotower, seed 1"]
    assert drawn(ours) == [pytest.approx([0.41, 0.4, 0.45]), pytest.approx([0.43, 0.42, 0.44])]
    assert list(ours.y) == [-0.1875, 0.1875]  # the two seeds, evenly around their line
    assert list(second.layout.yaxis.ticktext) == ["ease"]


def test_parts_are_drawn_in_the_order_of_the_whole() -> None:
    tail, cold = part_figures(QUALITY)
    assert (tail.layout.title.text, cold.layout.title.text) == ("recall@20, tail", "recall@20, cold")
    assert list(tail.layout.yaxis.ticktext) == ["twotower", "ease"]
    assert drawn(cold.data[0]) == [[0.125, 0.125, 0.125]]


def test_speeds_over_sizes_are_lines_on_logarithmic_scales() -> None:
    rows = [
        row(name, f"items-{size}", ms=size / 10 * share)
        for size in (10_000, 1000)
        for name, share in (("a", 1), ("b", 2))
    ]
    assert list(groups(rows)) == ["items"]
    (figure,) = figures("items", rows)
    assert [(line.name, list(line.x), list(line.y)) for line in figure.data] == [
        ("a", [1000, 10_000], [100, 1000]),
        ("b", [1000, 10_000], [200, 2000]),
    ]
    assert (figure.layout.xaxis.type, figure.layout.yaxis.type) == ("log", "log")
    assert list(figure.layout.xaxis.ticktext) == ["1k", "10k"]
    assert figure.layout.xaxis.title.text == "items"


def test_a_split_that_ends_in_a_number_stands_alone_without_a_brother() -> None:
    rows = [row("a", "movielens-100", ms=1), row("a", "cold", ms=2)]
    assert {name: len(some) for name, some in groups(rows).items()} == {"movielens-100": 1, "cold": 1}


def test_plain_numbers_are_bars_and_a_rate_is_no_part() -> None:
    rows = [
        row("a", "http", **{"requests/s": 250.0}, same=True),
        row("twotower", "http", **{"requests/s": 1000.0}, same=False),
    ]
    (figure,) = figures("http", rows)
    assert (list(figure.data[0].x), list(figure.layout.yaxis.ticktext)) == ([250, 1000], ["a", "twotower"])
    assert figure.layout.title.text == "requests/s"


def test_of_ranking_metrics_only_the_headline_is_drawn() -> None:
    rows = [
        row("a", "s", recall_10=0.1, recall_20=0.2, mrr_20=0.3, rmse=0.9),
        row("b", "s", recall_10=0.2, recall_20=0.1, mrr_20=0.1, rmse=0.8),
    ]
    assert [figure.layout.title.text for figure in figures("s", rows)] == ["recall@20", "rmse"]
    rows = [row("a", "s", recall_10=0.1), row("b", "s", recall_10=0.2)]
    assert [figure.layout.title.text for figure in figures("s", rows)] == ["recall@10"]


def test_differences_stand_around_zero() -> None:
    entries = [
        {"metric": "ndcg@20", "seed": 0, "ours": "a", "theirs": name, "difference": values}
        for name, values in {"b": [0.2, 0.15, 0.25], "c": [-0.3, -0.4, -0.2], "d": [0.01, -0.1, 0.1]}.items()
    ]
    (figure,) = difference_figures(entries)
    assert list(figure.layout.yaxis.ticktext) == ["a<br>− b", "a<br>− c", "a<br>− d"]
    assert [drawn(trace)[0] for trace in figure.data] == [pytest.approx(entry["difference"]) for entry in entries]
    assert len({trace.marker.color for trace in figure.data}) == 3
    assert [line.x0 for line in figure.layout.shapes] == [0]
    (alone,) = difference_figures(entries[:1])
    assert alone.layout.xaxis.range[0] < 0


def test_differences_are_in_a_table_too(tmp_path: Path) -> None:
    entry = {
        "metric": "recall@20",
        "seed": 1,
        "ours": "a",
        "theirs": "b",
        "difference": [0.05, -0.01, 0.09],
        "people": 943,
    }
    rows = Cells(page(written(tmp_path, {"bench": "b", "rows": QUALITY, "differences": [entry]}))).rows
    assert rows[-2:] == [
        ["metric", "seed", "ours", "theirs", "difference", "people"],
        ["recall@20", "1", "a", "b", "+0.050 -0.010 to +0.090", "943"],
    ]


def test_the_log_is_rendered_one_heading_lower(tmp_path: Path) -> None:
    text = "# Tried\n\n## A *miss*\n\n| a | b |\n| --- | --- |\n| `x` | 2 |\n\n<script>bad()</script>\n"
    (tmp_path / "LOG.md").write_text(text, "utf-8")
    html = page(written(tmp_path, {"bench": "b", "rows": QUALITY}))
    assert "<h2>Tried</h2>" in html
    assert "<h3>A <em>miss</em></h3>" in html
    assert Cells(html).rows[-2:] == [["a", "b"], ["x", "2"]]
    assert "<script>bad" not in html
    assert "<img" not in rendered("![x](http://example.org/x.png)")


def test_nothing_is_fetched() -> None:
    tags = Cells(page(RESULTS)).tags
    assert not [tag for tag, _ in tags if tag in ("link", "iframe", "img", "object", "embed", "base")]
    assert not [attributes for _, attributes in tags if {"src", "srcset", "action", "poster"} & attributes.keys()]
    assert not [attributes for tag, attributes in tags if "href" in attributes and tag != "a"]
    policy = next(attributes["content"] for _, attributes in tags if "http-equiv" in attributes)
    assert policy is not None
    assert policy.startswith("default-src 'none'; ")


def test_every_picture_and_anchor_has_an_id_of_its_own() -> None:
    html = page(RESULTS)
    tags = Cells(html).tags
    ids = [attributes["id"] for _, attributes in tags if "id" in attributes]
    assert len(set(ids)) == len(ids)
    assert {str(attributes["href"]) for tag, attributes in tags if tag == "a"} <= {f"#{one}" for one in ids}
    assert "movielens-100k-leave-one-out-0" in ids
    pictures = re.findall(r'Plotly\.newPlot\(\s*"([^"]+)"', html)
    assert len(set(pictures) & set(ids)) == len(pictures) > 10


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"bench": "b", "rows": [', "is not readable JSON"),
        ("[1]", "does not name its bench"),
        ('{"bench": "b"}', "no list of rows"),
        ('{"bench": "b", "rows": [{"method": "a"}]}', "no list of rows"),
    ],
)
def test_a_broken_record_is_named(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "bad.json").write_text(text, "utf-8")
    with pytest.raises(InputError, match=rf"bad\.json .*{says}.*run its benchmark again"):
        page(tmp_path)


def test_a_folder_without_records_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no record"):
        page(tmp_path)

"""python -m benchmarks.corrupt [--files 2000] [--save]

What becomes of damage? Indexes of four kinds, with attributes, tombstones, removed items and changes that are not
published, are damaged at random: a bit flipped, an end cut off, a file taken away, added or exchanged for another. Each
is read in a process of its own by a reader (`ItemIndex.load`) and by a writer (`IndexWriter`), which must refuse with a
sentence, or answer as before. And the disk is full while an index is written (a limit on the size of files): then what
was there must be as it was.

What cannot be told from an earlier state is left out: the last change of the journal taken away whole.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.living import World
from benchmarks.record import Record, protocol
from indexing.index import ItemIndex
from indexing.writer import IndexWriter
from towers.errors import TwoTowerError

os.environ["OMP_NUM_THREADS"] = "1"  # threads do not outlive a fork

KINDS = ("Flat", "HNSW16", "IVF8,Flat", "IVF8,PQ8x4,RFlat")
ITEMS = 240
DAMAGES = ("bit", "bit", "cut", "missing", "extra", "swapped", "other version", "full disk")
REFUSED, RIGHT, WRONG, CRASHED = "refused", "as before", "wrong answer", "crash"


def make(folder: Path, kind: str) -> None:
    """An index with two versions and three changes that are not published."""
    world = World(0)
    ids = [f"i{n}" for n in range(ITEMS)]
    ItemIndex.from_arrays(ids, world.draw(ITEMS), {"number": range(ITEMS)}, kind=kind).save(folder)
    with IndexWriter(folder) as writer:
        writer.upsert(ids[:20], world.draw(20), {"number": range(20)})
        writer.remove(ids[20:30])
        writer.publish()
        for start in (30, 40, 50):
            writer.upsert(ids[start : start + 5], world.draw(5), {"number": range(5)})


def answer(index: ItemIndex) -> list[Any]:
    """All that an index says when it is asked."""
    hits = index.search(World(9).draw(20), 7)
    numbers = [] if index.attributes is None else index.attributes["number"].to_pylist()
    return [
        index.ids.to_list(),
        numbers,
        index.vectors.tobytes(),
        index.removed.ids.to_list(),
        index.removed.vectors.tobytes(),
        [index.ids.take(rows) for rows in hits.rows],
        hits.scores.tobytes(),
        index.parameters,
        index.space,
    ]


def read(folder: Path) -> list[Any]:
    """What a reader is told."""
    return answer(ItemIndex.load(folder))


def open_to_write(folder: Path) -> list[Any]:
    """What a writer finds."""
    with IndexWriter(folder) as writer:
        return answer(writer.index)


def outcome(work: Any, folder: Path, expected: list[Any]) -> str:
    """What comes of it in a process of its own."""
    child = os.fork()
    if child == 0:
        code = 4
        try:
            code = 0 if work(folder) == expected else 3
        except TwoTowerError as error:
            code = 2 if str(error) else 4
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        finally:
            os._exit(code)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return {0: RIGHT, 2: REFUSED, 3: WRONG}.get(status, CRASHED)


def damage(folder: Path, how: str, rng: np.random.Generator) -> Path:
    """Damage one file at random; which."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "LOCK")
    current = folder / "versions" / (folder / "CURRENT").read_text().split()[0]
    journal = sorted((folder / "journal" / current.name).iterdir())
    live = [folder / "CURRENT", *(path for path in files if path.parent == current), *journal]
    path = live[rng.integers(len(live))]
    if how == "bit":
        content = bytearray(path.read_bytes())
        content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        path.write_bytes(content)
    elif how == "cut":
        path.write_bytes(path.read_bytes()[: rng.integers(path.stat().st_size)])
    elif how == "missing":
        path = live[rng.integers(len(live) - 1)]
        path.unlink()
    elif how == "extra":
        path = current / f"{rng.integers(10**6)}.npy"
        path.write_bytes(rng.bytes(100))
    elif how == "swapped":
        path, other = (live[place] for place in rng.choice(len(live), 2, replace=False))
        first, second = path.read_bytes(), other.read_bytes()
        path.write_bytes(second)
        other.write_bytes(first)
    else:
        names = {p.name for p in (folder / "versions" / "000001").iterdir()} & {p.name for p in current.iterdir()}
        name = sorted(names)[rng.integers(len(names))]
        path = current / name
        shutil.copyfile(folder / "versions" / "000001" / name, path)
    return path


def on_a_full_disk(folder: Path, rng: np.random.Generator) -> tuple[str, str]:
    """Change and publish with a limit on the size of files; then, without one, read and write again."""
    before, changed = read(folder), open_to_write(folder)
    limit, ids = int(rng.integers(1, 60_000)), [f"i{n}" for n in range(100, 120)]
    vectors = World(5).draw(len(ids))

    def work(place: Path) -> list[Any]:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        with IndexWriter(place) as writer:
            if limit % 2:
                writer.upsert(ids, vectors, {"number": range(len(ids))})
            else:
                writer.publish()
        return []

    done = outcome(work, folder, [])
    if done == RIGHT:  # there was room enough
        return RIGHT, REFUSED
    return done, RIGHT if outcome(read, folder, before) == outcome(open_to_write, folder, changed) == RIGHT else WRONG


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000, help="how many artefacts are damaged")
    parser.add_argument("--save", action="store_true", help="keep the record in benchmarks/results")
    options = parser.parse_args()
    record, rng, screen = Record("corrupt"), np.random.default_rng(0), Console(stderr=True)
    found: dict[str, Counter[str]] = {how: Counter() for how in DAMAGES}
    with tempfile.TemporaryDirectory() as scratch:
        whole = {kind: Path(scratch) / f"whole{n}" for n, kind in enumerate(KINDS)}
        for kind, folder in whole.items():
            make(folder, kind)
        expected = {kind: (read(folder), open_to_write(folder)) for kind, folder in whole.items()}
        broken = Path(scratch) / "broken"
        for number in range(options.files):
            how, kind = DAMAGES[number % len(DAMAGES)], KINDS[number // len(DAMAGES) % len(KINDS)]
            shutil.copytree(whole[kind], broken)
            if how == "full disk":
                both: tuple[str, str] = on_a_full_disk(broken, rng)
            else:
                path = damage(broken, how, rng)
                both = outcome(read, broken, expected[kind][0]), outcome(open_to_write, broken, expected[kind][1])
                # A reader has no use for the journal; a writer does.
                if both[1] == RIGHT:
                    screen.print(f"{kind}, {how}: {path.relative_to(broken)} is damaged, and a writer did not notice")
                if WRONG in both or CRASHED in both:
                    screen.print(f"{kind}, {how}: {path.relative_to(broken)}: {both}")
            worst = next(one for one in (CRASHED, WRONG, REFUSED, RIGHT) if one in both)
            found[how][worst] += 1
            shutil.rmtree(broken)
    table = Table("damage", REFUSED, RIGHT, WRONG, CRASHED)
    for how, counts in found.items():
        table.add_row(how, *(str(counts[one]) for one in (REFUSED, RIGHT, WRONG, CRASHED)))
        metrics = {"files": sum(counts.values()), "crashes": counts[CRASHED], "wrong_answers": counts[WRONG]}
        metrics |= {"refused": counts[REFUSED], "as_before": counts[RIGHT]}
        record.rows.append({"method": "ItemIndex", "split": how, "seed": 0, "metrics": metrics})
    screen.print(table)
    total = {name: sum(row["metrics"][name] for row in record.rows) for name in record.rows[0]["metrics"]}
    record.rows.insert(0, {"method": "ItemIndex", "split": "all", "seed": 0, "metrics": total})
    record.notes = {"protocol": protocol(__doc__), "kinds": KINDS}
    record.finish(save=options.save)


if __name__ == "__main__":
    main()

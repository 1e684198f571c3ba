"""`make_shop` writes the generated shop into a folder, `read_shop` reads it back.

::

    items.parquet          item_id, title, artist, text, image, audio (paths inside the folder), price, year
    interactions.parquet   user_id, item_id, timestamp, split: choices of the listeners who are trained on
    listeners_new.parquet  the same columns for the listeners who are not
    new_tracks.parquet     user_id, item_id: what each listener chooses of the new tracks
    covers/, sounds/       JPEG and FLAC files, named after the item
    oracle.npz             the truth: classes, tastes, popularity, and the ids that rows and columns stand for
    manifest.json          seed, settings and checksums
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.progress import track

from towers.artefact import artefact_writer, read_manifest
from towers.catalog import ITEM_ID, Catalog
from towers.ids import IdList
from towers.interactions import USER_ID, Interactions
from twotower.studio.cover import draw_cover, write_cover
from twotower.studio.listening import Choices, draw_choices, split_words
from twotower.studio.oracle import Oracle, draw_oracle
from twotower.studio.settings import GENERATED, PARTS, StudioSettings
from twotower.studio.sound import draw_sound, write_sound
from twotower.studio.words import draw_artists, draw_attributes, draw_text, draw_titles

KIND = "twotower/studio"
ITEMS, LOG, NEW_LISTENERS = "items.parquet", "interactions.parquet", "listeners_new.parquet"
NEW_TRACKS, ORACLE = "new_tracks.parquet", "oracle.npz"
STREAMS = ("oracle", "choices", "ids", "titles", "artists", "attributes", *PARTS)
"""What has random numbers of its own, so that a change to one leaves the others as they are."""
LETTERS = np.array(list("abcdefghjkmnpqrstuvwxyz23456789"))


@dataclass(frozen=True)
class Shop:
    """The generated shop as it lies in a folder.

    Args:
        folder: what the paths in the catalog start from.
        settings, seed: what it was made with.
        catalog: N tracks, new ones among them.
        log: the choices of the listeners who are trained on, `split` saying ``train``, ``validation`` (the last but
            one of each listener) or ``test`` (the last). No new track is in it.
        new_listeners: the choices of the others, `split` saying ``history`` or ``test`` (the last fifth).
        new_tracks: ``user_id, item_id``; what each of all listeners chooses of the new tracks, first choice first.
        cold: bool ``(N,)`` tracks that are new.
        users: ids of all U listeners, the rows of the oracle; its columns are the rows of the catalog.
        oracle: what they truly want. For judging only.
    """

    folder: Path
    settings: StudioSettings
    seed: int
    catalog: Catalog
    log: Interactions
    new_listeners: Interactions
    new_tracks: pa.Table
    cold: np.ndarray
    users: IdList
    oracle: Oracle

    @property
    def images(self) -> list[Path]:
        """N paths of covers."""
        return [self.folder / name for name in self.catalog.table["image"].to_pylist()]

    @property
    def sounds(self) -> list[Path]:
        """N paths of sounds."""
        return [self.folder / name for name in self.catalog.table["audio"].to_pylist()]


def make_shop(folder: str | Path, seed: int = 0, settings: StudioSettings | None = None, progress: bool = True) -> Shop:
    """Draw a shop and write it; the same seed and settings give the same bytes, but for the date in the manifest.

    Args:
        folder: appears whole or not at all; an earlier shop there is replaced.
        seed: 0 or more.
        settings: sizes and strengths, `StudioSettings()` if None.
        progress: show a bar on standard error.

    Raises:
        ArtefactError: `folder` is something else, or cannot be written.
    """
    folder, settings = Path(folder), settings or StudioSettings()
    oracle = draw_oracle(_rng(seed, "oracle"), settings)
    choices = draw_choices(_rng(seed, "choices"), oracle, settings)
    ids = _rng(seed, "ids")
    items, users = _ids(ids, "t", settings.tracks), _ids(ids, "u", settings.listeners)
    about = {"generated": GENERATED, "seed": seed, "settings": asdict(settings)}
    with artefact_writer(folder, KIND, about) as inside:
        _write(inside / ITEMS, _tracks(inside, items, oracle, seed, settings, progress))
        events, unseen = _events(items, users, choices), choices.unseen[choices.people]
        _write(inside / LOG, events.filter(pa.array(~unseen)))
        _write(inside / NEW_LISTENERS, events.filter(pa.array(unseen)))
        of_new = {USER_ID: np.repeat(users, settings.new_choices), ITEM_ID: items[choices.of_new.ravel()]}
        _write(inside / NEW_TRACKS, pa.table(of_new))
        np.savez(inside / ORACLE, users=users, cold=choices.cold, **vars(oracle))
    return read_shop(folder)


def read_shop(folder: str | Path) -> Shop:
    """The shop that `make_shop` wrote, every file checked.

    Raises:
        ArtefactError: no shop, or one that is not as it was written.
    """
    folder = Path(folder)
    manifest = read_manifest(folder, KIND)
    settings = {**manifest["settings"], "choices": tuple(manifest["settings"]["choices"])}
    with np.load(folder / ORACLE) as truth:
        users, cold = IdList(truth["users"].tolist()), truth["cold"]
        oracle = Oracle(truth["classes"], truth["tastes"], truth["popularity"])
    return Shop(
        folder=folder,
        settings=StudioSettings(**settings),
        seed=manifest["seed"],
        catalog=Catalog.read(folder / ITEMS),
        log=Interactions.read(folder / LOG),
        new_listeners=Interactions.read(folder / NEW_LISTENERS),
        new_tracks=pq.read_table(folder / NEW_TRACKS),
        cold=cold,
        users=users,
        oracle=oracle,
    )


def _rng(seed: int, stream: str, row: int | None = None) -> np.random.Generator:
    key = (STREAMS.index(stream),) if row is None else (STREAMS.index(stream), row)
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


def _ids(rng: np.random.Generator, letter: str, count: int) -> np.ndarray:
    """str ``(count,)`` random and distinct, eight letters and digits after the first."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[letter + "".join(rng.choice(LETTERS, 8))] = None
    return np.array(list(found))


def _tracks(
    folder: Path, items: np.ndarray, oracle: Oracle, seed: int, settings: StudioSettings, progress: bool
) -> pa.Table:
    """Write covers and sounds, and return the catalog."""
    texts, images, sounds = [], [], []
    (folder / "covers").mkdir()
    (folder / "sounds").mkdir()
    rows = enumerate(zip(items, oracle.classes.T.tolist(), strict=True))
    bar = track(
        rows, "drawing tracks", total=len(items), console=Console(stderr=True), disable=not progress, transient=True
    )
    for row, (item, (theme, motif, way)) in bar:
        texts.append(draw_text(_rng(seed, "text", row), theme))
        images.append(f"covers/{item}.jpg")
        write_cover(folder / images[-1], draw_cover(_rng(seed, "image", row), motif, settings.side))
        sounds.append(f"sounds/{item}.flac")
        write_sound(folder / sounds[-1], draw_sound(_rng(seed, "audio", row), way, settings.seconds))
    price, year = draw_attributes(_rng(seed, "attributes"), len(items))
    return pa.table(
        {
            ITEM_ID: items,
            "title": draw_titles(_rng(seed, "titles"), len(items)),
            "artist": draw_artists(_rng(seed, "artists"), len(items)),
            "text": texts,
            "image": images,
            "audio": sounds,
            "price": price,
            "year": year,
        }
    )


def _events(items: np.ndarray, users: np.ndarray, choices: Choices) -> pa.Table:
    return pa.table(
        {
            USER_ID: users[choices.people],
            ITEM_ID: items[choices.items],
            "timestamp": choices.times,
            "split": split_words(choices),
        }
    )


def _write(path: Path, table: pa.Table) -> None:
    """A Parquet file that says what it is."""
    pq.write_table(table.replace_schema_metadata({"about": GENERATED}), path)

"""The generated shop as it lies on disk: same seed, same bytes; who is asked about what; nothing but content tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.compute as pc
import pytest

from towers.artefact import read_manifest, sha256_file
from towers.errors import ArtefactError, InputError
from training.measuring.protocols import given, split_words
from twotower.studio.settings import GENERATED, StudioSettings
from twotower.studio.shop import KIND, Shop, make_shop, read_shop

SMALL = StudioSettings(tracks=60, listeners=50, seconds=1.0, side=32)


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Shop:
    return make_shop(tmp_path_factory.mktemp("shop") / "small", seed=3, settings=SMALL, progress=False)


def files(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): sha256_file(path)
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(shop: Shop, tmp_path: Path) -> None:
    again = make_shop(tmp_path / "again", seed=3, settings=SMALL, progress=False)
    other = make_shop(tmp_path / "other", seed=4, settings=SMALL, progress=False)
    assert files(again.folder) == files(shop.folder)
    assert len(files(shop.folder)) == 5 + 2 * 60
    assert not set(files(other.folder).values()) & set(files(shop.folder).values())


def test_reading_gives_back_what_was_drawn(shop: Shop) -> None:
    back = read_shop(shop.folder)
    assert (back.seed, back.settings) == (3, SMALL)
    assert back.catalog.table.column_names == ["item_id", "title", "artist", "text", "image", "audio", "price", "year"]
    assert back.log.ignored == back.new_listeners.ignored == ()
    assert (len(back.catalog), len(back.users), int(back.cold.sum())) == (60, 50, 6)
    assert back.oracle.utilities().shape == (50, 60)
    whole = sum(back.oracle.part(name) for name in ("text", "image", "audio")) + back.oracle.popularity
    np.testing.assert_allclose(back.oracle.utilities(), whole, rtol=1e-5, atol=1e-5)
    assert all(path.is_file() for path in back.images + back.sounds)


def test_it_says_that_it_is_generated(shop: Shop) -> None:
    import soundfile
    from PIL import Image

    assert read_manifest(shop.folder, KIND)["generated"] == GENERATED
    with soundfile.SoundFile(shop.sounds[0]) as sound, Image.open(shop.images[0]) as picture:
        assert (sound.comment, picture.info["comment"]) == (GENERATED, GENERATED.encode())
        assert (sound.samplerate, sound.channels, sound.frames, picture.size) == (16_000, 1, 16_000, (32, 32))


def test_new_tracks_and_new_listeners_are_kept_out_of_training(shop: Shop) -> None:
    cold = {shop.catalog.ids[row] for row in np.flatnonzero(shop.cold)}
    met = {*shop.log.table["item_id"].to_pylist(), *shop.new_listeners.table["item_id"].to_pylist()}
    known, unseen = (set(one.table["user_id"].to_pylist()) for one in (shop.log, shop.new_listeners))
    assert met == set(shop.catalog.ids.to_list()) - cold
    assert set(shop.new_tracks["item_id"].to_pylist()) <= cold
    assert (len(known), len(unseen), known & unseen) == (45, 5, set())
    assert pc.value_counts(shop.new_tracks["user_id"]).field("counts").to_pylist() == [2] * 50


def test_the_split_follows_time(shop: Shop) -> None:
    for user in shop.users.to_list():
        of_log = shop.log.table.filter(pc.equal(shop.log.table["user_id"], user))
        events = of_log if len(of_log) else shop.new_listeners.table.filter(pc.field("user_id") == user)
        assert 20 <= len(events) <= 40
        assert (np.diff(events["timestamp"].to_numpy()) > 0).all()
        assert len(set(events["item_id"].to_pylist())) == len(events)
        tested = len(events) // 5
        new = ["history"] * (len(events) - tested) + ["test"] * tested
        expected = ["train"] * (len(events) - 2) + ["validation", "test"] if len(of_log) else new
        assert events["split"].to_pylist() == expected


def test_the_log_is_a_split_that_evaluation_reads(shop: Shop) -> None:
    _, histories = shop.log.histories(shop.catalog)
    split = given(histories, split_words(shop.log, shop.catalog))
    assert len(split.test) == len(split.validation) == 45
    assert split.test.histories.lengths.tolist() == (histories.lengths - 1).tolist()
    assert split.train.lengths.tolist() == (histories.lengths - 2).tolist()
    assert split.test.targets.items.tolist() == histories.items[histories.offsets[1:] - 1].tolist()


def test_another_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "note.txt").write_text("mine")
    with pytest.raises(ArtefactError, match="is left alone"):
        make_shop(tmp_path, settings=SMALL, progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["note.txt"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"new_tracks": 1.0}, "new_tracks is a share"),
        ({"strength": -1.0}, "strength must be 0 or more"),
        ({"choices": (4, 9)}, "at least 5"),
        ({"tracks": 40}, "too few for 40 choices"),
        ({"listeners": 2}, "too few for a share"),
        ({"seconds": 0.5}, "sounds last 1 s or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        StudioSettings(**settings)  # type: ignore[arg-type]

"""Each row of the ablation differs from the whole in the part that it is named after."""

from __future__ import annotations

from benchmarks.ablation import PARTS, SAMPLED, SAMPLES, recipe_of


def test_every_row_is_a_recipe_of_its_own() -> None:
    for names in (PARTS, SAMPLES):
        assert len({recipe_of(name).model_dump_json() for name in names}) == len(names)


def test_a_row_of_negatives_changes_one_setting_of_the_sampled_softmax() -> None:
    whole = recipe_of(SAMPLED).train.model_dump()
    for name in set(SAMPLES) - {SAMPLED, "full softmax"}:
        train = recipe_of(name).train.model_dump()
        changed = {key: train[key] for key in whole if train[key] != whole[key]}
        assert len(changed) == 1
        assert changed.items() <= SAMPLES[name].items()

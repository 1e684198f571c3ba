"""Search: which settings of a recipe validate best. Trainings by Optuna, the poor ones ended early, resumable."""

from __future__ import annotations

import sqlite3
import tomllib
from collections.abc import Callable, Mapping
from contextlib import closing
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from indexing.lock import Lock
from towers.artefact import atomic_file, write_json
from towers.catalog import Catalog
from towers.errors import ArtefactError, InputError, MissingExtraError, TwoTowerError
from towers.history import Histories
from towers.interactions import Interactions
from training.checkpoint import digest
from training.config import Recipe
from training.loop import METRIC
from training.measuring.comparison import split_log
from training.measuring.protocols import last_event
from training.measuring.splits import Questions
from training.ranks import Ranks
from training.report import Report
from training.trainer import fit, with_range

if TYPE_CHECKING:
    import optuna

STUDY = "study.db"
FIRST = 8  # trials drawn at random before the sampler learns from them, and before any is ended early


class Range(BaseModel):
    """Numbers between two, both among them; with `log`, every order of magnitude is as likely as any other."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    low: int | float
    high: int | float
    log: bool = False

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if not self.low < self.high or (self.log and self.low <= 0):
            raise ValueError("low must be below high, and above 0 where log is set")
        return self


Choices = Annotated[list[bool | int | float | str], Field(min_length=2)]
Space = Mapping[str, Range | list[Any]]
SPACE: Space = {
    "train.rate": Range(low=3e-4, high=1e-2, log=True),
    "train.weight_decay": Range(low=1e-3, high=0.3, log=True),
    "item.dimension": [32, 64, 128],
    "item.dropout": Range(low=0.0, high=0.5),
    "item.id_dropout": Range(low=0.0, high=0.5),
    "item.id_speed": Range(low=1.0, high=40.0, log=True),
    "user.sequence.dropout": Range(low=0.0, high=0.5),
}
"""What is searched by default."""


def space_of(recipe: Recipe) -> Space:
    """What is searched by default; of the sequence reader nothing where it is off or reads sets."""
    sequence = recipe.user.sequence
    if sequence is not None and sequence.ordered:
        return SPACE
    return {name: choice for name, choice in SPACE.items() if not name.startswith("user.sequence.")}


@dataclass(frozen=True)
class Trial:
    """One training.

    Args:
        number: counted from 0.
        settings: values of the space.
        value: NDCG@20 on validation data; of one that was ended early, the last; None where training failed.
        state: ``"complete"``, ``"pruned"`` (ended early) or ``"fail"``.
        seconds: how long it took.
        error: why it failed.
    """

    number: int
    settings: dict[str, Any]
    value: float | None
    state: Literal["complete", "pruned", "fail"]
    seconds: float
    error: str | None = None


@dataclass(frozen=True)
class Found:
    """What a search found.

    Args:
        recipe: nested values of the best recipe.
        trials: all of them.
        importance: of each setting, what share of the differences between trials is its (PED-ANOVA); empty where there
            are too few trials to tell.
        space: what was searched.
    """

    recipe: dict[str, Any]
    trials: list[Trial]
    importance: dict[str, float]
    space: Space

    @property
    def best(self) -> Trial:
        """The trial that validated best."""
        return _best(self.trials)


def read_space(path: Path) -> Space:
    """A space from a TOML file, such as ``"train.rate" = {low = 1e-4, high = 1e-2, log = true}`` and
    ``"item.dimension" = [32, 64]``.

    Raises:
        InputError: it cannot be read, or names something that is neither a range nor a list of at least two values.
    """
    try:
        values = tomllib.loads(path.read_text("utf-8"))
        return TypeAdapter(dict[str, Range | Choices]).validate_python(values)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InputError(f"the space {path} cannot be read: {error}") from error
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"the space {path}: {first['loc'][0]} must be a range {{low, high, log}} or a list of at least two values: "
            f"{first['msg']}"
        ) from error


def search(
    catalog: Catalog,
    log: Interactions,
    *,
    out: str | Path,
    recipe: dict[str, Any] | None = None,
    space: Space | None = None,
    trials: int = 30,
    protocol: str | None = None,
    weights: str | Path | None = None,
    tell: Callable[[Trial], None] = lambda _: None,
) -> Found:
    """Train with many settings and keep those that validate best. No test question is looked at.

    A search that was stopped goes on when it is started again with the same data, recipe, space and `out`; the training
    that was cut off is done again.

    Args:
        catalog, log, protocol, weights: as in `training.trainer.train`.
        out: folder for the study, the best recipe (``recipe.toml``) and all trials (``trials.json``).
        recipe: nested values that all trials share; default: the recipe that ships.
        space: what is searched: dotted names of settings, each with a range or a list of values; default: `space_of`
            the recipe.
        trials: how many trainings in all, those of an earlier start among them.
        tell: is told of each trial when it is done.

    Raises:
        InputError: a setting or a value that recipes do not have, fewer than one trial, several processes, a study of
            other data, or no trial that ended well.
        ArtefactError: another process searches in `out`, it cannot be written, or its study cannot be read.
        MissingExtraError: Optuna is not installed.
    """
    library, out = _optuna(), Path(out)
    shared = deepcopy(recipe or {})
    space = space_of(Recipe.read(shared)) if space is None else space
    _check(shared, space, trials)
    known = log.known(catalog)
    base = with_range(Recipe.read(shared), log.rating_range)
    past, validation = _data(catalog, known, base, protocol)

    def objective(trial: optuna.Trial) -> float:
        settings = {name: _suggest(trial, name, choice) for name, choice in space.items()}
        watch = _Watch(trial, library.TrialPruned)
        try:
            settled = with_range(Recipe.read(_with(shared, settings)), log.rating_range)
            _, report = fit(catalog, past, validation, settled, weights=_path(weights), progress=False, watch=watch)
        except TwoTowerError as error:
            trial.set_user_attr("error", str(error))
            raise
        return best_value(report)

    with Lock(out):
        study = _study(library, out, base, space, _facts(catalog, past, validation, shared, space))
        left = trials - len(_ended(study))
        if left > 0:
            study.optimize(
                objective, n_trials=left, catch=(TwoTowerError,), callbacks=[lambda _, trial: tell(_trial(trial))]
            )
        return _found(library, study, shared, space, out)


def best_value(report: Report) -> float:
    """What the kept weights reached on validation data."""
    return next(entry[METRIC] for entry in report.epochs if entry["epoch"] == report.best_epoch)


class _Watch:
    """Tells the study how a training goes on, and ends it where others went better."""

    def __init__(self, trial: optuna.Trial, pruned: type[Exception]) -> None:
        self._trial, self._pruned = trial, pruned

    def __call__(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self._trial.report(metrics[METRIC], epoch)
        if self._trial.should_prune():
            raise self._pruned


def _optuna() -> Any:
    try:
        import optuna
        import tomli_w  # noqa: F401  # writes the recipe at the end
    except ImportError as error:
        raise MissingExtraError(f"a search needs {error.name}: pip install 'twotower[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # of a training that fails it would show where, and we say why
    return optuna


def _check(shared: dict[str, Any], space: Space, trials: int) -> None:
    """Refuse before the first training what a later one could not be given."""
    if (count := Ranks.current().count) > 1:
        raise InputError(f"a search trains in one process, and {count} were started: start it without a launcher")
    if trials < 1:
        raise InputError(f"a search needs at least 1 trial, got {trials}")
    if not space:
        raise InputError("the space is empty, so that there is nothing to search")
    for name, choice in space.items():
        for value in (choice.low, choice.high) if isinstance(choice, Range) else choice:
            Recipe.read(_with(shared, {name: value}))


def _data(catalog: Catalog, known: Interactions, recipe: Recipe, protocol: str | None) -> tuple[Histories, Questions]:
    """Training events and validation questions."""
    if protocol is not None:
        _, split = split_log(protocol, known, catalog, recipe.data)
        return split.train, split.validation
    _, positives = known.histories(catalog, positive=recipe.data)
    return last_event(positives)


def _facts(
    catalog: Catalog, past: Histories, validation: Questions, shared: dict[str, Any], space: Space
) -> dict[str, Any]:
    """What two starts of one search must share."""
    return {
        "the catalog": catalog.fingerprint,
        "the events": digest(past, validation.histories, validation.targets),
        "the recipe": shared,
        "the space": {name: dict(one) if isinstance(one, Range) else one for name, one in space.items()},
    }


def _study(optuna: Any, out: Path, base: Recipe, space: Space, facts: dict[str, Any]) -> Any:
    """The study in `out`, begun or gone on with; a trial that was cut off is queued again."""
    study = _opened(optuna, out / STUDY)
    before = study.user_attrs.get("facts")
    if before is not None and before != facts:
        name = next(name for name in facts if before.get(name) != facts[name])
        raise InputError(f"{out} holds a search with other data or settings: {name} changed; name another folder")
    study.set_user_attr("facts", facts)
    _queue_again(optuna, study, space)
    # A start that goes on must not draw again what the first one drew.
    seed = (base.train.seed + len(study.get_trials(deepcopy=False))) % 2**32
    study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=FIRST)
    study.pruner = optuna.pruners.MedianPruner(n_startup_trials=FIRST)
    return study


def _opened(optuna: Any, path: Path) -> Any:
    """The study in a file, begun where there is none."""
    from sqlalchemy.exc import SQLAlchemyError

    storage = f"sqlite:///{path}"
    try:
        with closing(sqlite3.connect(path)) as file:  # all of it: Optuna would meet some damage hours later
            if file.execute("PRAGMA quick_check(1)").fetchone() != ("ok",):
                raise sqlite3.DatabaseError("it is damaged")
        return optuna.create_study(storage=storage, study_name="recipe", direction="maximize", load_if_exists=True)
    except (sqlite3.Error, SQLAlchemyError, optuna.exceptions.OptunaError, RuntimeError) as error:
        raise ArtefactError(
            f"{path} cannot be read as a search: move it away to begin a new one ({_first_cause(error)})"
        ) from error


def _first_cause(error: BaseException) -> str:
    """The first line of what was behind it all; Optuna and SQLAlchemy wrap it in statements and addresses."""
    while error.__cause__ is not None:
        error = error.__cause__
    return str(error).partition("\n")[0]


def _queue_again(optuna: Any, study: Any, space: Space) -> None:
    """Queue the trials that an earlier start was killed in, once; the lock says that none of them runs elsewhere."""
    again = study.user_attrs.get("queued again", [])
    for trial in study.get_trials(deepcopy=False):
        if trial.state == optuna.trial.TrialState.RUNNING:
            study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    cut_off = [trial for trial in study.get_trials(deepcopy=False) if _was_cut_off(trial)]
    for trial in cut_off:
        if trial.number not in again and set(trial.params) == set(space):
            study.enqueue_trial(trial.params)
    study.set_user_attr("queued again", [trial.number for trial in cut_off])


def _was_cut_off(trial: Any) -> bool:
    """Whether a trial ended without a result or a reason, as by a kill."""
    return trial.state.name == "FAIL" and "error" not in trial.user_attrs


def _ended(study: Any) -> list[Any]:
    """Trials with a result or a reason."""
    every = study.get_trials(deepcopy=False)
    return [trial for trial in every if trial.state.is_finished() and not _was_cut_off(trial)]


def _suggest(trial: optuna.Trial, name: str, choice: Range | list[Any]) -> Any:
    if not isinstance(choice, Range):
        return trial.suggest_categorical(name, choice)
    if isinstance(choice.low, int) and isinstance(choice.high, int):
        return trial.suggest_int(name, choice.low, choice.high, log=choice.log)
    return trial.suggest_float(name, choice.low, choice.high, log=choice.log)


def _with(shared: dict[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values with dotted settings put in."""
    values = deepcopy(shared)
    for name, value in settings.items():
        *path, last = name.split(".")
        inner = values
        for part in path:
            if not isinstance(inner.get(part), dict):
                inner[part] = {}
            inner = inner[part]
        inner[last] = value
    return values


def _found(optuna: Any, study: Any, shared: dict[str, Any], space: Space, out: Path) -> Found:
    """Read the study, and write what it found."""
    import tomli_w

    trials = [_trial(one) for one in _ended(study)]
    done = [trial for trial in trials if trial.state == "complete"]
    if not done:
        raise InputError(f"none of {len(trials)} trials ended well; {out / STUDY} has them all")
    found = Found(_with(shared, _best(trials).settings), trials, _importance(optuna, study, len(done)), space)
    with atomic_file(out / "recipe.toml") as temporary:
        temporary.write_text(tomli_w.dumps(found.recipe), "utf-8")
    with atomic_file(out / "trials.json") as temporary:
        write_json(temporary, {"trials": [vars(trial) for trial in trials], "importance": found.importance})
    return found


def _best(trials: list[Trial]) -> Trial:
    return max((trial for trial in trials if trial.state == "complete"), key=lambda trial: trial.value or 0.0)


def _importance(optuna: Any, study: Any, done: int) -> dict[str, float]:
    if done < FIRST:
        return {}
    evaluator = optuna.importance.PedAnovaImportanceEvaluator()
    found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: round(float(share), 4) for name, share in found.items()}


def _trial(one: Any) -> Trial:
    seconds = one.duration.total_seconds() if one.duration is not None else 0.0
    error = one.user_attrs.get("error")
    return Trial(one.number, dict(one.params), one.value, one.state.name.lower(), round(seconds, 1), error)


def _path(path: str | Path | None) -> Path | None:
    return None if path is None else Path(path)

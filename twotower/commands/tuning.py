"""`twotower tune`: settings that suit a catalog and a log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from twotower.commands.reading import CatalogFile, Json, Weights, read_catalog, read_log_of, show, tell

if TYPE_CHECKING:
    from training.search import Found, Trial

app = typer.Typer()


@app.command()
def tune(
    catalog: CatalogFile,
    interactions: Annotated[Path, typer.Option(help="Events: a table with user_id, item_id and perhaps more.")],
    out: Annotated[Path, typer.Option(help="Folder for the best recipe, all trials and a page about them.")],
    recipe: Annotated[Path | None, typer.Option(help="TOML file that all trials share.")] = None,
    space: Annotated[
        Path | None,
        typer.Option(
            help='TOML file of what is searched: "train.rate" = {low = 1e-4, high = 1e-2, log = true}, '
            '"item.dimension" = [32, 64]. Default: rate, decay, dimension and dropouts.'
        ),
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trainings in all, those of an earlier start among them.")] = 30,
    rating_range: Annotated[
        tuple[float, float] | None, typer.Option(help="Smallest and largest rating; default: those found.")
    ] = None,
    people: Annotated[Path | None, typer.Option(help="Attributes of people: a table with user_id.")] = None,
    protocol: Annotated[
        str | None, typer.Option(help="Choose on what `twotower evaluate` keeps for validation under this protocol.")
    ] = None,
    json: Json = False,
    weights: Weights = None,
) -> None:
    """Train with many settings and keep those that rank validation data best; test data are not looked at.

    Poor trainings are ended early. A search that was stopped goes on when the same command is given again.
    """
    import tomllib

    from training.config import Recipe
    from training.search import read_space, search
    from twotower.search_page import write_search_page

    settings = Recipe.read(recipe)
    items = read_catalog(catalog)
    log = read_log_of(items, interactions, people, rating_range or settings.rating.range)
    found = search(
        items,
        log,
        out=out,
        recipe=tomllib.loads(recipe.read_text("utf-8")) if recipe is not None else None,
        space=read_space(space) if space is not None else None,
        trials=trials,
        protocol=protocol,
        weights=weights,
        tell=_Teller(trials),
    )
    write_search_page(found, out / "report.html")
    show(_table(found), _values(found), json)
    tell(f"the best recipe is {out / 'recipe.toml'}, a page about the search {out / 'report.html'}")


class _Teller:
    """A line for each trial that is done."""

    def __init__(self, trials: int) -> None:
        self._trials, self._best = trials, 0.0

    def __call__(self, trial: Trial) -> None:
        if trial.state == "complete":
            self._best = max(self._best, trial.value or 0.0)
        ends = {
            "complete": f"ndcg@20 {trial.value or 0:.4f}",
            "pruned": "ended early",
            "fail": f"failed: {trial.error}",
        }
        values = ", ".join(
            f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in trial.settings.items()
        )
        tell(f"trial {trial.number + 1}: {ends[trial.state]} (best {self._best:.4f}), {trial.seconds:.0f} s: {values}")


def _table(found: Found) -> Any:
    from rich.table import Table

    title = f"best of {len(found.trials)}: ndcg@20 {found.best.value:.4f} on validation data"
    table = Table("setting", "best", "share of the differences", title=title)
    for name, value in found.best.settings.items():
        share = found.importance.get(name)
        shown = f"{value:.4g}" if isinstance(value, float) else str(value)
        table.add_row(name, shown, "–" if share is None else f"{share:.0%}")
    return table


def _values(found: Found) -> dict[str, Any]:
    return {
        "best": vars(found.best),
        "recipe": found.recipe,
        "importance": found.importance,
        "trials": [vars(trial) for trial in found.trials],
    }

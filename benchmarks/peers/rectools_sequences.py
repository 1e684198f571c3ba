"""PYTHON benchmarks/peers/rectools_sequences.py EVENTS OUT --model esasrec|sasrec [--factors N] [--length N] [...]

RecTools' SASRec or eSASRec (RecSys 2025: LiGR layers, sampled softmax) on the events of another benchmark, in an
environment that has rectools[torch] and nothing of this project. The last event of each person validates and is not
trained on; the epoch with the best Recall@10 there, over the whole catalog, is kept, as the authors of eSASRec do: by
the validation loss, RecTools' usual way, a much earlier one would be.

EVENTS: CSV with user_id, item_id, position: the histories to answer.
OUT: CSV with user_id, item_id, rank.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pytorch_lightning import LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import Callback, EarlyStopping, ModelCheckpoint
from rectools import Columns
from rectools.dataset import Dataset
from rectools.models import SASRecModel
from rectools.models.nn.transformers.ligr import LiGRLayers
from rectools.models.nn.transformers.similarity import DistanceSimilarityModule

K = 100
PART = 256  # positions
METRIC = "recall@10"


def main() -> None:
    """Train and answer."""
    options = _options()
    torch.set_num_threads(options.threads)
    seed_everything(options.seed, workers=True)
    events = pd.read_csv(options.events, dtype={"user_id": str, "item_id": str}).rename(
        columns={"user_id": Columns.User, "item_id": Columns.Item}
    )
    # RecTools orders by time; a position serves as days.
    events[Columns.Datetime] = pd.Timestamp("2000-01-01") + pd.to_timedelta(events["position"], unit="D")
    events[Columns.Weight] = 1.0
    dataset = Dataset.construct(events[[Columns.User, Columns.Item, Columns.Weight, Columns.Datetime]])
    kept = Path(tempfile.mkdtemp())
    model = _model(options, kept)
    model.fit(dataset)
    if best := next(iter(kept.glob("*.ckpt")), None):
        model.load_weights_from_checkpoint(best)
    people = events[Columns.User].unique()
    found = model.recommend(people, dataset, k=K, filter_viewed=True, on_unsupported_targets="ignore")
    table = found.rename(columns={Columns.User: "user_id", Columns.Item: "item_id", Columns.Rank: "rank"})
    half = options.out.with_suffix(".part")
    table[["user_id", "item_id", "rank"]].to_csv(half, index=False)
    half.replace(options.out)
    shutil.rmtree(kept)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("events", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--model", choices=["esasrec", "sasrec"], required=True)
    parser.add_argument("--factors", type=int, default=256)
    parser.add_argument("--blocks", type=int, default=1)
    parser.add_argument("--heads", type=int, default=1)
    parser.add_argument("--dropout", type=float, default=0.2)
    parser.add_argument("--length", type=int, default=50)
    parser.add_argument("--epochs", type=int, default=200, help="at the most")
    parser.add_argument("--patience", type=int, default=10, help="epochs without a better one before it ends")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def _model(options: argparse.Namespace, kept: Path) -> SASRecModel:
    def trainer() -> Trainer:
        stop = EarlyStopping(monitor=METRIC, mode="max", patience=options.patience, verbose=True)
        best = ModelCheckpoint(kept, monitor=METRIC, mode="max", save_top_k=1)
        return Trainer(
            max_epochs=options.epochs, callbacks=[Recall(), stop, best], accelerator="cpu", logger=False,
            deterministic=True, enable_progress_bar=False, enable_model_summary=False, num_sanity_val_steps=0,
        )  # fmt: skip

    # LiGR layers see the places that hold no event, unless told not to, as their authors do.
    ligr = {"transformer_layers_type": LiGRLayers, "use_key_padding_mask": True}
    more = ligr if options.model == "esasrec" else {}
    return SASRecModel(
        n_blocks=options.blocks, n_heads=options.heads, n_factors=options.factors, dropout_rate=options.dropout,
        session_max_len=options.length, loss="sampled_softmax", n_negatives=256, lr=1e-3, batch_size=128,
        get_trainer_func=trainer, get_val_mask_func=last_events, similarity_module_type=OfRealPositions, **more,
    )  # fmt: skip


class OfRealPositions(DistanceSimilarityModule):
    """The same logits, of positions that hold an event: most do not, and the loss leaves those out that do not."""

    def _get_pos_neg_logits(
        self, session_embs: torch.Tensor, item_embs: torch.Tensor, candidate_item_ids: torch.Tensor
    ) -> torch.Tensor:
        session_embs = session_embs[:, -candidate_item_ids.shape[1] :]  # validation asks for the last position alone
        real = candidate_item_ids[..., 0] != 0  # the target comes first
        logits = session_embs.new_zeros(candidate_item_ids.shape)
        # All items' scores, since copying an item for each candidate takes longer; a few positions at a time, so that
        # their scores stay in the processor's cache.
        parts = zip(session_embs[real].split(PART), candidate_item_ids[real].split(PART), strict=True)
        logits[real] = torch.cat([(part @ item_embs.T).gather(1, candidates) for part, candidates in parts])
        return logits


class Recall(Callback):
    """Recall@10 of the events that validate, the past that the model reads left out of the ranking."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begin anew."""
        self._found: list[torch.Tensor] = []

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: dict[str, torch.Tensor], *_: Any
    ) -> None:
        """Rank the catalog for the people of a batch."""
        queries = pl_module.torch_model.encode_sessions(batch, pl_module.item_embs)[:, -1]
        scores = queries @ pl_module.item_embs.T
        target = scores.gather(1, batch["y"])
        scores.scatter_(1, batch["x"], -torch.inf)
        scores[:, 0] = -torch.inf  # what fills short pasts up is no item
        self._found.append((scores > target).sum(1) < 10)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Tell the mean."""
        pl_module.log(METRIC, torch.cat(self._found).float().mean())


def last_events(interactions: pd.DataFrame) -> pd.Series:
    """Which events validate: each person's last."""
    order = interactions[Columns.Datetime].groupby(interactions[Columns.User]).rank(method="first", ascending=False)
    return order <= 1


if __name__ == "__main__":
    main()

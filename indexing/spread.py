"""Who makes the shards: this process, or the workers of a Ray cluster; what is done to one is the same function."""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from towers.errors import MissingExtraError, TwoTowerError

Embed = Callable[[Any], tuple[np.ndarray, bytes]]
"""The vectors of some items, and what there is to say of them."""


def here(
    make: Callable[[], Embed], part: Callable[[Any, int], Any], items: Any, numbers: Sequence[int]
) -> Iterator[tuple[int, np.ndarray, bytes]]:
    """Number, vectors and what there is to say of each shard, one after the other.

    Args:
        make: gives the function that embeds.
        part: the items of a shard, of all `items` and its number.
        items: all of them.
        numbers: of the shards.
    """
    embed = make()
    for number in numbers:
        yield number, *embed(part(items, number))


def over_ray(
    make: Callable[[], Embed],
    part: Callable[[Any, int], Any],
    items: Any,
    numbers: Sequence[int],
    *,
    workers: int | None,
    threads: int,
) -> Iterator[tuple[int, np.ndarray, bytes]]:
    """The same by Ray Data, in the order in which they are done; a worker that dies is started again with its shard.

    ``RAY_ADDRESS`` names the cluster; without it one is started on this machine.

    Args:
        make, part, items, numbers: as in `here`; all must work on every machine of the cluster.
        workers: how many; None for as many as the cluster has room for.
        threads: CPUs that each takes.

    Raises:
        MissingExtraError: Ray is not installed.
        TwoTowerError: there is no cluster, or a worker could not do its shard.
    """
    ray = _library()
    with_cluster = "RAY_ADDRESS" in os.environ or ray.is_initialized()
    if not ray.is_initialized():
        _connect(ray, None if with_cluster or workers is None else workers * threads)
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    workers = workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // threads)
    shards = ray.data.from_items([{"shard": number} for number in numbers], override_num_blocks=len(numbers))
    done = shards.map_batches(
        _Worker,
        fn_constructor_args=(make, part, ray.put(items)),
        batch_size=1,
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(numbers))),
        num_cpus=threads,
    )
    try:
        for row in done.iter_rows():
            vectors = np.load(io.BytesIO(row["vectors"]), allow_pickle=False)
            yield int(row["shard"]), vectors, row["notes"]
    except ray.exceptions.RayError as error:
        raise TwoTowerError(f"a worker of Ray failed: {str(error).strip().splitlines()[-1]}") from error
    finally:
        if not with_cluster:
            ray.shutdown()


class _Worker:
    """A worker, which gets ready once and then does shard after shard."""

    def __init__(self, make: Callable[[], Embed], part: Callable[[Any, int], Any], items: Any) -> None:
        self._embed, self._part, self._items = make(), part, _library().get(items)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[Any]]:
        number = int(batch["shard"][0])
        buffer = io.BytesIO()
        vectors, notes = self._embed(self._part(self._items, number))
        np.save(buffer, vectors, allow_pickle=False)
        return {"shard": [number], "vectors": [buffer.getvalue()], "notes": [notes]}


def _connect(ray: Any, cpus: int | None) -> None:
    try:
        ray.init(num_cpus=cpus, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    except Exception as error:  # Ray raises no narrower one where a cluster does not start in time
        address = os.environ.get("RAY_ADDRESS")
        what = f"the Ray cluster {address} cannot be reached" if address else "no Ray cluster could be started here"
        raise TwoTowerError(f"{what}: {error}; what is done is kept, give the same command again") from error


def _library() -> Any:
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError(
            f"building on several machines needs Ray: pip install 'twotower[ray]' ({error})"
        ) from error
    return ray

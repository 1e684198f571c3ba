"""`Recent`: what was computed last, kept for a while."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

Value = TypeVar("Value")


class Recent(Generic[Value]):
    """The values asked for last, by key; many threads may ask.

    Args:
        most: values kept, at least 1; the one that was asked for longest ago goes first.
    """

    def __init__(self, most: int) -> None:
        self._most, self._lock = most, Lock()
        self._values: OrderedDict[Hashable, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def clear(self) -> None:
        """Keep none of them."""
        with self._lock:
            self._values.clear()

    def get(self, key: Hashable, make: Callable[[], Value]) -> Value:
        """The value of `key`; what `make` gives where it is not kept. Two threads may both make it."""
        found = self.find(key)
        return self.keep(key, make()) if found is None else found

    def find(self, key: Hashable) -> Value | None:
        """The value of `key`; None where it is not kept."""
        with self._lock:
            if key in self._values:
                self._values.move_to_end(key)
            return self._values.get(key)

    def keep(self, key: Hashable, value: Value) -> Value:
        """Keep a value, which is returned."""
        with self._lock:
            self._values[key] = value
            self._values.move_to_end(key)
            while len(self._values) > self._most:
                self._values.popitem(last=False)
        return value

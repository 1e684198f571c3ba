"""Settings of recipes, some laid over others."""

from __future__ import annotations

from typing import Any


def merged(values: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """`values` with the settings that `others` name."""
    both = values.keys() & others.keys()
    deeper = {name for name in both if isinstance(values[name], dict) and isinstance(others[name], dict)}
    return {**values, **others, **{name: merged(values[name], others[name]) for name in deeper}}

"""Settings of recipes, some laid over others."""

from __future__ import annotations

from typing import Any


def merged(values: dict[str, Any], others: dict[str, Any]) -> dict[str, Any]:
    """`values` with the settings that `others` name."""
    deeper = {name for name in values.keys() & others.keys() if isinstance(others[name], dict)}
    return {**values, **others, **{name: merged(values[name], others[name]) for name in deeper}}

"""Nothing is dropped for a while, and then everything is as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from towers.evaluating import evaluating


def test_parts_are_as_they_were_afterwards() -> None:
    module = nn.Sequential(nn.Dropout(0.5), nn.Sequential(nn.Dropout(0.5), nn.Linear(2, 2)))
    module[1][0].eval()
    before = [part.training for part in module.modules()]
    ones = torch.ones(100, 2)
    with evaluating(module):
        assert torch.equal(module[0](ones), ones)
        assert not any(part.training for part in module.modules())
    assert [part.training for part in module.modules()] == before
    assert before.count(False) == 1
    assert not torch.equal(module[0](ones), ones)


def test_a_failure_changes_nothing() -> None:
    module = nn.Sequential(nn.Dropout(0.5))
    with pytest.raises(ValueError, match="inside"), evaluating(module):
        raise ValueError("inside")
    assert all(part.training for part in module.modules())

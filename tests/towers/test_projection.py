"""The projection of text vectors: the centre is removed, length does not matter."""

from __future__ import annotations

import pytest
import torch

from towers.projection import TextProjection


@pytest.fixture
def projection() -> TextProjection:
    torch.manual_seed(0)
    return TextProjection(text_dimension=3, hidden=4, dimension=2, dropout=0.5).eval()


def test_centre_and_scale_are_those_of_the_texts_that_are_there(projection: TextProjection) -> None:
    texts = torch.tensor([[3.0, 4.0, 0.0], [8.0, 6.0, 0.0], [9.0, 9.0, 9.0]])  # units (.6, .8, 0) and (.8, .6, 0)
    projection.fit_centre(texts, torch.tensor([True, True, False]))
    torch.testing.assert_close(projection.centre, torch.tensor([0.7, 0.7, 0.0]))
    assert projection.scale.item() == pytest.approx(1 / 0.02**0.5)  # both lie (.1, .1) from the centre
    half = 0.5**0.5
    torch.testing.assert_close(projection(texts[:1]), projection.layers(torch.tensor([[-half, half, 0.0]])))
    torch.testing.assert_close(projection(7 * texts), projection(texts))


def test_without_any_text_nothing_is_learned(projection: TextProjection) -> None:
    projection.fit_centre(torch.randn(2, 3), torch.tensor([False, False]))
    assert projection.centre.tolist() == [0, 0, 0]
    assert projection.scale.item() == 1

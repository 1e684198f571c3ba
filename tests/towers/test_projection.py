"""The projection of content vectors: the centre is removed, length does not matter."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from towers.projection import ContentProjection


@pytest.fixture
def projection() -> ContentProjection:
    torch.manual_seed(0)
    return ContentProjection(content=3, hidden=4, dimension=2, dropout=0.5).eval()


def test_centre_and_scale_are_those_of_the_texts_that_are_there(projection: ContentProjection) -> None:
    texts = torch.tensor([[3.0, 4.0, 0.0], [8.0, 6.0, 0.0], [9.0, 9.0, 9.0]])  # units (.6, .8, 0) and (.8, .6, 0)
    projection.fit_centre(texts, torch.tensor([True, True, False]))
    torch.testing.assert_close(projection.centre, torch.tensor([0.7, 0.7, 0.0]))
    assert projection.scale.item() == pytest.approx((3 / 0.02) ** 0.5)  # both lie (.1, .1) from the centre
    root = 1.5**0.5  # of squares that add up to 3, the length of the vector
    torch.testing.assert_close(projection(texts[:1]), projection.layers(torch.tensor([[-root, root, 0.0]])))
    torch.testing.assert_close(projection(7 * texts), projection(texts))


def test_without_any_text_nothing_is_learned(projection: ContentProjection) -> None:
    projection.fit_centre(torch.randn(2, 3), torch.tensor([False, False]))
    assert projection.centre.tolist() == [0, 0, 0]
    assert projection.scale.item() == 1


def test_whitened_vectors_vary_alike_in_all_directions() -> None:
    """Shrunk by a tenth toward their mean, variances of 9 : 1 (and nothing) lie nearer to one another than before."""
    torch.manual_seed(0)
    contents = torch.randn(4000, 3) * torch.tensor([0.3, 0.1, 0.0]) + torch.tensor([0.0, 0.0, 1.0])
    projection = ContentProjection(content=3, hidden=4, dimension=2, dropout=0.0, normalise="whiten").eval()
    projection.fit_centre(contents, torch.ones(4000, dtype=torch.bool))
    units = contents / contents.norm(dim=1, keepdim=True)
    values = np.linalg.eigvalsh(np.cov(units.T.numpy(), bias=True))
    shrunk = 0.9 * values + 0.1 * values.mean()
    spread = np.linalg.eigvalsh(np.cov(projection._spread(units).T.detach().numpy(), bias=True))
    np.testing.assert_allclose(spread, np.sort(values / shrunk), rtol=1e-3)


def test_none_leaves_unit_vectors_as_they_are() -> None:
    projection = ContentProjection(content=3, hidden=4, dimension=2, dropout=0.0, normalise="none").eval()
    projection.fit_centre(torch.randn(9, 3), torch.ones(9, dtype=torch.bool))
    units = torch.tensor([[0, 0.6, 0.8]])
    torch.testing.assert_close(projection(torch.tensor([[0.0, 3.0, 4.0]])), projection.layers(3**0.5 * units))


def test_at_first_what_differs_outweighs_what_is_shared() -> None:
    """Otherwise all items begin in one direction, and training may never leave it."""
    torch.manual_seed(0)
    contents = torch.randn(500, 384) + 3 * torch.randn(384)
    projection = ContentProjection(content=384, hidden=256, dimension=64, dropout=0.0).eval()
    projection.fit_centre(contents, torch.ones(500, dtype=torch.bool))
    vectors = projection(contents).detach()
    shared, own = vectors.mean(0).norm(), (vectors - vectors.mean(0)).norm(dim=1).mean()
    assert shared < 0.2 * own
    assert 0.5 < own < 2

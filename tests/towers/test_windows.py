"""Windows, overlapping frames and means over windows, on numbers that can be counted by hand."""

from __future__ import annotations

import pytest
import torch

from towers.encoders.windows import frames, joined, mean_over_windows, windows


def stream(count: int, *sizes: int) -> list[torch.Tensor]:
    """0, 1, 2, … in blocks of the sizes given, the rest last."""
    return list(torch.arange(float(count)).split([*sizes, count - sum(sizes)]))


@pytest.mark.parametrize("sizes", [(), (1, 1, 5), (9,), (4, 4)])
def test_windows_share_a_quarter_and_the_last_ends_with_the_stream(sizes: tuple[int, ...]) -> None:
    cut = [window.tolist() for window in windows(stream(11, *sizes), 4)]
    assert cut == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9], [7, 8, 9, 10]]
    cut = [window.tolist() for window in windows(stream(10, *sizes), 4)]
    assert cut == [[0, 1, 2, 3], [3, 4, 5, 6], [6, 7, 8, 9]]
    starts = [window[0].item() for window in windows(stream(30, *sizes), 9)]
    assert starts == [0, 7, 14, 21]
    assert [window.tolist() for window in windows(stream(10, *sizes), 11)] == [list(range(10))]


def test_windows_of_rows() -> None:
    rows = torch.arange(12.0).view(6, 2)
    cut = list(windows(rows.split(1), 4))
    torch.testing.assert_close(cut[0], rows[:4])
    torch.testing.assert_close(cut[1], rows[2:])
    assert list(windows([], 4)) == []


@pytest.mark.parametrize("sizes", [(), (1, 2, 3), (2, 2, 2, 2, 2), (11,)])
def test_frames_of_blocks_are_those_of_the_whole(sizes: tuple[int, ...]) -> None:
    cut = [frame.tolist() for block in frames(stream(12, *sizes), 5, 3) for frame in block.unfold(0, 5, 3)]
    assert cut == [[0, 1, 2, 3, 4], [3, 4, 5, 6, 7], [6, 7, 8, 9, 10]]
    assert list(frames(stream(4), 5, 3)) == []


def test_joined_is_cat() -> None:
    parts = torch.randn(100, 3, 2).split([1, 0, 50, 49])
    torch.testing.assert_close(joined(iter(parts)), torch.cat(parts), atol=0, rtol=0)


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
def test_each_sound_has_the_mean_of_its_own_windows(chunk: int) -> None:
    """Windows of two lengths; a window's vector is its sum and its length."""
    sounds = [
        torch.tensor([[1.0, 2.0], [3.0, 4.0]]),
        torch.tensor([[5.0, 6.0, 7.0]]),
        torch.tensor([[0.0, 1.0], [1.0, 1.0], [2.0, 2.0]]),
    ]
    seen = []

    def forward(batch: torch.Tensor) -> torch.Tensor:
        seen.append(len(batch))
        return torch.stack([batch.sum(1), torch.full((len(batch),), float(batch.shape[1]))], dim=1)

    means = mean_over_windows(sounds, forward, dimension=2, device=torch.device("cpu"), chunk=chunk)
    torch.testing.assert_close(means, torch.tensor([[5.0, 2.0], [18.0, 3.0], [7 / 3, 2.0]]))
    assert max(seen) <= chunk
    assert sum(seen) == 6
    assert mean_over_windows([], forward, dimension=2, device=torch.device("cpu"), chunk=chunk).shape == (0, 2)

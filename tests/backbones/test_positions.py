from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from reidkit.backbones import resize_position_embedding
from reidkit.backbones.positions import stored_grid
from reidkit.errors import CheckpointError


@pytest.mark.parametrize("given", [True, False])
@pytest.mark.parametrize("stem", ["pos_embed_16x8_to_24x8", "pos_embed_square14_to_16x8"])
def test_golden(golden: Callable[[str], dict[str, Any]], stem: str, given: bool) -> None:
    arrays = golden(stem)
    rows, columns = (int(side) for side in arrays["grid"])
    ratio = int(arrays["hw_ratio"]) if given else None
    resized = resize_position_embedding(torch.from_numpy(arrays["source"]), (rows, columns), ratio)
    np.testing.assert_allclose(resized.numpy(), arrays["resized"], atol=1e-6)


def test_halving_a_grid_averages_two_by_two_and_keeps_the_class_token() -> None:
    pos = torch.randn(1, 1 + 8 * 4, 3, generator=torch.manual_seed(0))
    resized = resize_position_embedding(pos, (4, 2))
    patches = pos[0, 1:].reshape(8, 4, 3)
    assert torch.equal(resized[:, 0], pos[:, 0])
    for row in range(4):
        for column in range(2):
            mean = patches[2 * row : 2 * row + 2, 2 * column : 2 * column + 2].mean((0, 1))
            torch.testing.assert_close(resized[0, 1 + 2 * row + column], mean)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_number_format_is_kept(dtype: torch.dtype) -> None:
    assert resize_position_embedding(torch.zeros(1, 9, 4, dtype=dtype), (6, 2)).dtype == dtype


def test_equal_grids_give_the_same_tensor() -> None:
    pos = torch.randn(1, 129, 4)
    assert resize_position_embedding(pos, (16, 8)) is pos
    assert resize_position_embedding(pos, (16, 8), hw_ratio=2) is pos


def test_equal_counts_are_one_grid_unless_the_ratio_says_otherwise() -> None:
    pos = torch.randn(1, 193, 4)
    assert resize_position_embedding(pos, (16, 12)) is pos
    assert resize_position_embedding(pos, (16, 12), hw_ratio=3).shape == pos.shape
    assert not torch.equal(resize_position_embedding(pos, (16, 12), hw_ratio=3), pos)


def test_every_grid_of_the_known_ratios_is_recognised() -> None:
    for ratio in (1, 2, 3):
        for width in range(1, 200):
            assert stored_grid(ratio * width * width) == (ratio * width, width)


@pytest.mark.parametrize(
    ("pos", "ratio", "message"),
    [
        (torch.zeros(1, 11, 4), None, "10 patches .* h = 2w, w or 3w"),
        (torch.zeros(1, 129, 4), 1, "128 patches .* h = 1w"),
        (torch.zeros(1, 129, 4), 0, "128 patches .* h = 0w"),
        (torch.zeros(1, 1, 4), None, "0 patches"),
        (torch.zeros(129, 4), None, r"shape \(1, T, D\), not \(129, 4\)"),
    ],
)
def test_what_is_no_grid_is_refused(pos: Tensor, ratio: int | None, message: str) -> None:
    with pytest.raises(CheckpointError, match=message):
        resize_position_embedding(pos, (24, 8), ratio)

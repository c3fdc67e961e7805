"""Position embeddings on another grid of patches."""

from math import isqrt

import torch
from torch import Tensor
from torch.nn import functional

from reidkit.errors import CheckpointError

__all__ = ["resize_grid", "resize_position_embedding", "stored_grid"]

_RATIOS = (2, 1, 3)


def resize_position_embedding(pos: Tensor, grid: tuple[int, int], hw_ratio: int | None = None) -> Tensor:
    """Resize a position embedding bilinearly (`align_corners=False`); the class token's row stays as it is.

    Args:
        pos: Embedding (1, T, D): the class token, then the h x w patches row by row.
        grid: Rows and columns of the new grid.
        hw_ratio: h / w of the stored grid: 2 for person images (16x8), 1 for ImageNet (14x14). None deduces it; a
            stored grid of the same number of patches is then taken to be the same.

    Returns:
        Embedding (1, 1 + rows * columns, D); `pos` itself when the grids are equal.

    Raises:
        CheckpointError: T - 1 patches make no grid of that ratio.
    """
    if pos.ndim != 3 or pos.shape[0] != 1:
        raise CheckpointError(f"a position embedding has shape (1, T, D), not {tuple(pos.shape)}")
    patches = pos.shape[1] - 1
    if hw_ratio is None and patches == grid[0] * grid[1]:
        return pos
    stored = stored_grid(patches, hw_ratio)
    if stored == tuple(grid):
        return pos
    return torch.cat((pos[:, :1], resize_grid(pos[:, 1:], stored, grid)), dim=1)


def resize_grid(patches: Tensor, stored: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """Resize the part (1, rows * columns, D) of a position embedding that is of the patches, row by row."""
    maps = patches.float().reshape(1, *stored, -1).permute(0, 3, 1, 2)
    resized = functional.interpolate(maps, size=tuple(grid), mode="bilinear", align_corners=False)
    return resized.flatten(2).transpose(1, 2).to(patches.dtype)


def stored_grid(patches: int, hw_ratio: int | None = None) -> tuple[int, int]:
    """Infer rows and columns of a grid from its number of patches.

    Without a ratio the grid is h = r w for r = 2, 1 or 3: at most one of them fits any number, since the square roots
    of 2, 3 and 3/2 are irrational.

    Raises:
        CheckpointError: No such grid.
    """
    for ratio in _RATIOS if hw_ratio is None else (hw_ratio,):
        width = isqrt(patches // ratio) if ratio > 0 else 0
        if width > 0 and ratio * width * width == patches:
            return ratio * width, width
    rule = "h = 2w, w or 3w" if hw_ratio is None else f"h = {hw_ratio}w"
    raise CheckpointError(
        f"{patches} patches of a position embedding make no h x w grid with {rule}; give the right hw_ratio "
        "(height over width of the stored grid)"
    )

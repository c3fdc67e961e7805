import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter

from reidkit.synthetic.raster import Array, Canvas, View, box_blur, seen_sizes

GREY = (0.5, 0.5, 0.5)


def canvas() -> Canvas:
    return Canvas(height=60, width=40, scale=20.0, origin=(20.0, 50.0))


def point(x: float, y: float, z: float) -> Array:
    return np.array([x, y, z], dtype=np.float32)


def centers(drawn: Canvas) -> tuple[Array, Array]:
    """View-space coordinates of all pixel centres, (H, W) each."""
    rows, columns = np.mgrid[: drawn.height, : drawn.width]
    x = (columns + 0.5 - drawn.origin[0]) / drawn.scale
    y = (drawn.origin[1] - rows - 0.5) / drawn.scale
    return x.astype(np.float32), y.astype(np.float32)


def marched(inside: NDArray[np.bool_], z: Array) -> Array:
    """The slow twin of every solid: of the steps z (Z,) the nearest to the viewer that lies inside; NaN if none."""
    nearest = np.where(inside, z[:, None, None], -np.inf).max(axis=0)
    found: Array = np.where(np.isfinite(nearest), nearest, np.nan).astype(np.float32)
    return found


def test_a_cylinder_has_the_depth_of_a_marched_one() -> None:
    drawn = canvas()
    drawn.tube(np.stack([point(0.1, 2, 0.3), point(0.1, 0.5, 0.3)]), [0.4, 0.4], [0.4, 0.4], GREY, caps=(0, 0))
    x, y = centers(drawn)
    z = np.arange(-0.5, 1, 0.002, dtype=np.float32)
    inside = ((x - 0.1) ** 2 + (z[:, None, None] - 0.3) ** 2 < 0.16) & (y < 2) & (y > 0.5)
    expected = marched(inside, z)
    np.testing.assert_array_equal(drawn.mask, ~np.isnan(expected))
    np.testing.assert_allclose(drawn.depth[drawn.mask], expected[drawn.mask], atol=0.003)


def test_an_ellipsoid_has_the_depth_of_a_marched_one() -> None:
    drawn = canvas()
    axes = View(0.5, 0.3).rotation * np.array([0.3, 0.7, 0.5], dtype=np.float32)
    center = point(-0.1, 1.2, 0.2)
    drawn.ellipsoid(center, axes, lambda points: np.abs(points))
    x, y = centers(drawn)
    z = np.arange(-1, 1.5, 0.002, dtype=np.float32)
    grid = np.stack(np.broadcast_arrays(x, y, z[:, None, None]), axis=-1) - center
    expected = marched(np.linalg.norm(grid @ np.linalg.inv(axes).T, axis=-1) < 1, z)
    disagree = drawn.mask != ~np.isnan(expected)
    assert disagree.sum() <= 2
    both = drawn.mask & ~disagree
    np.testing.assert_allclose(drawn.depth[both], expected[both], atol=0.02)
    np.testing.assert_allclose(np.linalg.norm(drawn.albedo[drawn.mask], axis=1), 1, atol=1e-3)


def test_normals_are_unit_vectors_towards_the_viewer() -> None:
    drawn = canvas()
    drawn.tube(np.stack([point(-0.3, 2, 0), point(0.4, 0.6, 0.5)]), [0.2, 0.3], [0.2, 0.3], GREY)
    drawn.ellipsoid(point(0, 2, 1), np.eye(3, dtype=np.float32) * np.float32(0.3), lambda points: points)
    normals = drawn.normal[drawn.mask]
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=0.01)
    assert (normals[:, 2] >= 0).all()


@pytest.mark.parametrize("nearer_first", [True, False])
def test_the_nearer_solid_hides_the_other(nearer_first: bool) -> None:
    drawn = canvas()
    solids = [(0.5, (1.0, 0.0, 0.0)), (-0.5, (0.0, 1.0, 0.0))]
    for z, color in solids if nearer_first else solids[::-1]:
        drawn.tube(np.stack([point(0, 2, z), point(0, 0.5, z)]), [0.2], [0.2], color)
    assert drawn.albedo[30, 20].tolist() == [1, 0, 0]


def test_paint_sees_place_and_angle() -> None:
    seen: list[tuple[Array, Array]] = []

    def paint(t: Array, angle: Array) -> Array:
        seen.append((t, angle))
        return np.zeros((len(t), 3), dtype=np.float32)

    canvas().tube(np.stack([point(0, 2, 0), point(0, 0.5, 0)]), [0.5], [0.5], paint, yaw=np.pi / 2, caps=(0, 0))
    (t, angle) = seen[0]
    assert t.min() < 0.05
    assert t.max() > 0.95
    assert angle.min() == pytest.approx(-np.pi, abs=0.35)  # the left edge shows the back,
    assert angle.max() == pytest.approx(0, abs=0.35)  # the right edge the front


def test_solids_outside_leave_the_canvas_empty() -> None:
    drawn = canvas()
    drawn.tube(np.stack([point(9, 2, 0), point(9, 0, 0)]), [0.2], [0.2], GREY)
    drawn.ellipsoid(point(-9, 0, 0), np.eye(3, dtype=np.float32), lambda points: points)
    assert not drawn.mask.any()


def test_a_view_turns_the_front_to_the_right_and_keeps_lengths() -> None:
    view = View(np.pi / 2, 0.0, (1.0, 2.0, 3.0))
    np.testing.assert_allclose(view.place(point(0, 0, 1)), [2, 2, 3], atol=1e-6)
    rotation = View(0.7, 0.4).rotation
    np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-6)
    assert View(0.0, 0.3).place(point(0, 0, 1))[1] < 0  # from above, what is nearer appears lower


def test_seen_sizes_swap_from_the_side() -> None:
    across, along = seen_sizes([2.0, 3.0], [1.0, 1.0], np.pi / 2)
    np.testing.assert_allclose(across, [1, 1])
    np.testing.assert_allclose(along, [2, 3])


def test_light_from_the_right_brightens_the_right() -> None:
    drawn = canvas()
    drawn.tube(np.stack([point(0, 2, 0), point(0, 0.5, 0)]), [0.5], [0.5], GREY, caps=(0, 0))
    creases = np.zeros((drawn.height, drawn.width), dtype=np.float32)
    shaded = drawn.shade(point(0.8, 0, 0.6), 0.8, creases)
    assert shaded[30, 26].mean() > 1.5 * shaded[30, 13].mean()
    assert (shaded[~drawn.mask] == 0).all()


@pytest.mark.parametrize("size", [3, 4, 7])
def test_box_blur_is_scipys_uniform_filter(size: int) -> None:
    values = np.random.default_rng(0).standard_normal((20, 13)).astype(np.float32)
    np.testing.assert_allclose(box_blur(values, size), uniform_filter(values, size, mode="nearest"), atol=1e-5)

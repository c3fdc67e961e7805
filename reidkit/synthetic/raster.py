"""A small depth-buffered rasteriser for rounded solids: tubes and ellipsoids under parallel projection.

Lengths are metres. View space: x to the right of the image, y up, z towards the viewer. Colours are linear RGB, 0 to 1.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

__all__ = ["Array", "Canvas", "Color", "SpherePaint", "TubePaint", "View", "box_blur", "seen_sizes"]

Array = NDArray[np.float32]
Color = tuple[float, float, float]
TubePaint = Color | Callable[[Array, Array], Array]
"""One colour, or colours (n, 3) by place along a tube (0 top, 1 bottom) and angle from its front, each (n,)."""

SpherePaint = Color | Callable[[Array], Array]
"""One colour, or colours (n, 3) by points (n, 3) of the unit sphere."""

_TINY = 1e-4
_FAR = np.float32(-1e9)
_MOST_STRETCHED = 1.6


def seen_sizes(widths: Sequence[float], depths: Sequence[float], yaw: float) -> tuple[list[float], list[float]]:
    """Half sizes across and along the view of elliptic sections with half sizes in body space."""
    cos, sin = np.cos(yaw), np.sin(yaw)
    across = [float(np.hypot(w * cos, d * sin)) for w, d in zip(widths, depths, strict=True)]
    along = [float(np.hypot(w * sin, d * cos)) for w, d in zip(widths, depths, strict=True)]
    return across, along


@dataclass(frozen=True)
class View:
    """How one body stands before the camera.

    Attributes:
        yaw: Where the front points, radians: 0 to the viewer, pi / 2 to the right of the image.
        pitch: Angle at which the camera looks down, radians.
        offset: The body's ground point in view space, metres.
    """

    yaw: float
    pitch: float
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @cached_property
    def rotation(self) -> Array:
        """The (3, 3) rotation from body space (x left, y up, z front) to view space."""
        cos, sin = np.cos(self.yaw), np.sin(self.yaw)
        turn = np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
        cos, sin = np.cos(self.pitch), np.sin(self.pitch)
        nod = np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]])
        both: Array = (nod @ turn).astype(np.float32)
        return both

    def place(self, points: Array) -> Array:
        """Points (..., 3) in body space to view space."""
        return points @ self.rotation.T + np.array(self.offset, dtype=np.float32)


@dataclass
class Canvas:
    """Depth, colour and normal of the nearest surface at every pixel.

    Attributes:
        height: Rows.
        width: Columns.
        scale: Pixels per metre.
        origin: Column and row of the view-space origin.
    """

    height: int
    width: int
    scale: float
    origin: tuple[float, float]
    depth: Array = field(init=False)
    albedo: Array = field(init=False)
    normal: Array = field(init=False)
    folds: Array = field(init=False)

    def __post_init__(self) -> None:
        shape = (self.height, self.width)
        self.depth = np.full(shape, _FAR, dtype=np.float32)
        self.albedo = np.zeros((*shape, 3), dtype=np.float32)
        self.normal = np.zeros((*shape, 3), dtype=np.float32)
        self.folds = np.zeros(shape, dtype=np.float32)

    @property
    def mask(self) -> NDArray[np.bool_]:
        """Where anything was drawn, (height, width)."""
        return self.depth > _FAR

    def tube(
        self,
        ends: Array,
        half_widths: Sequence[float],
        half_depths: Sequence[float],
        paint: TubePaint,
        *,
        yaw: float = 0.0,
        caps: tuple[float, float] = (1.0, 1.0),
        boxy: bool = False,
        folds: float = 0.0,
    ) -> None:
        """Draw a tube of elliptic section.

        Args:
            ends: Upper and lower end in view space, (2, 3).
            half_widths: Half sizes across the view at equal steps from top to bottom.
            half_depths: Half sizes along the view, at the same steps.
            paint: The surface; angles are radians from where the front points, positive towards the body's left.
            yaw: Where the tube's front points, as in `View`.
            caps: Height of the rounded upper and lower end as a share of the half width; 0 cuts an end flat.
            boxy: Whether the section is a rounded box.
            folds: How strongly the light shows creases, 0 to 1.
        """
        # Pixels near the axis: s along and q across it, in metres
        top, bottom = ends
        axis = (bottom - top).tolist()
        length = float(np.hypot(axis[0], axis[1]))
        dx, dy = (axis[0] / length, axis[1] / length) if length > _TINY else (0.0, -1.0)
        widest = max(half_widths)
        window = self._window(ends, widest * max(1.0, *caps))
        if window is None:
            return
        x, y = self._metres(window, top)
        s, q = x * dx + y * dy, y * dx - x * dy
        close = (np.abs(q) < widest) & (s > -caps[0] * widest - _TINY) & (s < length + caps[1] * widest + _TINY)
        chosen = np.flatnonzero(close)
        s, q, pixels = s.reshape(-1)[chosen], q.reshape(-1)[chosen], self._pixels(window, chosen)
        # Section at every pixel: `across` and `past` the rounded ends, in half sizes
        t = np.minimum(np.maximum(s / np.float32(max(length, _TINY)), 0), 1)
        radius = _profile(t, half_widths)
        depth = radius if half_depths is half_widths else _profile(t, half_depths)
        past = s - t * np.float32(length)
        past /= np.where(past < 0, *(np.float32(max(cap, _TINY)) for cap in caps)) * radius
        across = q / radius
        squared = across * across
        section = (squared * squared if boxy else squared) + past * past
        # Depth, and the pixels that nothing nearer hides
        lift = np.sqrt(np.maximum(1 - section, 0))
        if boxy:
            lift = np.sqrt(lift)
        stretch = min(float(np.hypot(length, axis[2])) / max(length, _TINY), _MOST_STRETCHED)
        z = float(top[2]) + axis[2] * t + depth * lift * np.where((t > 0) & (t < 1), np.float32(stretch), np.float32(1))
        seen = np.flatnonzero((section < 1) & (z > self.depth.reshape(-1)[pixels]))
        if seen.size == 0:
            return
        # Normals
        u, w, h = across[seen], past[seen], lift[seen]
        lean = axis[2] / max(float(np.hypot(length, axis[2])), _TINY)
        side = u * squared[seen] if boxy else u
        normal = np.empty((len(u), 3), dtype=np.float32)
        normal[:, 0] = dx * w - dy * side
        normal[:, 1] = dy * w + dx * side - lean * h
        normal[:, 2] = h if depth is radius else h * radius[seen] / depth[seen]
        # Colours
        if callable(paint):
            angle = np.arcsin(np.minimum(np.maximum(u, -1), 1)) - np.float32(yaw - np.pi)
            color = paint(t[seen], angle % np.float32(2 * np.pi) - np.float32(np.pi))
        else:
            color = np.array(paint, dtype=np.float32)
        self._commit(pixels[seen], z[seen], normal, color, folds)

    def ellipsoid(self, center: Array, axes: Array, paint: SpherePaint, *, folds: float = 0.0) -> None:
        """Draw an ellipsoid.

        Args:
            center: In view space, (3,).
            axes: The half axes as columns, in view space, (3, 3).
            paint: The surface, the unit sphere in the frame of `axes`.
            folds: How strongly the light shows creases, 0 to 1.
        """
        window = self._window(center[None], float(np.linalg.norm(axes, axis=1)[:2].max()))
        if window is None:
            return
        x, y = self._metres(window, center)
        inverse = np.linalg.inv(axes).astype(np.float32)
        step = inverse[:, 2]
        base = (x[..., None] * inverse[:, 0] + y[..., None] * inverse[:, 1]).reshape(-1, 3)
        a, b, c = float(step @ step), base @ step, np.einsum("nd,nd->n", base, base) - 1
        root = b * b - a * c
        chosen = np.flatnonzero(root > 0)
        pixels = self._pixels(window, chosen)
        lift = (np.sqrt(root[chosen]) - b[chosen]) / a
        z = lift + float(center[2])
        seen = np.flatnonzero(z > self.depth.reshape(-1)[pixels])
        if seen.size == 0:
            return
        points = base[chosen[seen]] + lift[seen][:, None] * step
        color = paint(points) if callable(paint) else np.array(paint, dtype=np.float32)
        self._commit(pixels[seen], z[seen], points @ inverse, color, folds)

    def shade(self, light: Array, sun: float, creases: Array) -> Array:
        """Colours under a directional light, a sky and soft contact shadows, (height, width, 3).

        Args:
            light: Unit vector towards the light in view space, (3,).
            sun: Share of the directed light, 0 (overcast) to 1.
            creases: Field of mean 0, (height, width): how cloth lightens and darkens where it folds.
        """
        near = np.maximum(self.depth, np.float32(-0.3))
        hidden = (box_blur(near, max(3, int(self.scale * 0.09))) - near) * 4 - np.float32(0.032)
        hidden = np.minimum(np.maximum(hidden, 0), np.float32(0.45))
        sky = (0.72 + 0.28 * self.normal[..., 1]) * (1 - sun)
        direct = (0.25 + 1.35 * np.maximum(self.normal @ light, 0)) * sun
        level = (sky + direct) * (1 - hidden) * (1 + self.folds * creases)
        shaded: Array = self.albedo * np.maximum(level, np.float32(0.02))[..., None]
        return shaded

    def _window(self, points: Array, margin: float) -> tuple[int, int, int, int] | None:
        """Pixel bounds (left, top, right, bottom) of points and a margin in metres; None if outside."""
        xs, ys = points[:, 0].tolist(), points[:, 1].tolist()
        reach = margin * self.scale + 1
        left = max(int(self.origin[0] + min(xs) * self.scale - reach), 0)
        right = min(int(self.origin[0] + max(xs) * self.scale + reach) + 1, self.width)
        top = max(int(self.origin[1] - max(ys) * self.scale - reach), 0)
        bottom = min(int(self.origin[1] - min(ys) * self.scale + reach) + 1, self.height)
        return (left, top, right, bottom) if left < right and top < bottom else None

    def _metres(self, window: tuple[int, int, int, int], point: Array) -> tuple[Array, Array]:
        """View-space offsets of the window's pixel centres from a point: x (1, w) and y (h, 1)."""
        left, top, right, bottom = window
        shift_x = (0.5 - self.origin[0]) / self.scale - float(point[0])
        shift_y = (self.origin[1] - 0.5) / self.scale - float(point[1])
        x = np.arange(left, right, dtype=np.float32) / np.float32(self.scale) + np.float32(shift_x)
        y = np.float32(shift_y) - np.arange(top, bottom, dtype=np.float32) / np.float32(self.scale)
        return x[None], y[:, None]

    def _pixels(self, window: tuple[int, int, int, int], chosen: NDArray[np.intp]) -> NDArray[np.intp]:
        """Places in the flattened canvas of places in the flattened window."""
        left, top, right, bottom = window
        pixels = np.arange(top, bottom)[:, None] * self.width + np.arange(left, right)
        return pixels.reshape(-1)[chosen]

    def _commit(self, pixels: NDArray[np.intp], z: Array, normal: Array, color: Array, folds: float) -> None:
        length = np.sqrt(np.einsum("nd,nd->n", normal, normal)) + np.float32(_TINY)
        self.depth.reshape(-1)[pixels] = z
        self.normal.reshape(-1, 3)[pixels] = normal / length[:, None]
        self.albedo.reshape(-1, 3)[pixels] = color
        self.folds.reshape(-1)[pixels] = folds


def box_blur(values: Array, size: int) -> Array:
    """Means over `size` x `size` neighbours of an image (H, W), its edges repeated."""
    before, after = size // 2, size - size // 2
    sums = np.cumsum(np.pad(values, ((before + 1, after - 1), (0, 0)), mode="edge"), axis=0, dtype=np.float64)
    rows = sums[size:] - sums[:-size]
    sums = np.cumsum(np.pad(rows, ((0, 0), (before + 1, after - 1)), mode="edge"), axis=1)
    return ((sums[:, size:] - sums[:, :-size]) / (size * size)).astype(np.float32)


def _profile(t: Array, knots: Sequence[float]) -> Array:
    """Linear interpolation between equally spaced knots."""
    if min(knots) == max(knots):
        return np.full_like(t, knots[0])
    values = np.asarray(knots, dtype=np.float32)
    place = t * np.float32(len(knots) - 1)
    low = np.minimum(place.astype(np.intp), len(knots) - 2)
    place -= low
    return values[low] + np.diff(values)[low] * place

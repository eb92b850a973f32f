"""The things in a drawn street: their colors, their sizes, and how each is put together."""

import functools
import math
import random
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from keras_psp.labels import VOID

_NEAR = 0.7  # Meters from the camera to the nearest thing that is drawn.
_SEEN = 2.5  # Half the width of the widest image, in units of its height.

_BUILDING, _TREE, _SKY, _CAR, _SIGN, _ROAD = range(6)
_PEDESTRIAN, _FENCE, _POLE, _SIDEWALK, _BICYCLIST = range(6, 11)

Color = tuple[float, float, float]
Point = tuple[float, float]  # (right, up)
Place = tuple[float, float, float]  # (right of the road's middle, up, ahead)
Shape = tuple[str, list[float], list[float], tuple[int, ...], int | None]
"""Polygon or ellipse, x and y of its points, its color (RGBA), its label."""

# mood: (zenith, horizon, clouds, share of clouds, meters at which haze takes 63 %, sun)
_MOODS: dict[str, tuple[Color, Color, Color, float, float, float]] = {
    "clear": ((74, 124, 196), (176, 204, 232), (244, 246, 250), 0.25, 400, 1.0),
    "cloudy": ((120, 150, 190), (202, 212, 222), (236, 236, 238), 0.6, 300, 0.7),
    "overcast": ((176, 180, 186), (214, 216, 218), (150, 154, 162), 0.45, 200, 0.15),
    "hazy": ((190, 194, 196), (222, 220, 214), (230, 228, 224), 0.3, 120, 0.3),
    "evening": ((96, 112, 158), (238, 196, 150), (226, 160, 136), 0.5, 180, 0.8),
    "dusk": ((52, 64, 96), (142, 132, 146), (84, 88, 108), 0.5, 150, 0.1),
}
_WALLS: list[Color] = [
    (150, 88, 70), (128, 74, 62), (176, 120, 90), (196, 176, 146), (214, 204, 186), (164, 160, 154),
    (120, 122, 128), (98, 100, 104), (186, 190, 196), (206, 186, 152), (140, 130, 112),
    (126, 142, 160), (168, 184, 150), (222, 216, 208), (90, 84, 80), (186, 140, 120),
]  # fmt: skip
_PAINTS: list[Color] = [
    (24, 26, 30), (52, 54, 58), (120, 124, 128), (182, 186, 190), (228, 230, 232), (150, 28, 32),
    (36, 60, 118), (74, 110, 150), (40, 78, 60), (196, 178, 60), (120, 92, 70), (206, 110, 50),
]  # fmt: skip
_CLOTHES: list[Color] = [
    *_PAINTS, (90, 70, 110), (170, 150, 120), (60, 90, 70), (200, 80, 110), (60, 62, 80),
]  # fmt: skip
_LEAVES: list[Color] = [
    (66, 96, 44), (84, 116, 54), (50, 78, 46), (104, 122, 58), (120, 128, 70), (142, 112, 52),
    (156, 92, 48), (94, 96, 70),
]  # fmt: skip
_POSTS: list[Color] = [
    (74, 78, 80), (136, 138, 136), (44, 48, 50), (96, 84, 70), (170, 172, 168), (60, 78, 66),
]  # fmt: skip
_BOARDS: list[Color] = [
    (122, 94, 66), (150, 128, 98), (214, 212, 206), (70, 74, 78), (84, 96, 80),
]  # fmt: skip
_SKINS: list[Color] = [(224, 186, 160), (196, 150, 120), (140, 98, 74), (92, 64, 50)]
_HAIR: list[Color] = [(40, 32, 28), (96, 70, 48), (170, 150, 120)]
_HELMETS: list[Color] = [(214, 60, 50), (232, 232, 230), (40, 42, 48), (60, 48, 40), (226, 200, 60)]
_GLASS: list[Color] = [(46, 54, 66), (70, 84, 98), (120, 136, 150), (36, 38, 44), (168, 184, 196)]
_SHADOW: Color = (12, 14, 20)

# Length and width of a car; its silhouette from the rear (0) to the front (1), with heights in
# meters, in clockwise order from the rear bumper; its side windows likewise.
_CARS: dict[str, tuple[Point, list[Point], list[Point]]] = {
    "hatchback": (
        (3.9, 1.7),
        [
            (0, 0.3), (0, 0.86), (0.05, 1.0), (0.14, 1.44),
            (0.54, 1.46), (0.72, 1.0), (0.97, 0.84), (1, 0.78), (1, 0.3),
        ],
        [(0.12, 1.0), (0.19, 1.36), (0.52, 1.38), (0.66, 1.0)],
    ),
    "saloon": (
        (4.6, 1.75),
        [
            (0, 0.3), (0, 0.9), (0.17, 0.98), (0.3, 1.4),
            (0.58, 1.42), (0.75, 0.98), (0.98, 0.84), (1, 0.78), (1, 0.3),
        ],
        [(0.23, 0.98), (0.33, 1.33), (0.56, 1.34), (0.69, 0.98)],
    ),
    "estate": (
        (4.5, 1.85),
        [
            (0, 0.36), (0, 1.0), (0.03, 1.1), (0.08, 1.62),
            (0.57, 1.66), (0.73, 1.1), (0.98, 0.98), (1, 0.9), (1, 0.36),
        ],
        [(0.09, 1.1), (0.13, 1.54), (0.55, 1.57), (0.67, 1.1)],
    ),
    "van": (
        (4.9, 1.95),
        [
            (0, 0.36), (0, 1.15), (0, 1.2), (0.02, 1.98),
            (0.74, 2.02), (0.87, 1.2), (1, 1.0), (1, 0.36),
        ],
        [(0.66, 1.2), (0.66, 1.8), (0.74, 1.8), (0.83, 1.2)],
    ),
}  # fmt: skip

# A bicycle from the side: the tubes of its frame, each from one (ahead, up) to another.
_REAR, _FRONT, _CRANK = (-0.52, 0.34), (0.52, 0.34), (-0.05, 0.3)
_SEAT, _BAR = (-0.2, 0.92), (0.4, 1.0)
_TUBES = [
    (_REAR, _CRANK), (_REAR, _SEAT), (_SEAT, _CRANK), (_CRANK, _BAR), (_SEAT, _BAR), (_BAR, _FRONT),
]  # fmt: skip

# How a side of the street is built: chances of a house, a garden, a gap; setback of the houses from
# the pavement in meters; least and largest number of floors.
_STYLES = {
    "terrace": ((0.85, 0.1, 0.05), (0, 3), (1, 3)),
    "detached": ((0.6, 0.35, 0.05), (3, 9), (1, 3)),
    "town": ((0.88, 0.04, 0.08), (0, 0), (2, 6)),
    "green": ((0.15, 0.8, 0.05), (3, 9), (1, 3)),
}


def _mix(a: Color, b: Color, share: float) -> Color:
    keep = 1 - share
    return a[0] * keep + b[0] * share, a[1] * keep + b[1] * share, a[2] * keep + b[2] * share


def _tone(color: Color, factor: float) -> Color:
    return min(255, color[0] * factor), min(255, color[1] * factor), min(255, color[2] * factor)


def _spaced(start: float, end: float, step: float, growth: float = 0.0) -> Iterator[float]:
    """Yields distances from start to end; the steps between them may grow with the distance."""
    while start < end:
        yield start
        start += step + growth * start


class World:
    """A street, in meters, and its shapes as the camera sees them.

    `s` is the distance to the right of the road's middle (along its bend), `y` the height above the
    road, `z` the distance ahead. The shapes are in units of the image's height, from the middle of
    its upper edge.
    """

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.shapes: list[Shape] = []
        self._later: list[tuple[float, Callable[[], None]]] = []
        self._taken: list[tuple[float, float, float, float]] = []

        self.mood = _MOODS[rng.choice(list(_MOODS))]
        self.sight = self.mood[4] * rng.uniform(0.7, 1.4)
        self.haze = _mix(self.mood[1], (200, 200, 200), 0.2)
        self.sun = self.mood[5] * rng.uniform(0.5, 1.0)
        self.sun_side = rng.choice((-1, 1))

        self.half_road = rng.uniform(3.0, 6.5)
        self.pavements = {side: rng.uniform(1.6, 4.5) for side in (-1, 1)}
        self.curb = rng.uniform(0.08, 0.16)
        self.driving_side = rng.choice((-1, 1))
        gray, tint = rng.uniform(62, 132), rng.uniform(-8, 8)
        self.asphalt = (gray + tint, gray, gray - tint + rng.uniform(-4, 8))

        # The camera: where the road vanishes in the image, height above the road, distance from its
        # middle, focal length; and the road's bend.
        self.horizon = rng.uniform(0.38, 0.56)
        self.vanishing = rng.uniform(-0.16, 0.16)
        self.eye = rng.uniform(1.25, 2.3)
        self.shift = self.driving_side * self.half_road * rng.uniform(0.2, 0.55)
        self.focal = rng.uniform(0.85, 1.25)
        self.bend = rng.choice((0.0, rng.uniform(-0.004, 0.004)))

        _ground(self)
        _skyline(self)
        for side in (-1, 1):
            _lots(self, side)
            _roadside(self, side)
        _traffic(self)
        for _, draw in sorted(self._later, key=lambda item: -item[0]):
            draw()

    def later(self, distance: float, draw: Callable[..., None], *args: Any) -> None:
        """Draws something after everything that is farther away."""
        self._later.append((distance, functools.partial(draw, self, *args)))

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def free(self, s: float, z: float, wide: float, long: float) -> bool:
        """Takes a place on the ground, from `z` on, unless something stands there already."""
        place = (s - wide / 2, s + wide / 2, z, z + long)
        for left, right, near, far in self._taken:
            if left < place[1] and right > place[0] and near < place[3] and far > place[2]:
                return False
        self._taken.append(place)
        return True

    def add(
        self,
        points: Sequence[Place],
        color: Color,
        label: int | None = None,
        *,
        shape: str = "polygon",
        alpha: float = 1.0,
    ) -> None:
        """Adds a polygon, or the ellipse between two corners; without a label, paint or shadow."""
        xs, ys, distance = [], [], 0.0
        for s, y, z in points:
            z = z if z > _NEAR else _NEAR
            k = self.focal / z
            xs.append(self.vanishing + k * (s - self.shift + self.bend * z * z))
            ys.append(self.horizon + k * (self.eye - y))
            distance += z
        distance /= len(xs)
        if distance == _NEAR or min(xs) > _SEEN or max(xs) < -_SEEN:
            return
        if shape == "ellipse":
            xs.sort()
            ys.sort()
        r, g, b = _mix(color, self.haze, 1 - math.exp(-distance / self.sight))
        self.shapes.append((shape, xs, ys, (int(r), int(g), int(b), int(255 * alpha)), label))

    def upright(self, s: float, z: float, outline: Sequence[Point], *args: Any) -> None:
        """Adds a flat shape that faces the camera: (right, up) from a place on the ground."""
        self.add([(s + dx, y, z) for dx, y in outline], *args)

    def panel(
        self, s: float, z: float, x0: float, x1: float, y0: float, y1: float, *args: Any
    ) -> None:
        """Adds an upright rectangle that faces the camera."""
        self.upright(s, z, [(x0, y0), (x0, y1), (x1, y1), (x1, y0)], *args)

    def oval(
        self, s: float, z: float, x0: float, x1: float, y0: float, y1: float, *args: Any
    ) -> None:
        """Adds an upright ellipse that faces the camera."""
        self.add([(s + x0, y0, z), (s + x1, y1, z)], *args, shape="ellipse")

    def disc(self, s: float, z: float, y: float, radius: float, *args: Any) -> None:
        """Adds an upright disc."""
        self.oval(s, z, -radius, radius, y - radius, y + radius, *args)

    def wall(
        self, s: float, z0: float, z1: float, y0: float, y1: float, color: Color, *args: Any
    ) -> None:
        """Adds an upright rectangle along the road."""
        self.add([(s, y0, z0), (s, y1, z0), (s, y1, z1), (s, y0, z1)], color, *args)

    def shadow(self, s: float, z: float, wide: float) -> None:
        """Adds the soft shadow at the feet of someone."""
        corners = [(s - wide / 2, 0.0, z - 0.1), (s + wide / 2, 0.0, z + 0.3)]
        self.add(corners, _SHADOW, shape="ellipse", alpha=0.4)

    def limb(self, s: float, z: float, start: Point, end: Point, thick: float, *args: Any) -> None:
        """Adds a bar from one (right, up) to another: arms, legs, tubes."""
        (x0, y0), (x1, y1) = start, end
        length = math.hypot(x1 - x0, y1 - y0) or 1.0
        nx, ny = thick / 2 * (y0 - y1) / length, thick / 2 * (x1 - x0) / length
        outline = [(x0 + nx, y0 + ny), (x1 + nx, y1 + ny), (x1 - nx, y1 - ny), (x0 - nx, y0 - ny)]
        self.upright(s, z, outline, *args)

    def strip(self, left: float, right: float, z0: float, z1: float, y: float = 0.0) -> list[Place]:
        """Returns the outline of a strip of ground along the bend."""
        zs = [z for z in (1, 1.6, 2.5, 4, 6, 9, 14, 20, 30, 45, 70, 110, 180, 300) if z0 < z < z1]
        zs = [z0, *zs, z1]
        return [(left, y, z) for z in zs] + [(right, y, z) for z in reversed(zs)]


def _ground(world: World) -> None:
    """Verges, pavements with their curbs, the road and its markings, the houses' shadows."""
    rng, half, far = world.rng, world.half_road, 400.0
    verge = rng.choice([(96, 110, 62), (120, 116, 84), (134, 130, 122), (84, 100, 58)])
    paving = _mix(world.asphalt, rng.choice(_WALLS), rng.uniform(0.1, 0.5))
    paving = _tone(paving, rng.uniform(0.85, 1.5))
    stone = _tone(_mix(paving, (190, 188, 180), 0.5), rng.uniform(0.8, 1.1))
    seam = _tone(paving, rng.uniform(0.82, 0.95))

    world.add(world.strip(-200, 200, _NEAR, far, -0.02), verge, VOID)
    world.add(world.strip(-half, half, _NEAR, far), world.asphalt, _ROAD)
    for side in (-1, 1):
        inner, outer = side * half, side * (half + world.pavements[side])
        world.add(world.strip(inner, outer, _NEAR, far, world.curb), paving, _SIDEWALK)
        for z in _spaced(1.0, 20, 1.2, 0.08):
            world.add(world.strip(inner, outer, z, z + 0.03 + 0.004 * z, world.curb), seam)
        upper = world.strip(inner, inner, _NEAR, far, world.curb)
        lower = world.strip(inner, inner, _NEAR, far)
        face = [*upper[: len(upper) // 2], *lower[len(lower) // 2 :]]
        world.add(face, _tone(stone, 0.72), _SIDEWALK)
        edge = world.strip(inner, inner + 0.18 * side, _NEAR, 120, world.curb)
        world.add(edge, stone, _SIDEWALK)
    for _ in range(rng.randrange(8)):  # Mended places.
        s, z = rng.uniform(-half, half), rng.uniform(2, 25)
        wide, long = rng.uniform(0.3, 1.6), rng.uniform(0.5, 6)
        patch = world.strip(max(s - wide, -half), min(s + wide, half), z, z + long)
        world.add(patch, _tone(world.asphalt, rng.uniform(0.75, 1.15)), alpha=0.6)
    _markings(world)
    if world.sun > 0.35:
        tip = world.sun_side * (rng.uniform(0, 2.2 * half) - half)
        z = rng.uniform(0, 12)
        while z < 150:
            long, reach = rng.uniform(8, 30), tip + rng.uniform(-1.5, 1.5)
            shade = world.strip(world.sun_side * (half + 6), reach, max(z, _NEAR), z + long)
            world.add(shade, _SHADOW, alpha=0.42 * world.sun)
            z += long + rng.choice((0.0, rng.uniform(2, 10)))


def _markings(world: World) -> None:
    rng, half = world.rng, world.half_road
    paints: list[Color] = [(232, 232, 226), (222, 214, 196), (226, 190, 70)]
    paint = _mix(rng.choice(paints), world.asphalt, rng.uniform(0.0, 0.5))
    lanes, wide, start = rng.choice((2, 2, 3, 4)), rng.uniform(0.1, 0.18), rng.uniform(-6, 0)
    dash, gap = rng.choice([(2.0, 4.0), (4.0, 2.0), (3.0, 9.0), (150.0, 0.0)])

    def line(s: float, z0: float, z1: float, wide: float, color: Color) -> None:
        if z1 > _NEAR:
            world.add(world.strip(s - wide / 2, s + wide / 2, max(z0, _NEAR), z1), color)

    for lane in range(1, lanes):
        for z in _spaced(start, 120, dash + gap):
            line(half * (2 * lane / lanes - 1), z, z + dash, wide, paint)
    if world.chance(0.5):  # Double lines at the curb.
        color = rng.choice([(214, 178, 60), paint])
        for s in (half - 0.25, half - 0.5):
            line(s, _NEAR, 120, 0.12, color)
            line(-s, _NEAR, 120, 0.12, color)
    if world.chance(0.25):  # A zebra crossing.
        z = rng.uniform(6, 22)
        for i in range(int(2 * half) - 1):
            line(i + 0.75 - half, z, z + 3, 0.5, (226, 226, 220))


def _skyline(world: World) -> None:
    """Far houses and trees, so that the street does not end in the sky."""
    rng = world.rng
    s = -260.0
    while s < 260:
        z, wide = rng.uniform(150, 230), rng.uniform(8, 30)
        if world.chance(0.5):
            high = rng.uniform(7, 22)
            world.panel(s, z, 0, wide, 0, high, _tone(rng.choice(_WALLS), 0.9), _BUILDING)
        else:
            leaves = _tone(rng.choice(_LEAVES), 0.9)
            for _ in range(3):
                radius, middle = rng.uniform(4, 8), s + rng.uniform(0, wide)
                world.oval(middle, z, -radius, radius, -1, 2 * radius, leaves, _TREE)
        s += wide * rng.uniform(0.5, 1.1)


def _lots(world: World, side: int) -> None:
    """Houses, gardens and side streets along one side."""
    rng = world.rng
    edge, z = side * (world.half_road + world.pavements[side]), rng.uniform(-8, 2)
    style = rng.choice(list(_STYLES))
    chances, setbacks, heights = _STYLES[style]
    setback, wall = rng.uniform(*setbacks), rng.choice(_WALLS)
    while z < 130:
        (kind,) = rng.choices(("house", "garden", "gap"), chances)
        long = {"house": rng.uniform(7, 22), "garden": rng.uniform(8, 20), "gap": 7.0}[kind]
        if kind == "house":
            if style != "terrace" or world.chance(0.4):
                wall = rng.choice(_WALLS)
            front, floors = edge + side * setback, rng.randint(*heights)
            world.later(z + long, _house, side, edge, front, z, z + long, wall, floors)
            z += rng.uniform(1, 5) if style == "detached" else 0.0
        elif kind == "garden":
            world.later(z + long, _garden, side, edge, z, z + long)
        z += long


def _house(
    world: World,
    side: int,
    edge: float,
    front: float,
    z0: float,
    z1: float,
    wall: Color,
    floors: int,
) -> None:
    rng, yard, story = world.rng, abs(front - edge) > 0.5, world.rng.uniform(2.7, 3.6)
    high, deep = floors * story + rng.uniform(0.3, 1.0), side * rng.uniform(8, 14)
    lit = 1 + world.sun * (0.22 if side != world.sun_side else -0.35)
    wall = _tone(wall, rng.uniform(0.85, 1.1))
    face, gable = _tone(wall, lit), _tone(wall, 0.86)

    if yard:  # Paved or green: neither road nor sidewalk.
        color = rng.choice([(104, 112, 74), (140, 134, 126), (92, 104, 62)])
        world.add(world.strip(edge, front, max(z0, _NEAR), z1, 0.1), color, VOID)
    ridge, top = front + deep / 2, high
    if floors < 4 and world.chance(0.7):  # A pitched roof, not a flat one.
        top += abs(deep) * rng.uniform(0.25, 0.4)
        roof = rng.choice([(104, 62, 52), (84, 82, 86), (120, 92, 78), (70, 66, 70)])
        slope = [(front, high, z0), (front, high, z1), (ridge, top, z1), (ridge, top, z0)]
        world.add(slope, _tone(roof, lit), _BUILDING)
        for _ in range(rng.randrange(3)):
            chimney = (0, side * 0.9, top - 1, top + 1)
            world.panel(ridge, rng.uniform(z0, z1), *chimney, _tone(wall, 0.8), _BUILDING)
    end = [(0, 0), (0, high), (ridge - front, top), (deep, high), (deep, 0)]
    world.upright(front, z0, end, gable, _BUILDING)
    world.wall(front, z0, z1, 0, high, face, _BUILDING)
    trim = _tone(_mix(face, (235, 232, 226), rng.uniform(0.0, 0.7)), 0.95)
    for y in (story, high - 0.4) if top == high else (high - 0.3,):
        world.wall(front, z0, z1, y, y + 0.3, trim)

    shop = floors > 1 and not yard and world.chance(0.5)
    _windows(world, front, z0, z1, floors, story, trim, shop)
    if shop:
        world.wall(front, z0, z1, story * 0.84, story * 0.84 + 0.6, rng.choice(_PAINTS))
    if z0 > 4 and world.chance(0.6):  # Windows of the end wall.
        pane = rng.choice(_GLASS)
        for floor in range(floors):
            for s in (front + 0.25 * deep, front + 0.65 * deep):
                y = (floor + 0.3) * story
                world.panel(s, z0, 0, side * 1.2, y, y + 0.5 * story, pane)
    if yard and world.chance(0.6):
        _fence(world, edge + side * 0.1, max(z0, _NEAR), z1)


def _windows(
    world: World, s: float, z0: float, z1: float, floors: int, story: float, trim: Color, shop: bool
) -> None:
    """Windows and doors toward the street, with less detail where they are far away."""
    rng, frame = world.rng, 0.09
    glass = _tone(rng.choice(_GLASS), rng.uniform(0.8, 1.2))
    columns = max(1, round((z1 - z0) / rng.uniform(2.2, 4.0)))
    pitch = (z1 - z0) / columns
    wide, tall, sill = rng.uniform(0.4, 0.75), rng.uniform(0.45, 0.65), rng.uniform(0.22, 0.35)
    for floor in range(floors):
        for column in range(columns):
            pane = _tone(glass, rng.uniform(0.75, 1.3))
            a = z0 + (column + 0.5 - wide / 2) * pitch
            b, low, high = a + wide * pitch, (floor + sill) * story, (floor + sill + tall) * story
            if floor == 0 and shop:
                a, b = z0 + (column + 0.08) * pitch, z0 + (column + 0.92) * pitch
                low, high = 0.5, 2.4
            elif floor == 0 and column % 3 == 1:  # A door.
                b, low, high, pane = a + 1.1, 0.05, 2.1, rng.choice(_PAINTS)
            a = max(a, _NEAR)
            if b < a + 0.3 or a > 70:
                continue
            if a < 35:
                world.wall(s, a - frame, b + frame, low - frame, high + frame, trim)
            world.wall(s, a, b, low, high, pane)
            if a < 20 and (floor or not shop):
                world.wall(s, (a + b) / 2 - 0.03, (a + b) / 2 + 0.03, low, high, trim)


def _garden(world: World, side: int, edge: float, z0: float, z1: float) -> None:
    rng = world.rng
    for z in sorted((rng.uniform(z0, z1) for _ in range(rng.randrange(2, 6))), reverse=True):
        if z > 4:
            _tree(world, edge + side * rng.uniform(2, 9), z, rng.uniform(0.7, 1.6))
    border, s, z0 = rng.random(), edge + side * 0.1, max(z0, _NEAR)
    if border < 0.6:
        _fence(world, s, z0, z1)
    elif border < 0.85:  # A hedge.
        leaves = _tone(rng.choice(_LEAVES), rng.uniform(0.7, 1.1))
        world.wall(s, z0, z1, 0, rng.uniform(0.8, 2.0), leaves, _TREE)


def _fence(world: World, s: float, z0: float, z1: float) -> None:
    rng = world.rng
    high, board = rng.uniform(0.8, 2.0), rng.choice((0.25, 0.5, 2.0))
    color = _tone(rng.choice(_BOARDS), rng.uniform(0.75, 1.1))
    gap = _tone(color, rng.uniform(0.5, 0.8))
    world.wall(s, z0, z1, 0, high, color, _FENCE)
    for y in (0.25 * high, 0.8 * high):
        world.wall(s, z0, z1, y, y + 0.07, gap)
    for z in _spaced(z0, min(z1, 30), board, 0.02):
        world.wall(s, z, z + 0.02 + 0.12 * board + 0.002 * z, 0.08, high, gap)


def _rail(world: World, s: float, z0: float, z1: float) -> None:
    color = world.rng.choice([(120, 124, 124), (66, 70, 72), (188, 190, 186)])
    world.wall(s, z0, z1, 0, 1.05, _mix(color, world.asphalt, 0.5), _FENCE)
    world.wall(s, z0, z1, 0.97, 1.1, color, _FENCE)
    for z in _spaced(z0, z1, 0.3, 0.01):
        world.wall(s, z, z + 0.06, 0, 1.05, color)


def _tree(world: World, s: float, z: float, size: float) -> None:
    rng = world.rng
    trunk, radius = rng.uniform(1.6, 3.0) * size, rng.uniform(1.3, 2.6) * size
    tall = radius * rng.choice((0.9, 1.0, 1.3, 1.9))
    leaves = _tone(rng.choice(_LEAVES), rng.uniform(0.75, 1.2))
    bark, thick = _tone((86, 72, 60), rng.uniform(0.7, 1.3)), 0.12 * size + 0.1
    middle, fork = trunk + 0.9 * tall, trunk + 0.5 * tall
    stem = [(-thick, 0), (-0.6 * thick, fork), (0.6 * thick, fork), (thick, 0)]
    world.upright(s, z, stem, bark, _TREE)

    def blob(x: float, y: float, rx: float, ry: float, light: float) -> None:
        y += middle
        world.oval(s + x, z, -rx, rx, y - ry, y + ry, _tone(leaves, light), _TREE)

    blob(0, 0, 0.75 * radius, 0.75 * tall, 0.65)
    count = 6 + int(16 * min(1.0, 8 / z))
    for i in range(count):  # Dark behind, light in front, on top and toward the sun.
        angle, reach = rng.uniform(0, 2 * math.pi), 0.8 * math.sqrt(rng.random())
        x, y = reach * math.cos(angle), reach * math.sin(angle)
        light = 0.62 + 0.3 * i / count + 0.16 * world.sun * (y + world.sun_side * x)
        r = radius * rng.uniform(0.2, 0.42)
        blob(x * radius, y * tall, r, r, light * rng.uniform(0.9, 1.1))


def _roadside(world: World, side: int) -> None:
    """What stands, walks and parks along one side of the road."""
    rng, half, wide = world.rng, world.half_road, world.pavements[side]
    pole, high, color = rng.choice((_lamp, _lamp, _wire_pole)), rng.uniform(5, 9), _post_color(rng)
    spacing, first = rng.uniform(14, 30), rng.uniform(4, 16)
    for z in _spaced(first, 110, spacing):
        world.later(z, pole, side, side * (half + 0.45), z, high, color)
    if world.chance(0.55):
        spacing, first, size = rng.uniform(7, 14), rng.uniform(5, 14), rng.uniform(0.6, 1.2)
        for z in _spaced(first, 90, spacing):
            if world.chance(0.8):
                s = side * (half + min(1.0, wide * 0.4))
                world.later(z, _tree, s, z, size * rng.uniform(0.85, 1.15))
    for _ in range(rng.randrange(1, 5)):
        z = rng.uniform(4, 40)
        world.later(z, _sign, side * (half + rng.uniform(0.3, 0.8)), z)
    if world.chance(0.35):
        z = rng.uniform(8, 30)
        world.later(z, _traffic_light, side * (half + 0.45), z)
    if world.chance(0.3):
        z0 = rng.uniform(4, 25)
        z1 = z0 + rng.uniform(4, 12)
        world.later(z1, _rail, side * (half + 0.25), z0, z1)
    if world.chance(0.25):
        first = rng.uniform(3, 8)
        for i in range(rng.randrange(3, 8)):
            z = first + 1.8 * i
            world.later(z, _post, side * (half + 0.4), z, 0.95, 0.18, (64, 66, 66))
    for _ in range(rng.choice((0, 1, 1, 2, 3, 4))):
        s = side * (half + rng.uniform(0.5, max(0.6, wide - 0.3)))
        z = 3.5 + 36 * rng.random() ** 1.5
        for _ in range(rng.choice((1, 1, 2))):  # Alone or with somebody.
            world.later(z, _pedestrian, s, z)
            s, z = s + rng.choice((-0.6, 0.6)), z + 0.2
    if world.chance(0.5):  # Parked cars, most of them in the direction of the traffic.
        z = rng.uniform(-3, 14)
        for _ in range(rng.randrange(1, 7)):
            away = world.chance(0.8) == (side == world.driving_side)
            _place_car(world, side * (half - 1.05), z, away)
            z += rng.uniform(5.2, 9)


def _traffic(world: World) -> None:
    """Who moves on the road: cars in their lanes, bicyclists, people who cross."""
    rng, half, drive = world.rng, world.half_road, world.driving_side
    for side in (drive, -drive):
        z = rng.uniform(6, 24)
        for _ in range(rng.randrange(4)):
            s = side * half * rng.uniform(0.25, 0.5)
            if world.chance(0.06) and world.free(s, z, 2.6, 10):
                world.later(z + 3, _lorry, s, z)
            elif world.chance(0.75):
                _place_car(world, s, z, side == drive)
            z += rng.uniform(9, 22)
    for _ in range(rng.choice((0, 1, 2, 3, 4))):
        z, sideways = 4.5 + 26 * rng.random() ** 1.5, world.chance(0.45)
        lane = rng.choice((-1, 1)) * (half - rng.uniform(0.5, 2.2))
        s = rng.uniform(-half, half) if sideways else lane
        if world.free(s, z, 1.0, 1.5):
            world.later(z, _bicyclist, s, z, sideways)
    if world.chance(0.35):
        z = rng.uniform(6, 24)
        for _ in range(rng.choice((1, 1, 2, 3))):
            s = rng.uniform(-half, half)
            if world.free(s, z, 0.6, 0.5):
                world.later(z, _pedestrian, s, z)


def _post_color(rng: random.Random) -> Color:
    return _tone(rng.choice(_POSTS), rng.uniform(0.8, 1.15))


def _post(world: World, s: float, z: float, high: float, thick: float, color: Color) -> None:
    world.panel(s, z, -thick / 2, thick / 2, 0.05, high, color, _POLE)
    world.panel(s, z, 0, thick / 2, 0.05, high, _tone(color, 0.7))


def _lamp(world: World, side: int, s: float, z: float, high: float, color: Color) -> None:
    arm = -side * 0.2 * high
    _post(world, s, z, high, 0.17, color)
    world.limb(s, z, (0, high - 0.1), (arm, high + 0.2), 0.1, color, _POLE)
    world.limb(s, z, (arm, high + 0.2), (arm * 1.4, high + 0.15), 0.2, _tone(color, 1.3), _POLE)


def _wire_pole(world: World, side: int, s: float, z: float, high: float, color: Color) -> None:
    _post(world, s, z, high, 0.22, _mix(color, (104, 84, 66), 0.7))
    for y in (high - 0.3, high - 0.9):
        world.limb(s, z, (-0.8, y), (0.8, y), 0.12, color, _POLE)


def _traffic_light(world: World, s: float, z: float) -> None:
    _post(world, s, z, 3.0, 0.14, (52, 54, 56))
    world.panel(s, z, -0.2, 0.2, 2.3, 3.3, (24, 26, 28), VOID)
    on = world.rng.randrange(3)
    for i, color in enumerate([(236, 60, 40), (240, 180, 50), (60, 214, 130)]):
        world.disc(s, z, 3.1 - 0.3 * i, 0.11, color if i == on else _tone(color, 0.25))


def _sign(world: World, s: float, z: float) -> None:
    """A post with one sign or two: discs, triangles, squares on a corner, boards."""
    rng = world.rng
    y, r = rng.uniform(2.1, 3.0), rng.uniform(0.3, 0.5)
    red, blue, white, black = (184, 34, 38), (34, 74, 158), (232, 232, 228), (34, 34, 38)
    _post(world, s, z, y, 0.09, _post_color(rng))

    def bar(wide: float, tall: float, above: float, color: Color, *label: int) -> None:
        world.panel(
            s, z, -wide * r, wide * r, y + (above - tall) * r, y + (above + tall) * r, color, *label
        )

    kinds = ("forbidden", "mandatory", "danger", "priority", "guide", "plate")
    for kind in rng.sample(kinds, rng.choice((1, 1, 2))):
        if kind == "forbidden":
            world.disc(s, z, y, r, red, _SIGN)
            world.disc(s, z, y, 0.72 * r, white)
            bar(0.4, 0.12, 0, black)
        elif kind == "mandatory":
            world.disc(s, z, y, r, blue, _SIGN)
            bar(0.15, 0.5, 0, white)
        elif kind == "danger":
            for size, color, label in ((1.15 * r, red, _SIGN), (0.7 * r, white, None)):
                corners = [(-size, y - 0.7 * size), (0, y + size), (size, y - 0.7 * size)]
                world.upright(s, z, corners, color, label)
        elif kind == "priority":
            for size, color, label in ((1.2 * r, white, _SIGN), (0.85 * r, (226, 178, 40), None)):
                corners = [(-size, y), (0, y + size), (size, y), (0, y - size)]
                world.upright(s, z, corners, color, label)
        elif kind == "guide":
            board = rng.choice([blue, (30, 96, 66), white, (120, 84, 52)])
            bar(1.6, 1.0, 0, board, _SIGN)
            for above in (-0.35, 0.35):
                bar(1.2, 0.12, above, black if board == white else white)
        else:
            bar(1.0, 0.7, 0, white, _SIGN)
            bar(0.7, 0.14, 0, black)
        y -= 2.1 * r


def _pedestrian(world: World, s: float, z: float) -> None:
    rng = world.rng
    high = rng.uniform(1.55, 1.92) if world.chance(0.85) else rng.uniform(1.0, 1.4)
    coat, trousers = (_tone(rng.choice(_CLOTHES), rng.uniform(0.7, 1.2)) for _ in range(2))
    skin, hair = rng.choice(_SKINS), rng.choice(_HAIR)
    stride, broad = rng.uniform(-0.17, 0.17), rng.uniform(0.115, 0.15)

    def at(x: float, y: float) -> Point:  # From shares of the height.
        return x * high, y * high

    def limb(start: Point, end: Point, thick: float, color: Color) -> None:
        world.limb(s, z, at(*start), at(*end), thick * high, color, _PEDESTRIAN)

    world.shadow(s, z, 0.7)
    for step, light in ((stride, 0.8), (-stride, 1.0)):
        cloth, knee = _tone(trousers, light), (0.6 * step, 0.26)
        limb((0, 0.5), knee, 0.095, cloth)
        limb(knee, (step, 0.02), 0.075, cloth)
        limb((step - 0.03, 0.02), (step + 0.05, 0.02), 0.04, (36, 32, 32))
    hem = rng.choice((0.47, 0.47, 0.36, 0.25))
    right = [(0.55 * broad, 0.845), (broad, 0.8), (0.85 * broad, hem)]
    torso = [at(x, y) for x, y in right] + [at(-x, y) for x, y in reversed(right)]
    world.upright(s, z, torso, coat, _PEDESTRIAN)
    for arm in (-1, 1):
        hand = (arm * (1.15 * broad - 0.5 * stride), 0.46)
        limb((arm * 0.95 * broad, 0.79), hand, 0.06, _tone(coat, 0.82))
    limb((0, 0.83), (0, 0.9), 0.05, skin)
    _head(world, s, z, 0.925 * high, 0.066 * high, skin, hair, _PEDESTRIAN)
    if world.chance(0.3):  # A bag.
        x = rng.choice((-1, 1)) * broad
        limb((x, 0.47), (x, 0.6), 0.12, rng.choice(_CLOTHES))


def _head(
    world: World, s: float, z: float, y: float, r: float, skin: Color, hair: Color, label: int
) -> None:
    look = world.rng.choice((-0.35, 0.0, 0.35)) * r
    world.oval(s, z, -r, r, y - 1.2 * r, y + 1.2 * r, hair, label)
    world.oval(s + look, z, -0.75 * r, 0.75 * r, y - 1.15 * r, y + 0.6 * r, skin, label)


def _bicyclist(world: World, s: float, z: float, sideways: bool) -> None:
    """A rider and the bicycle: from the side, or from behind or ahead."""
    rng, r = world.rng, 0.34
    facing = rng.choice((-1, 1))
    shirt, trousers = (_tone(rng.choice(_CLOTHES), rng.uniform(0.8, 1.25)) for _ in range(2))
    frame, skin, helmet = rng.choice(_PAINTS), rng.choice(_SKINS), rng.choice(_HELMETS)
    tire, spokes = (26, 26, 28), _mix(world.asphalt, (150, 152, 154), 0.4)
    sleeve = _tone(shirt, 0.85)

    def limb(start: Point, end: Point, thick: float, color: Color) -> None:
        ends = [(facing * x, y) for x, y in (start, end)]
        world.limb(s, z, ends[0], ends[1], thick, color, _BICYCLIST)

    world.shadow(s, z, 1.2)
    if sideways:
        for hub in (-0.52, 0.52):
            world.disc(s + hub, z, r, r, tire, _BICYCLIST)
            world.disc(s + hub, z, r, r - 0.06, spokes, _BICYCLIST)
        for start, end in _TUBES:
            limb(start, end, 0.06, frame)
        hip, shoulder = (-0.2, 1.0), (0.18, 1.45)
        for knee, foot in (((0.2, 0.66), (0.05, 0.16)), ((0.24, 0.8), (-0.12, 0.42))):
            limb(hip, knee, 0.16, trousers)
            limb(knee, foot, 0.12, trousers)
        limb(hip, shoulder, 0.3, shirt)
        limb(shoulder, (0.42, 1.05), 0.1, sleeve)
    else:
        world.oval(s, z, -0.045, 0.045, 0.0, 2 * r, tire, _BICYCLIST)
        limb((-0.28, 1.02), (0.28, 1.02), 0.06, frame)
        limb((0, 0.5), (0, 1.0), 0.08, frame)
        for x, sole in ((-1, 0.15), (1, 0.42)):
            limb((0.1 * x, 0.98), (0.15 * x, sole + 0.4), 0.16, trousers)
            limb((0.15 * x, sole + 0.4), (0.13 * x, sole), 0.12, trousers)
        torso = [(-0.18, 0.9), (-0.23, 1.42), (-0.1, 1.5), (0.1, 1.5), (0.23, 1.42), (0.18, 0.9)]
        world.upright(s, z, torso, shirt, _BICYCLIST)
        for x in (-1, 1):
            limb((0.22 * x, 1.4), (0.3 * x, 1.05), 0.1, sleeve)
    lean = 0.28 * facing if sideways else 0.0
    _head(world, s + lean, z, 1.66, 0.125, skin, helmet, _BICYCLIST)


def _place_car(world: World, s: float, z: float, away: bool) -> None:
    shape = world.rng.choice(list(_CARS))
    if z > 2.5 and world.free(s, z, 1.9, _CARS[shape][0][0] + 0.5):
        world.later(z + 2, _car, s, z, away, shape)


def _car(world: World, s: float, z: float, away: bool, shape: str) -> None:
    """A car along the road, from `z` on; it shows its rear (`away`) or its front, and a side."""
    rng = world.rng
    (long, wide), outline, window = _CARS[shape]
    paint = _tone(rng.choice(_PAINTS), rng.uniform(0.8, 1.15))
    glass = _tone(rng.choice(_GLASS[:3]), rng.uniform(0.8, 1.2))
    seen = 1 if s < world.shift else -1
    half, light = wide / 2, 0.9 + 0.2 * world.sun * seen * world.sun_side

    def along(u: float) -> float:
        return z + long * (u if away else 1 - u)

    def reach(y: float) -> float:  # Half the width, which shrinks toward the roof.
        return half - 0.22 * max(0.0, y - 0.9)

    def side(points: Sequence[Point]) -> list[Place]:
        return [(s + seen * reach(y), y, along(u)) for u, y in points]

    def across(low: Point, high: Point, share: float = 1.0) -> list[Place]:
        ends = ((-share, *low), (share, *low), (share, *high), (-share, *high))
        return [(s + x * reach(y), y, along(u)) for x, u, y in ends]

    ground = world.strip(s - half - 0.15, s + half + 0.15, z - 0.1, z + long + 0.1)
    world.add(ground, _SHADOW, alpha=0.55)
    roof = max(y for _, y in outline)
    top = [u for u, y in outline if y > roof - 0.06]
    world.add(across((top[0], roof), (top[-1], roof)), _tone(paint, 1.15), _CAR)
    world.add(side(outline), _tone(paint, light), _CAR)
    world.add(side(window), glass, _CAR)
    pillar, (_, belt), (_, rail) = (window[0][0] + window[-1][0]) / 2, window[0], window[1]
    bar = [(pillar, belt), (pillar, rail), (pillar + 0.02, rail), (pillar + 0.02, belt)]
    world.add(side(bar), _tone(paint, 0.8 * light), _CAR)
    for hub in (0.19, 0.8):
        for r, color in ((0.33, (22, 22, 24)), (0.2, (128, 130, 132))):
            turns = [i * math.pi / 5 for i in range(10)]
            rim = [(math.cos(a) * r + along(hub), math.sin(a) * r + 0.33) for a in turns]
            world.add([(s + seen * (half + 0.01), y, at) for at, y in rim], color, _CAR)

    # The end that faces us, from the bumper up to the roof.
    profile = outline if away else outline[::-1]
    edge = next(i for i, (_, y) in enumerate(profile) if y > roof - 0.06)
    shoulder, shade = profile[1][1], _tone(paint, 0.86)
    (u0, y0), (u1, y1) = profile[edge - 1], profile[edge]
    world.add(across(profile[1], (u0, y0)), _tone(paint, 1.05), _CAR)
    world.add(across((u0, y0), (u1, y1)), shade, _CAR)
    low, high = ((u0 + (u1 - u0) * t, y0 + (y1 - y0) * t) for t in (0.08, 0.9))
    world.add(across(low, high, 0.88), glass, _CAR)
    for x in (-half, half):
        world.panel(s, z, 0.6 * x, 0.95 * x, 0, 0.4, (20, 20, 22), _CAR)
    world.panel(s, z, -half, half, 0.3, shoulder, shade, _CAR)
    world.panel(s, z, -half, half, 0.28, 0.48, _tone(shade, 0.5), _CAR)
    lamp = rng.choice([(150, 20, 24), (214, 40, 40)]) if away else (236, 236, 222)
    for x in (-half, half):
        world.panel(s, z, 0.66 * x, 0.95 * x, shoulder - 0.28, shoulder - 0.1, lamp)
    world.panel(s, z, -0.26, 0.26, 0.5, 0.62, rng.choice([(226, 220, 190), (230, 230, 230)]))


def _lorry(world: World, s: float, z: float) -> None:
    """A lorry or a bus: none of the eleven classes."""
    rng, half = world.rng, 1.2
    high, long = rng.uniform(2.6, 3.6), rng.uniform(6, 10)
    color = _tone(rng.choice([*_PAINTS, (200, 40, 40)]), rng.uniform(0.8, 1.1))
    pane = rng.choice([_tone(color, 0.6), (50, 58, 66)])
    world.add(world.strip(s - 1.3, s + 1.3, z, z + long), _SHADOW, alpha=0.55)
    world.wall(s + (half if s < world.shift else -half), z, z + long, 0.5, high, color, VOID)
    for x in (-half, half):
        world.panel(s, z, 0.6 * x, x, 0, 0.9, (20, 20, 22), VOID)
    world.panel(s, z, -half, half, 0.5, high, _tone(color, 0.8), VOID)
    world.panel(s, z, -0.85 * half, 0.85 * half, 0.5 * high, 0.92 * high, pane)

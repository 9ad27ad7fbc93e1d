"""CT-like axial slices of chests, abdomens and heads, drawn by seed from ellipses.

Body, fat, muscle, organs, bones, vessels, bowel gas and a fine texture, with the Hounsfield units
of textbooks.  A smooth random warp takes the ellipses' regularity away.  They look like CT; they
are not anatomy, and nothing medical follows from them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

import torch
from torch import Tensor

FIELD_OF_VIEW = 420.0  # millimetres; heads are magnified 1.5 times
_TEXTURE_HOUNSFIELD = (-1000.0, -850.0, -500.0, -150.0, 100.0, 300.0, 1000.0)
_TEXTURE_STD = (0.0, 40.0, 30.0, 8.0, 10.0, 25.0, 25.0)


class Ellipse(NamedTuple):
    """Centre, half axes and angle in millimetres and radians, its Hounsfield units, its clipping.

    `inside` is the index of the ellipse in the same list that clips this one; -1 for none.
    """

    x: float
    y: float
    a: float
    b: float
    angle: float
    hounsfield: float
    inside: int = -1


@dataclass(frozen=True)
class CTSlices:
    """Grey slices in [0, 1], where ``value = (HU + 1000) / 2000``: air 0, water 0.5, HU 1000 is 1.

    One pixel is ``420 mm / size``.  Edges are one pixel wide (partial volume).
    """

    size: int = 64

    @property
    def shape(self) -> tuple[int, int, int]:
        return (1, self.size, self.size)

    @property
    def pixel_size(self) -> float:
        """Millimetres."""
        return FIELD_OF_VIEW / self.size

    def images(self, seeds: Sequence[int]) -> Tensor:
        hounsfield = self.anatomy(seeds)
        hounsfield = hounsfield + texture_std(hounsfield) * self._texture(seeds)
        return ((hounsfield + 1000) / 2000).clamp(0, 1)[:, None]

    def anatomy(self, seeds: Sequence[int]) -> Tensor:
        """The same slices without their texture, Hounsfield units ``(batch, size, size)``."""
        draws = [Random(seed) for seed in seeds]
        scenes = [scene_of(draw) for draw in draws]
        x, y = self.warped_grid(draws)
        return self.paint(scenes, x, y)

    def texture_power(self) -> Tensor:
        """Power spectrum of the texture, ``(size, size)``, its mean 1: that of variance 1."""
        frequencies = torch.fft.fftfreq(self.size, self.pixel_size)
        power = _power(frequencies[:, None], frequencies)
        return power / power.mean()

    def warped_grid(self, draws: Sequence[Random]) -> tuple[Tensor, Tensor]:
        """Coordinates ``(batch, size, size)`` in millimetres, moved by a few slow waves."""
        pixels = (torch.arange(self.size) + 0.5) * self.pixel_size - FIELD_OF_VIEW / 2
        grid = torch.stack(torch.meshgrid(pixels, pixels, indexing="xy"))  # x, y
        waves = torch.tensor(
            [[[_wave(draw) for _ in range(4)] for _ in range(2)] for draw in draws]
        )
        amplitude, along_x, along_y, phase = (w[..., None, None] for w in waves.unbind(-1))
        moved = (amplitude * (along_x * grid[0] + along_y * grid[1] + phase).sin()).sum(2)
        x, y = (grid + moved).unbind(1)
        return x, y

    def paint(self, scenes: Sequence[list[Ellipse]], x: Tensor, y: Tensor) -> Tensor:
        """Hounsfield units ``(batch, size, size)``; later ellipses cover earlier ones."""
        longest = max(map(len, scenes))
        nothing = Ellipse(1e4, 1e4, 1.0, 1.0, 0.0, 0.0)
        table = torch.tensor([s + [nothing] * (longest - len(s)) for s in scenes])
        image = torch.full_like(x, -1000.0)
        covers: list[Tensor] = []
        for index in range(longest):
            ellipse = table[:, index, :, None, None]
            cover = self._cover(ellipse, x, y)
            clip = table[:, index, 6].long()
            if bool((clip >= 0).any()):
                limits = [
                    covers[k][i] if k >= 0 else torch.ones_like(x[0])
                    for i, k in enumerate(clip.tolist())
                ]
                cover = cover * torch.stack(limits)
            covers.append(cover)
            image = torch.lerp(image, ellipse[:, 5].expand_as(image), cover)
        return image

    def _cover(self, ellipse: Tensor, x: Tensor, y: Tensor) -> Tensor:
        """Share of each pixel that lies inside, to first order, and never more than the area."""
        a, b, angle = ellipse[:, 2], ellipse[:, 3], ellipse[:, 4]
        dx, dy = x - ellipse[:, 0], y - ellipse[:, 1]
        cos, sin = angle.cos(), angle.sin()
        p, q = (cos * dx + sin * dy) / a, (cos * dy - sin * dx) / b
        radius = (p**2 + q**2).sqrt()
        # First-order distance to the edge, |f| / |grad f|, in pixels.
        slope = ((p / a) ** 2 + (q / b) ** 2).sqrt() / radius.clamp(min=1e-6)
        distance = (1 - radius) / slope.clamp(min=1e-9) / self.pixel_size
        area = math.pi * a * b / self.pixel_size**2
        return torch.minimum((distance + 0.5).clamp(0, 1), area)

    def _texture(self, seeds: Sequence[int]) -> Tensor:
        """Random fields ``(batch, size, size)``, each of variance 1."""
        white = torch.stack(
            [torch.randn(self.size, self.size, generator=_generator(seed)) for seed in seeds]
        )
        rows, columns = (
            torch.fft.fftfreq(self.size, self.pixel_size),
            torch.fft.rfftfreq(self.size, self.pixel_size),
        )
        root = _power(rows[:, None], columns).sqrt()
        field = torch.fft.irfft2(torch.fft.rfft2(white) * root, s=white.shape[-2:])
        return field / field.std(dim=(1, 2), keepdim=True)


def _power(row: Tensor, column: Tensor) -> Tensor:
    """Power of the texture at a frequency in 1 / mm; it is correlated over about a centimetre."""
    return (1 + (row**2 + column**2) * 25.0**2) ** -1.0


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(seed))


def _wave(draw: Random) -> tuple[float, float, float, float]:
    """Amplitude in millimetres, wave vector, phase."""
    length, direction = draw.uniform(110, 350), draw.uniform(0, 2 * math.pi)
    k = 2 * math.pi / length
    return (
        length * draw.uniform(0, 0.02),
        k * math.cos(direction),
        k * math.sin(direction),
        draw.uniform(0, 2 * math.pi),
    )


def texture_std(hounsfield: Tensor) -> Tensor:
    """Standard deviation of the texture at these Hounsfield units, interpolated between tissues."""
    knots, stds = (hounsfield.new_tensor(row) for row in (_TEXTURE_HOUNSFIELD, _TEXTURE_STD))
    right = torch.bucketize(hounsfield, knots).clamp(1, len(knots) - 1)
    low, high = knots[right - 1], knots[right]
    return torch.lerp(stds[right - 1], stds[right], ((hounsfield - low) / (high - low)).clamp(0, 1))


def scene_of(draw: Random) -> list[Ellipse]:
    """The ellipses of one slice, back to front, turned by a few degrees."""
    kind = draw.random()
    scene = _head(draw) if kind > 0.8 else _trunk(draw, chest=kind < 0.4)
    turn, dx, dy = draw.gauss(0, 0.06), draw.uniform(-10, 10), draw.uniform(-10, 10)
    cos, sin = math.cos(turn), math.sin(turn)
    return [
        e._replace(x=cos * e.x - sin * e.y + dx, y=sin * e.x + cos * e.y + dy, angle=e.angle + turn)
        for e in scene
    ]


# Indices in a trunk's list that others are clipped by.
_BODY, _CAVITY = 0, 2


def _trunk(draw: Random, chest: bool) -> list[Ellipse]:
    """Skin and fat, muscle, the cavity with its organs, ribs, spine, and the table."""
    u = draw.uniform
    a, b, fat = u(140, 190), u(95, 130), u(4, 26)
    muscle = (a - fat, b - 0.8 * fat)
    wall = u(9, 17)
    inner = (muscle[0] - wall, muscle[1] - wall)
    scene = [
        Ellipse(0, 0, a, b, 0, u(-115, -85)),
        Ellipse(0, 0, *muscle, 0, u(35, 65), _BODY),
        Ellipse(0, -0.06 * inner[1], *inner, 0, -90 + u(-10, 10), _BODY),
    ]
    scene += _chest(draw, inner) if chest else _abdomen(draw, inner)
    if chest or draw.random() < 0.5:
        scene += _ribs(draw, muscle, wall)
    scene += _spine(draw, 0.62 * inner[1])
    if draw.random() < 0.5:
        scene.append(Ellipse(0, b + u(14, 24), u(170, 230), u(3, 6), 0, u(-600, -100)))
    return scene


def _chest(draw: Random, inner: tuple[float, float]) -> list[Ellipse]:
    """Lungs with vessels, heart, great vessels, windpipe."""
    u, (a, b) = draw.uniform, inner
    air, blood = u(-890, -760), u(35, 60) + (u(80, 240) if draw.random() < 0.5 else 0)
    lungs = [
        Ellipse(side * u(0.5, 0.56) * a, u(-0.1, 0.05) * b, u(0.4, 0.46) * a, u(0.74, 0.9) * b,
                side * u(-0.1, 0.2), air, _CAVITY)
        for side in (-1, 1)
    ]  # fmt: skip
    scene = list(lungs)
    for lung in lungs:
        for _ in range(draw.randint(6, 12)):
            radius, turn = 0.9 * math.sqrt(u(0, 1)), u(0, 2 * math.pi)
            x = lung.x + radius * lung.a * math.cos(turn)
            y = lung.y + radius * lung.b * math.sin(turn)
            thick = 1.2 * u(0.09, 1) ** -0.6
            scene.append(Ellipse(x, y, thick * u(1, 3.5), thick, u(0, math.pi), u(20, 60), _CAVITY))
    if draw.random() < 0.3:  # a nodule
        lung, radius = draw.choice(lungs), u(3, 11)
        x, y = lung.x + u(-0.5, 0.5) * lung.a, lung.y + u(-0.6, 0.6) * lung.b
        scene.append(Ellipse(x, y, radius, radius * u(0.7, 1), u(0, 3), u(0, 60), _CAVITY))
    x, y, angle = u(0.08, 0.24) * a, u(-0.35, -0.1) * b, u(0.2, 0.9)
    size = u(0.3, 0.42) * a, u(0.24, 0.32) * a
    scene += [
        Ellipse(x, y, *size, angle, u(60, 100), _CAVITY),
        Ellipse(x + 3, y, 0.75 * size[0], 0.7 * size[1], angle, blood, _CAVITY),
        Ellipse(u(0.1, 0.2) * a, u(0.38, 0.5) * b, u(10, 15), u(10, 15), 0, blood, _CAVITY),
    ]
    if draw.random() < 0.6:
        scene.append(Ellipse(u(-8, 8), u(0.05, 0.2) * b, u(6, 10), u(6, 9), 0, -1000, _CAVITY))
    return scene


def _abdomen(draw: Random, inner: tuple[float, float]) -> list[Ellipse]:
    """Liver, spleen, kidneys, stomach, bowel, great vessels; contrast agent in some."""
    u, (a, b) = draw.uniform, inner
    agent = u(0, 1) if draw.random() < 0.6 else 0.0
    liver, blood = u(45, 65) + 50 * agent, u(35, 50) + 180 * agent
    scene = []
    for _ in range(draw.randint(5, 12)):  # bowel loops, some with gas
        x, y, size = u(-0.75, 0.75) * a, u(-0.75, 0.35) * b, u(9, 21)
        tall, turn = size * u(0.6, 1), u(0, math.pi)
        scene.append(Ellipse(x, y, size, tall, turn, u(25, 70), _CAVITY))
        filling = -1000 if draw.random() < 0.35 else u(-20, 40)
        scene.append(Ellipse(x, y, size - 3, tall - 3, turn, filling, _CAVITY))
    right = Ellipse(
        -u(0.36, 0.48) * a, u(-0.3, -0.05) * b, u(0.4, 0.55) * a, u(0.5, 0.72) * b, u(-0.3, 0.3),
        liver, _CAVITY,
    )  # fmt: skip
    scene.append(right)
    for _ in range(draw.randint(3, 9)):  # its vessels, and lesions
        x, y = right.x + u(-0.7, 0.7) * right.a, right.y + u(-0.7, 0.7) * right.b
        size, step = u(1.5, 5), 60 * agent + u(-25, 10)
        scene.append(Ellipse(x, y, size * u(1, 3), size, u(0, math.pi), liver + step, _CAVITY))
    scene += [
        Ellipse(u(0.55, 0.7) * a, u(-0.05, 0.2) * b, u(0.16, 0.26) * a, u(0.3, 0.46) * b,
                u(-0.4, 0.1), u(40, 60) + 60 * agent, _CAVITY),
        Ellipse(u(0.15, 0.35) * a, u(-0.6, -0.4) * b, u(0.22, 0.34) * a, u(0.18, 0.3) * b,
                u(-0.3, 0.5), u(0, 60), _CAVITY),
    ]  # fmt: skip
    if draw.random() < 0.5:  # gas lies on top of the stomach's fluid
        stomach = scene[-1]
        high = stomach.y - 0.45 * stomach.b
        gas = Ellipse(stomach.x, high, 0.6 * stomach.a, 0.4 * stomach.b, 0, -1000, _CAVITY)
        scene.append(gas)
    for side in (-1, 1):  # kidneys
        x, y = side * u(0.36, 0.46) * a, u(0.3, 0.5) * b
        wide, tall, turn = u(0.14, 0.19) * a, u(0.16, 0.24) * b, side * 0.5
        scene.append(Ellipse(x, y, wide, tall, turn, u(28, 45) + 130 * agent, _CAVITY))
        x -= side * 4
        scene.append(Ellipse(x, y, 0.45 * wide, 0.5 * tall, turn, u(-60, 30), _CAVITY))
    scene += [
        Ellipse(u(2, 10), u(0.28, 0.36) * b, u(8, 11), u(8, 11), 0, blood, _CAVITY),
        Ellipse(-u(12, 24), u(0.26, 0.36) * b, u(9, 13), u(7, 10), 0, 0.8 * blood, _CAVITY),
    ]
    return scene


def _ribs(draw: Random, muscle: tuple[float, float], wall: float) -> list[Ellipse]:
    """Rings of cortical bone round marrow, lying along the wall; the breastbone."""
    u, scene, count = draw.uniform, [], draw.randint(8, 14)
    start = u(0, 2 * math.pi)
    for k in range(count):
        turn = start + 2 * math.pi * (k + u(-0.25, 0.25)) / count
        if abs(math.remainder(turn - math.pi / 2, 2 * math.pi)) < 0.35:
            continue  # the spine's place
        x = (muscle[0] - 0.6 * wall) * math.cos(turn)
        y = (muscle[1] - 0.6 * wall) * math.sin(turn)
        along = math.atan2(muscle[1] * math.cos(turn), -muscle[0] * math.sin(turn))
        long, thick = u(9, 24), u(3.6, 5.5)
        scene.append(Ellipse(x, y, long, thick, along, u(350, 900), _BODY))
        scene.append(Ellipse(x, y, long - 2.5, thick - 2, along, u(80, 250), _BODY))
    if draw.random() < 0.6:
        y = -(muscle[1] - 0.5 * wall)
        scene.append(Ellipse(0, y, u(14, 24), u(5, 7), 0, u(200, 450), _BODY))
    return scene


def _spine(draw: Random, y: float) -> list[Ellipse]:
    """A vertebra: body with its shell, canal, processes."""
    u = draw.uniform
    a, b, cortex, below = u(18, 25), u(14, 19), u(400, 750), u(17, 21)
    canal = y + b + 0.45 * below
    return [
        Ellipse(0, canal, below, 0.75 * below, 0, cortex, _BODY),
        Ellipse(0, canal + below, u(3.5, 5), u(12, 18), 0, 0.8 * cortex, _BODY),
        Ellipse(-below - 6, canal, u(12, 17), u(3.5, 5), -u(0.2, 0.6), 0.8 * cortex, _BODY),
        Ellipse(below + 6, canal, u(12, 17), u(3.5, 5), u(0.2, 0.6), 0.8 * cortex, _BODY),
        Ellipse(0, y, a, b, 0, cortex, _BODY),
        Ellipse(0, y, a - 3, b - 3, 0, u(110, 260), _BODY),
        Ellipse(0, canal, 0.62 * below, 0.45 * below, 0, u(10, 40), _BODY),
    ]


def _head(draw: Random) -> list[Ellipse]:
    """Scalp, skull, brain, ventricles, sometimes a bleeding or sinuses; magnified 1.5 times."""
    u, zoom = draw.uniform, 1.5
    a, b = zoom * u(66, 80), zoom * u(82, 98)
    scalp, bone, brain = zoom * u(3, 7), zoom * u(4.5, 8), u(30, 38)
    inner = (a - scalp - bone, b - scalp - bone)
    scene = [
        Ellipse(0, 0, a, b, 0, u(-60, 30)),
        Ellipse(0, 0, a - scalp, b - scalp, 0, u(750, 1000), 0),
        Ellipse(0, 0, *inner, 0, brain + 5, 0),
    ]
    for side in (-1, 1):
        white = u(0.25, 0.34) * inner[0], u(0.5, 0.65) * inner[1]
        scene.append(Ellipse(side * 0.4 * inner[0], 0, *white, 0, brain - 6, 2))
        long, thick = u(0.18, 0.3) * inner[1], u(0.05, 0.12) * inner[0]
        x, y = side * u(0.12, 0.2) * inner[0], u(-0.2, 0.1) * inner[1]
        scene.append(Ellipse(x, y, thick, long, -side * u(0.1, 0.35), u(0, 12), 2))
    if draw.random() < 0.3:
        x, y, size = u(-0.6, 0.6) * inner[0], u(-0.6, 0.6) * inner[1], zoom * u(3, 14)
        scene.append(Ellipse(x, y, size, size * u(0.5, 1), u(0, 3), u(55, 85), 2))
    if draw.random() < 0.4:
        for side in (-1, 1):
            x, y = side * u(10, 25), -(inner[1] + 0.2 * bone)
            scene.append(Ellipse(x, y, u(8, 22), u(5, 12), 0, -1000, 1))
    return scene

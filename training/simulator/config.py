"""What a simulated specimen and the microscope that looks at it are like.

Lengths are in px of the image, angles in degrees, intensities relative to a flat matrix = 1,
shares are of the image's area. A pair is a range from which each specimen or session draws.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from pydantic import Field

from model_zoo.card import ClassInfo, Frozen
from model_zoo.errors import SRPUError

ClassName = Literal["particle", "pore", "crack"]
Range = tuple[float, float]

BACKGROUND = ClassInfo(name="matrix", color="#000000", implicit=True)
_COLORS: Mapping[str, str] = MappingProxyType({"particle": "#3cb44b", "pore": "#4363d8", "crack": "#e6194b"})


class UnknownScene(SRPUError):
    """A scene that is not in `SCENES`."""


class Grains(Frozen):
    """The polycrystalline matrix: a Voronoi tessellation with bent boundaries and twins."""

    size: float = Field(default=95, gt=4)
    """Mean spacing of grain centres."""
    channelling: float = Field(default=0.13, ge=0, lt=1)
    """Standard deviation of the electron-channelling contrast from grain to grain."""
    bend: float = Field(default=7, ge=0)
    """Amplitude by which boundaries depart from straight lines."""
    groove: float = Field(default=1.2, ge=0)
    """Depth of the etched groove along boundaries."""
    twins: float = Field(default=0.35, ge=0, le=1)
    """Share of the grains that carry an annealing twin."""


class Bodies(Frozen):
    """Closed outlines scattered over the matrix: superellipses with a wavy rim."""

    share: Range = (0.08, 0.16)
    """Share of the area they cover."""
    radius: float = Field(default=11, gt=0.5)
    """Median radius; the distribution is lognormal."""
    spread: float = Field(default=0.45, ge=0)
    """Standard deviation of the radius's logarithm."""
    smallest: float = Field(default=2.5, ge=1)
    elongation: Range = (1.0, 1.7)
    exponent: Range = (2.0, 2.8)
    """Of the superellipse: 2 is an ellipse, 4 nearly a rectangle."""
    waviness: float = Field(default=0.06, ge=0, lt=0.5)
    """Standard deviation of the rim, relative to the radius."""
    touching: float = Field(default=0.15, ge=0, lt=1)
    """By how much of the sum of the radii two bodies may come closer than their outer circles."""
    aligned: bool = False
    """All in one direction, as in a single crystal."""
    brightness: Range = (1.3, 1.7)
    """Secondary-electron yield of the flat material."""
    relief: Range = (2.0, 5.0)
    """Height above the matrix (depth, for pores)."""
    rounding: float = Field(default=3.0, gt=0)
    """Distance from the edge over which the height is reached."""
    insulating: float = Field(default=0.15, ge=0, le=1)
    """Share of the bodies that charge up."""


class Cracks(Frozen):
    """Thin branching random walks."""

    share: float = Field(default=0.003, gt=0, lt=0.2)
    """Mean share of the area; specimens vary about it, some have none."""
    width: Range = (1.2, 3.0)
    length: Range = (90, 260)
    wander: float = Field(default=9, ge=0)
    """Standard deviation of the change of direction from step to step, in degrees."""
    branching: float = Field(default=0.35, ge=0, le=1)
    """Mean number of branches for every 100 px."""


_PORES = Bodies(
    share=(0.01, 0.035),
    radius=7,
    spread=0.5,
    elongation=(1.0, 1.5),
    exponent=(1.8, 2.3),
    waviness=0.09,
    touching=0.0,
    brightness=(0.7, 0.95),
    relief=(9.0, 16.0),
    rounding=4.0,
    insulating=0.0,
)


class Imaging(Frozen):
    """The microscope; every session draws from these ranges."""

    brightness: Range = (0.36, 0.50)
    """Where a flat matrix lies between black (0) and white (1)."""
    contrast: Range = (0.24, 0.38)
    """By how much an emission of one more matrix brightens the image."""
    gamma: Range = (0.85, 1.2)
    dose: Range = (60, 320)
    """Detected secondary electrons per px of a flat matrix: the shot noise."""
    detector_noise: Range = (0.006, 0.016)
    defocus: Range = (0.5, 1.4)
    """Standard deviation of the beam's point spread function."""
    astigmatism: float = Field(default=0.3, ge=0, lt=1)
    """Largest relative difference between the two axes of the point spread function."""
    shading: Range = (0.1, 0.35)
    """How one-sided the detector is: the brightness of a slope of 45° that faces it."""
    charging: Range = (0.0, 0.5)
    """Strength of the halo and of the streaks beside insulating bodies."""
    unevenness: float = Field(default=0.04, ge=0)
    """Slow change of brightness over the field."""
    jitter: Range = (0.1, 0.5)
    """Standard deviation of a scan line's displacement."""
    drift: float = Field(default=2.0, ge=0)
    """Largest displacement of the stage from the first line to the last."""
    line_noise: Range = (0.002, 0.008)
    """Standard deviation of a scan line's brightness."""
    curtaining: float = Field(default=0.0, ge=0, le=1)
    """Amplitude of the vertical stripes a focused ion beam leaves."""
    info_bar: bool = True
    bits: Literal[8, 16] = 8


class Evolution(Frozen):
    """What happens between the frames of a sequence."""

    growth: Range = (-0.03, 0.06)
    """Relative change of radii and crack lengths from frame to frame."""
    drift: float = Field(default=3.0, ge=0)
    """Standard deviation of the field's displacement between two frames."""


class SimulatorConfig(Frozen):
    """A kind of specimen and the way it is looked at."""

    size: tuple[int, int] = (512, 512)
    """Height and width of the image, info bar included."""
    pixel_size_nm: Range = (4.0, 25.0)
    classes: tuple[ClassName, ...] = ("particle", "pore", "crack")
    """What there is on the matrix, in the order of the mask's values 1, 2, …"""
    grains: Grains = Grains()
    particles: Bodies = Bodies()
    pores: Bodies = _PORES
    cracks: Cracks = Cracks()
    imaging: Imaging = Imaging()
    evolution: Evolution = Evolution()

    @property
    def class_infos(self) -> tuple[ClassInfo, ...]:
        """The implicit matrix first, then `classes`."""
        return (BACKGROUND, *(ClassInfo(name=name, color=_COLORS[name]) for name in self.classes))

    def index_of(self, name: str) -> int:
        """Value of one of `classes` in the mask."""
        return 1 + [str(known) for known in self.classes].index(name)

    @classmethod
    def scene(cls, name: str, **changes: object) -> SimulatorConfig:
        """A scene of `SCENES` with some fields changed; raises `UnknownScene`."""
        if name not in SCENES:
            raise UnknownScene(f"There is no scene {name!r}; choose one of {', '.join(SCENES)}.")
        return cls.model_validate({**SCENES[name].model_dump(), **changes})


SCENES: Mapping[str, SimulatorConfig] = MappingProxyType(
    {
        "alloy": SimulatorConfig(),
        "superalloy": SimulatorConfig(
            classes=("particle",),
            grains=Grains(size=2000, channelling=0.03, twins=0, groove=0),
            particles=Bodies(
                share=(0.40, 0.55),
                radius=24,
                spread=0.5,
                exponent=(2.6, 4.0),
                elongation=(1.0, 1.5),
                waviness=0.07,
                touching=0.22,
                aligned=True,
                brightness=(0.78, 0.9),
                relief=(-3.0, -1.5),
                rounding=3.0,
                insulating=0.0,
            ),
        ),
        "powder": SimulatorConfig(
            classes=("particle",),
            grains=Grains(size=400, channelling=0.03, twins=0, groove=0),
            particles=Bodies(
                share=(0.35, 0.5),
                radius=17,
                spread=0.35,
                exponent=(2.0, 2.4),
                elongation=(1.0, 1.25),
                touching=0.3,
                brightness=(1.5, 2.0),
                relief=(10.0, 18.0),
                rounding=9.0,
                insulating=0.3,
            ),
        ),
    }
)

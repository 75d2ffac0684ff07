"""SEM micrographs with exact masks, drawn from a seed: for demonstrations, tests and trying things out.

`config` says what a specimen and a microscope are like, `bodies`, `cracks` and `grains` are the
geometry, `specimen` puts them together and rasterises them, `imaging` turns the surface into what
a secondary-electron detector sees, `simulation` is one micrograph or a sequence of them, and
`dataset` a folder. What is modelled, and what is not, is told in `docs/simulator.md`.
"""

from training.simulator.config import SCENES, SimulatorConfig
from training.simulator.dataset import write_dataset
from training.simulator.simulation import Micrograph, simulate, simulate_sequence

__all__ = ["SCENES", "Micrograph", "SimulatorConfig", "simulate", "simulate_sequence", "write_dataset"]

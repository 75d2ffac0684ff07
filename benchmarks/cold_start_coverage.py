"""What the first ten labels show, before any model: `python benchmarks/cold_start_coverage.py [SEEDS]`.

A pool of 200 simulated micrographs as labs have them: four long recordings of two materials make 140 of the
images, 20 short ones of three frames the rest; the third material is in three of these alone. Each strategy
chooses ten images from texture alone. Printed: how many of the 24 specimens, of the three materials, and how
many images of the rare material are among the ten, as means over seeds with their range.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from training.active_learning.choice import choose
from training.active_learning.descriptor import describe_texture
from training.active_learning.embeddings import standardised
from training.active_learning.pool import Pool
from training.active_learning.strategies import find_strategy
from training.data.near_duplicates import DESCRIPTION_BYTES, describe
from training.simulator import SimulatorConfig, simulate_sequence

SIZE, BUDGET = (160, 160), 10
FILMS = (
    *(("superalloy", 35), ("superalloy", 35), ("powder", 35), ("powder", 35)),
    *[("superalloy", 3)] * 8,
    *[("powder", 3)] * 9,
    *[("alloy", 3)] * 3,
)
FORMS = {
    "random": ("random", 0),
    "hybrid, sequences known": ("hybrid", 1),
    "hybrid, sequences not known": ("hybrid", 0),
    "typiclust": ("typiclust", 0),
    "coreset": ("coreset", 0),
}


def simulated_pool(seed: int) -> tuple[Pool, np.ndarray, np.ndarray]:
    """The pool, and the specimen and material of each image."""
    vectors, descriptions, specimens, materials = [], [], [], []
    for number, (scene, frames) in enumerate(FILMS):
        config = SimulatorConfig.scene(scene, size=SIZE)
        for micrograph in simulate_sequence(config, (seed, number), frames):
            vectors.append(describe_texture(micrograph.image))
            descriptions.append(describe(micrograph.image) or bytes(DESCRIPTION_BYTES))
            specimens.append(number)
            materials.append(scene)
    count = len(vectors)
    raw = np.stack(vectors).astype(np.float16)
    pool = Pool(
        keys=[f"{row:04d}" for row in range(count)],
        labeled=np.zeros(count, bool),
        groups=np.array(specimens),
        embeddings=standardised(raw, np.arange(count)),
        descriptions=np.frombuffer(b"".join(descriptions), np.uint8).reshape(count, -1),
    )
    return pool, np.array(specimens), np.array(materials)


def main() -> None:
    """Each pool once, each strategy ten times on it with other seeds."""
    seeds = int(sys.argv[1]) if len(sys.argv) > 1 else 3
    found: dict[str, list[tuple[int, int, int]]] = {form: [] for form in FORMS}
    for seed in range(seeds):
        pool, specimens, materials = simulated_pool(seed)
        for form, (name, per_group) in FORMS.items():
            for draw in range(10):
                picks = choose(pool, find_strategy(name), BUDGET, draw, per_group).picks
                rows = [pick.row for pick in picks]
                kinds = materials[rows]
                rare = int((kinds == "alloy").sum())
                found[form].append((len(set(specimens[rows])), len(set(kinds)), rare))
    print("| strategy | specimens of 24 | materials of 3 | rare material among 10 | never seen |")
    print("|---|---|---|---|---|")
    for form, results in found.items():
        values = np.array(results)
        cells = [f"{v.mean():.1f} ({v.min()}–{v.max()})" for v in values.T]
        print(f"| {form} | {' | '.join(cells)} | {np.mean(values[:, 2] == 0):.0%} of draws |")


if __name__ == "__main__":
    main()

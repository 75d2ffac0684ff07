"""A folder of images, ranked: look at each once, choose, say why. Resumable; memory bounded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model_zoo.card import Frozen
from model_zoo.errors import SRPUError
from model_zoo.inference import Predictor
from training.active_learning.choice import choose
from training.active_learning.embedders import Embedder
from training.active_learning.embeddings import EmbeddingStore, standardised
from training.active_learning.explanation import Explanations
from training.active_learning.images import (
    NOTHING_LABELED,
    Digests,
    Labeled,
    PoolImage,
    digest_of,
    frames_of,
    image_folder,
    list_images,
    match_labeled,
)
from training.active_learning.pool import Answers, Pool
from training.active_learning.pool_answers import NAMES, AnswerCache, answer
from training.active_learning.strategies import Strategy, StrategyNeedsModel
from training.data.manifest import Sample
from training.data.micrograph import BadImage, read_micrograph
from training.data.near_duplicates import describe
from training.data.ordered_map import ordered_map
from training.data.samples import read_stack

Report = Callable[[str, int, int], None]
_BATCH = 64  # images whose embeddings are written at once
_NEED_NO_MODEL = ("hybrid", "foreground_random")


class BadBudget(SRPUError):
    """A number of images that cannot be ranked."""


@dataclass(frozen=True)
class Request:
    """What is to be ranked, and how."""

    images: Path
    strategy: Strategy
    budget: int
    embedder: Embedder
    cache: Path
    labeled: Labeled = NOTHING_LABELED
    predictor: Predictor | None = None
    model_identity: str = ""
    """Of the predictor: whatever has another one answers otherwise."""
    seed: int = 0
    per_group: int | None = None
    workers: int = 0


class RankedImage(Frozen):
    """One place of the ranking."""

    rank: int
    """From 1."""
    key: str
    path: Path
    score: float
    """In the strategy's own measure."""
    cluster: int
    """Images that look alike share it; −1 where that is not known."""
    group: str
    """The sequence, else the key."""
    arm: str
    """The strategy's name, or `control`."""
    why: str


class SkippedImage(Frozen):
    """An image that is not ranked, or that could not be judged."""

    key: str
    path: Path
    reason: str


class Ranking(Frozen):
    """`ranking.json`."""

    strategy: str
    model: str
    """Version of the model, empty without one."""
    embedding: str
    seed: int
    budget: int
    images: int
    """In the folder."""
    labeled: int
    items: tuple[RankedImage, ...]
    skipped: tuple[SkippedImage, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class _Look:
    digest: str = ""
    vector: NDArray[np.float32] | None = None
    description: bytes | None = None
    problem: str = ""


def rank(request: Request, report: Report = lambda what, done, total: None) -> Ranking:
    """Rank the unlabelled images of a folder.

    What was computed before for the same bytes and model is taken from the cache. Images that cannot be read
    are skipped and named. Raises `BadFolder`, `BadBudget` and `StrategyNeedsModel`.
    """
    _check(request)
    request = replace(request, images=image_folder(request.images))
    images = list_images(request.images)
    labeled, elsewhere, lost = match_labeled(images, request.images, request.labeled)
    everything = sorted([*images, *elsewhere], key=lambda image: image.key)
    labeled |= {image.key for image in elsewhere}
    problems: dict[str, str] = {}
    store = EmbeddingStore(request.cache / "embeddings", request.embedder.identity, request.embedder.width)
    digests = _looked_at(request, everything, store, problems, report)
    usable = [image for image in everything if image.key in digests]
    pool = _pool(request, usable, digests, labeled, store)
    if request.predictor is not None and request.strategy.needs_answers and pool.unlabeled.any():
        answers = _answers(request, request.predictor, pool, usable, digests, problems, report)
        pool = replace(pool, answers=answers)
    return _ranking(request, everything, usable, pool, problems, _lost(lost))


def _check(request: Request) -> None:
    if request.budget < 1:
        raise BadBudget(f"A budget of {request.budget} ranks nothing; give a number from 1 on.")
    strategy = request.strategy
    if request.predictor is None and strategy.needs_answers and strategy.name not in _NEED_NO_MODEL:
        raise StrategyNeedsModel.of(strategy.name)


def _looked_at(
    request: Request,
    images: list[PoolImage],
    store: EmbeddingStore,
    problems: dict[str, str],
    report: Report,
) -> dict[str, str]:
    """Embed what is not embedded yet; returns the digest of each readable image by key."""
    files = Digests(request.cache / "files.sqlite")
    digests: dict[str, str] = {}
    fresh: list[PoolImage] = []
    by_path = {image.path: image for image in images}
    for path, digest in files.known(by_path):
        if digest is None:
            fresh.append(by_path[path])
        else:
            digests[by_path[path].key] = digest
    known = store.rows(list(digests.values()))
    fresh += [image for image in images if digests.get(image.key, "") not in known and image.key in digests]
    for done, batch in _in_batches(ordered_map(_looker(request, store), fresh, request.workers)):
        good = [(image, look) for image, look in batch if not look.problem]
        problems.update({image.key: look.problem for image, look in batch if look.problem})
        new = [look for _, look in good if look.vector is not None]
        if new:
            vectors = np.stack([look.vector for look in new if look.vector is not None])
            store.add([look.digest for look in new], vectors, [look.description for look in new])
        files.remember({image.path: look.digest for image, look in good})
        digests.update({image.key: look.digest for image, look in good})
        report("looking at images", done, len(fresh))
    return {key: digest for key, digest in digests.items() if key not in problems}


def _looker(request: Request, store: EmbeddingStore) -> Callable[[PoolImage], _Look]:
    def look(image: PoolImage) -> _Look:
        try:
            data = image.path.read_bytes()
            digest = digest_of(data)
            if store.rows([digest]):
                return _Look(digest)
            pixels = read_micrograph(data, name=str(image.path))
        except (BadImage, OSError) as error:
            return _Look(problem=str(error))
        return _Look(digest, request.embedder(pixels), describe(pixels))

    return look


def _in_batches(
    looks: Iterator[tuple[PoolImage, _Look]],
) -> Iterator[tuple[int, list[tuple[PoolImage, _Look]]]]:
    batch: list[tuple[PoolImage, _Look]] = []
    done = 0
    for each in looks:
        batch.append(each)
        done += 1
        if len(batch) == _BATCH:
            yield done, batch
            batch = []
    if batch:
        yield done, batch


def _pool(
    request: Request,
    images: list[PoolImage],
    digests: dict[str, str],
    labeled: set[str],
    store: EmbeddingStore,
) -> Pool:
    known = store.rows([digests[image.key] for image in images])
    rows = np.array([known[digests[image.key]] for image in images], np.int64)
    # A copy of a labelled image is labelled, whatever it is called.
    contents = {digests[image.key] for image in images if image.key in labeled}
    numbers: dict[str, int] = {}
    groups = np.array([numbers.setdefault(image.group, len(numbers)) for image in images], np.int64)
    return Pool(
        keys=[image.key for image in images],
        labeled=np.array([digests[image.key] in contents for image in images], bool),
        groups=groups,
        embeddings=standardised(store.vectors(), rows),
        descriptions=store.descriptions()[rows],
    )


def _answers(
    request: Request,
    predictor: Predictor,
    pool: Pool,
    images: list[PoolImage],
    digests: dict[str, str],
    problems: dict[str, str],
    report: Report,
) -> Answers:
    """Ask the model about every unlabelled image it was not asked about before."""
    cache = AnswerCache(request.cache / "answers.sqlite")
    turned = request.strategy.needs_members
    classes = tuple(info.name for info in predictor.card.classes)
    numbers = np.full((len(images), len(NAMES) + 2 * len(classes)), np.nan, np.float32)
    films = _films(images)
    open_rows = np.flatnonzero(pool.unlabeled)
    for done, row in enumerate(open_rows, start=1):
        image = images[row]
        report("asking the model", done, len(open_rows))
        frames = frames_of(image, films[image.group], predictor.card.spec.input_depth)
        content = ":".join([digests[image.key], *(str(frame) for frame in frames)])
        found = cache.get(request.model_identity, content, turned=turned)
        if found is None:
            try:
                found = answer(predictor, _stack(image, frames, predictor), turned=turned)
            except SRPUError as error:
                problems[image.key] = f"The model could not be asked: {error}"
                continue
            cache.put(request.model_identity, content, found)
        numbers[row] = found
    first = len(NAMES) + len(classes)
    return Answers(
        classes=classes,
        background=next((i for i, info in enumerate(predictor.card.classes) if info.implicit), -1),
        uncertainty={name: numbers[:, place] for place, name in enumerate(NAMES)},
        by_class=numbers[:, len(NAMES) : first],
        areas=numbers[:, first:],
    )


def _films(images: list[PoolImage]) -> dict[str, list[PoolImage]]:
    films: dict[str, list[PoolImage]] = {}
    for image in images:
        films.setdefault(image.group, []).append(image)
    return films


def _stack(image: PoolImage, frames: tuple[Path, ...], predictor: Predictor) -> NDArray[Any]:
    sample = Sample(key=image.key, image=image.path, group=image.group, part="pool", frames=frames)
    return read_stack(sample, predictor.card.spec.input_depth)


def _ranking(
    request: Request,
    everything: list[PoolImage],
    usable: list[PoolImage],
    pool: Pool,
    problems: dict[str, str],
    notes: list[str],
) -> Ranking:
    batch = choose(pool, request.strategy, request.budget, request.seed, request.per_group)
    explanations = Explanations(pool, batch)
    for row in np.flatnonzero(~pool.embedded()):
        problems.setdefault(usable[row].key, "Its embedding is not a number, so it could not be compared.")
    paths = {image.key: image.path for image in everything}
    for row in batch.duplicates:
        problems.setdefault(usable[row].key, "It shows the same as another image of this batch.")
    return Ranking(
        strategy=request.strategy.name,
        model=request.predictor.card.version if request.predictor else "",
        embedding=request.embedder.identity,
        seed=request.seed,
        budget=request.budget,
        images=len(everything),
        labeled=int(pool.labeled.sum()),
        items=tuple(
            RankedImage(
                rank=place,
                key=usable[pick.row].key,
                path=usable[pick.row].path,
                score=round(pick.score, 6),
                cluster=int(batch.clusters[pick.row]),
                group=usable[pick.row].sequence or usable[pick.row].key,
                arm=pick.arm if pick.arm == "control" else request.strategy.name,
                why=explanations.of(pick),
            )
            for place, pick in enumerate(batch.picks, start=1)
        ),
        skipped=tuple(
            SkippedImage(key=key, path=paths[key], reason=reason) for key, reason in sorted(problems.items())
        ),
        notes=(*notes, *batch.notes),
    )


def _lost(names: list[str]) -> list[str]:
    if not names:
        return []
    some = ", ".join(names[:3]) + (", …" if len(names) > 3 else "")
    return [f"{len(names)} labelled names fit no image in the folder: {some}."]

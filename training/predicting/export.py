"""A model as one ONNX file that says itself how it must be fed, compared with the model it was made from."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray

from model_zoo.architectures import stride
from model_zoo.card import STATE_NAME, ClassInfo, Frozen, ModelCard, Normalisation
from model_zoo.files import write_atomically
from model_zoo.inference.engines import OnnxEngine
from model_zoo.integrity import sha256_of
from model_zoo.normalisation import normalise
from model_zoo.store import export_onnx, load_model
from training.data.micrograph import read_micrograph
from training.predicting.files import Report, list_images
from training.simulator import SimulatorConfig, simulate

METADATA_PREFIX = "srpu."
_SIDES = ((256, 384), (512, 320))
"""(height, width) in px that are compared, rounded up to the stride: neither alike nor square."""
_MOST_IMAGES = 8
_LOGIT_TOLERANCE = 1e-3
"""Of the largest logit."""
_EQUAL_PIXELS = 0.999


class Agreement(Frozen):
    """How far the ONNX file and the model differ."""

    source: str
    """`images` of the user, or `simulated` micrographs."""
    images: int
    sizes: tuple[tuple[int, int], ...]
    """(height, width) in px."""
    largest_difference: float
    """max |Δ logit|."""
    largest_logit: float
    equal_pixels: float
    """Share of the pixels given the same class, in [0, 1]."""

    @property
    def agrees(self) -> bool:
        """Within a thousandth of the largest logit, and 99.9 % of the pixels."""
        allowed = _LOGIT_TOLERANCE * max(1.0, self.largest_logit)
        return self.largest_difference <= allowed and self.equal_pixels >= _EQUAL_PIXELS


class ExportCard(Frozen):
    """How somebody else's program feeds the file: the JSON beside it, and its metadata_props."""

    input: str = "image: float32 (n, input_depth, height, width); height and width multiples of stride"
    output: str = "logits: float32 (n, classes, height, width); the class is the argmax over the second axis"
    classes: tuple[ClassInfo, ...]
    input_depth: int
    stride: int
    normalisation: Normalisation
    version: str
    encoder: str
    decoder: str
    weights_sha256: str
    """Of the model's safetensors file."""


class ExportSummary(Frozen):
    """What came out; what `--json` prints, and the JSON file beside but for `out`."""

    out: str
    onnx_sha256: str
    bytes: int
    card: ExportCard
    agreement: Agreement


@dataclass(frozen=True)
class _Comparison:
    difference: float
    largest: float
    equal: int
    pixels: int


def export(
    folder: Path, out: Path, images: Path | None = None, report: Report = lambda what, done, total: None
) -> ExportSummary:
    """Write the model of `folder` as `out`, with a JSON card beside, when both agree.

    They are compared on `images`, a folder, else on simulated micrographs, at two sizes. Where they do not
    agree (see `Agreement.agrees`) nothing is written. Raises `BrokenModel` where the network has no ONNX
    form, `BadFolder` and `BadImage` for images.
    """
    card = ModelCard.read(folder)
    model = load_model(folder)
    told = _card_of(card, sha256_of(folder / STATE_NAME))
    report("exporting", 0, 1)
    with TemporaryDirectory() as temporary:
        path = export_onnx(model, card.spec, Path(temporary))
        _write_metadata(path, told)
        agreement = _compare(model, OnnxEngine(path.parent, card).logits, card, images, report)
        summary = ExportSummary(
            out=str(out),
            onnx_sha256=sha256_of(path),
            bytes=path.stat().st_size,
            card=told,
            agreement=agreement,
        )
        if agreement.agrees:
            out.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(out, path.read_bytes())
            beside = summary.model_dump_json(indent=1, exclude={"out"})
            write_atomically(out.with_suffix(".json"), beside.encode())
    return summary


def read_metadata(path: Path) -> dict[str, Any]:
    """What an exported file says of itself: the fields of `ExportCard`."""
    props = onnx.load(str(path), load_external_data=False).metadata_props
    return {
        prop.key.removeprefix(METADATA_PREFIX): json.loads(prop.value)
        for prop in props
        if prop.key.startswith(METADATA_PREFIX)
    }


def _card_of(card: ModelCard, weights: str) -> ExportCard:
    return ExportCard(
        classes=card.classes,
        input_depth=card.spec.input_depth,
        stride=stride(card.spec),
        normalisation=card.normalisation,
        version=card.version,
        encoder=card.spec.encoder,
        decoder=card.spec.decoder,
        weights_sha256=weights,
    )


def _write_metadata(path: Path, card: ExportCard) -> None:
    model = onnx.load(str(path))
    facts = card.model_dump(mode="json")
    props = {
        f"{METADATA_PREFIX}{name}": json.dumps(value, ensure_ascii=False) for name, value in facts.items()
    }
    onnx.helper.set_model_props(model, props)
    onnx.save(model, str(path))


def _compare(
    model: torch.nn.Module,
    onnx_logits: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    card: ModelCard,
    images: Path | None,
    report: Report,
) -> Agreement:
    sizes = tuple((_up(height, stride(card.spec)), _up(width, stride(card.spec))) for height, width in _SIDES)
    stacks = list(_stacks(card, images))
    compared = []
    for place, stack in enumerate(stacks):
        for size in sizes:
            tile = _cut(stack, size)[None]
            with torch.inference_mode():
                expected: NDArray[np.float32] = model(torch.from_numpy(tile)).numpy()
            compared.append(_difference(expected, onnx_logits(tile)))
        report("comparing", place + 1, len(stacks))
    return Agreement(
        source="simulated" if images is None else "images",
        images=len(stacks),
        sizes=sizes,
        largest_difference=max(one.difference for one in compared),
        largest_logit=max(one.largest for one in compared),
        equal_pixels=sum(one.equal for one in compared) / sum(one.pixels for one in compared),
    )


def _difference(expected: NDArray[np.float32], found: NDArray[np.float32]) -> _Comparison:
    equal = expected.argmax(axis=1) == found.argmax(axis=1)
    difference = float(np.abs(expected - found).max())
    return _Comparison(
        difference if np.isfinite(difference) else np.inf,
        float(np.abs(expected).max()),
        int(equal.sum()),
        equal.size,
    )


def _stacks(card: ModelCard, images: Path | None) -> Iterator[NDArray[np.float32]]:
    """Normalised (D, H, W): micrographs, each repeated to the model's depth."""
    if images is None:
        found: Iterator[NDArray[Any]] = (simulate(SimulatorConfig(), seed).image for seed in range(2))
    else:
        listed = list_images([images])
        found = (read_micrograph(image.path) for image in _spread(listed))
    for image in found:
        yield normalise(np.repeat(image[None], card.spec.input_depth, axis=0), card.normalisation)


def _spread(listed: Sequence[Any]) -> list[Any]:
    """At most eight, evenly over the folder."""
    places = np.linspace(0, len(listed) - 1, min(_MOST_IMAGES, len(listed))).round().astype(int)
    return [listed[place] for place in places]


def _cut(stack: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    """The middle of the stack, continued by reflection where it is smaller."""
    missing = [max(0, side - there) for side, there in zip(size, stack.shape[1:], strict=True)]
    stack = np.pad(stack, [(0, 0), (0, missing[0]), (0, missing[1])], mode="reflect")
    top, left = ((there - side) // 2 for side, there in zip(size, stack.shape[1:], strict=True))
    return np.ascontiguousarray(stack[:, top : top + size[0], left : left + size[1]])


def _up(length: int, of: int) -> int:
    return -(-length // of) * of

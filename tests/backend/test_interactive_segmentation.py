"""Prompts in, a region out: on arrays."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from srpu_backend.interactive import Box, Click, ImageState, Prompts, StateCache, segment
from training.simulator import SimulatorConfig, simulate

pytestmark = pytest.mark.fast

SHAPE = (120, 160)


def micrograph(*discs: tuple[int, int, int], noise: float = 8, seed: int = 0) -> tuple[Any, Any]:
    """Bright discs (x, y, radius) on grey, blurred and noisy; image and truth."""
    truth = np.zeros(SHAPE, np.uint8)
    for x, y, radius in discs:
        cv2.circle(truth, (x, y), radius, 1, -1)
    grey = cv2.GaussianBlur(80 + 80 * truth.astype(np.float32), (0, 0), 1.2)
    grey += np.random.default_rng(seed).normal(0, noise, SHAPE)
    return np.clip(grey, 0, 255).astype(np.uint8), truth > 0


def iou(found: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    return float(((found > 0) & truth).sum() / ((found > 0) | truth).sum())


def next_click(found: NDArray[Any], truth: NDArray[np.bool_]) -> Click:
    """At the centre of the largest error, as Sofiiuk et al. 2021 simulate people."""
    errors = [truth & (found == 0), ~truth & (found > 0)]
    depths = [
        cv2.distanceTransform(np.pad(e, 1).astype(np.uint8), cv2.DIST_L2, 5)[1:-1, 1:-1] for e in errors
    ]
    worst = int(depths[1].max() > depths[0].max())
    y, x = np.unravel_index(int(depths[worst].argmax()), truth.shape)
    return Click(int(x), int(y), worst == 0)


class TestOneClick:
    @pytest.mark.parametrize(("radius", "at_least"), [(4, 0.6), (10, 0.8), (20, 0.93), (30, 0.93)])
    def test_finds_an_object_of_any_size(self, radius: int, at_least: float) -> None:
        found = []
        for seed in range(3):
            image, truth = micrograph((80, 60, radius), seed=seed)
            found.append(iou(segment(image, Prompts((Click(80, 60),))).mask, truth))
        assert np.mean(found) > at_least

    @pytest.mark.parametrize("invert", [False, True])
    def test_dark_objects_are_found_as_bright_ones(self, invert: bool) -> None:
        image, _ = micrograph((50, 60, 15), (110, 60, 20))
        image = 255 - image if invert else image
        one = np.zeros(SHAPE, np.uint8)
        cv2.circle(one, (110, 60), 20, 1, -1)
        assert iou(segment(image, Prompts((Click(112, 58),))).mask, one > 0) > 0.9

    def test_sixteen_bits_give_what_eight_do(self) -> None:
        image, _ = micrograph((80, 60, 20))
        prompts = Prompts((Click(80, 60),))
        deep = segment(image.astype(np.uint16) * 200 + 1000, prompts).mask
        np.testing.assert_array_equal(deep, segment(image, prompts).mask)

    def test_a_model_that_knows_leads_where_the_grey_says_nothing(self) -> None:
        _, truth = micrograph((80, 60, 25))
        image = np.random.default_rng(1).integers(90, 110, SHAPE).astype(np.uint8)
        soft = cv2.GaussianBlur(truth.astype(np.float32), (0, 0), 2)
        prompts = Prompts((Click(80, 60),))
        with_model = segment(image, prompts, np.stack([1 - soft, soft]), class_index=1)
        assert iou(with_model.mask, truth) > 0.9
        assert iou(segment(image, prompts).mask, truth) < 0.5

    def test_a_model_that_contradicts_the_click_is_not_heard(self) -> None:
        image, truth = micrograph((80, 60, 20), noise=4)
        wrong = np.stack([np.ones(SHAPE), np.zeros(SHAPE)]).astype(np.float32)
        found = segment(image, Prompts((Click(80, 60),)), wrong, class_index=1).mask
        assert iou(found, truth) > 0.9


class TestMoreClicks:
    def test_simulated_particles_get_better_with_clicks(self) -> None:
        scene = simulate(SimulatorConfig(size=(256, 256)), 5)
        state = ImageState.of(scene.image)
        _, labels, stats, _ = cv2.connectedComponentsWithStats((scene.mask == 1).astype(np.uint8))
        largest = [i for i in np.argsort(-stats[:, 4]) if i != 0][:4]
        reached = []
        for index in largest:
            truth, clicks, found = labels == index, (), np.zeros(scene.mask.shape, np.uint8)
            ious = []
            for _ in range(5):
                clicks = (*clicks, next_click(found, truth))
                found = segment(state, Prompts(clicks)).mask
                ious.append(iou(found, truth))
            reached.append(max(ious))
        assert np.mean(reached) > 0.75, reached

    def test_a_negative_click_cuts_off_what_leaked(self) -> None:
        image, _ = micrograph((55, 60, 22), (98, 60, 22), noise=4)
        wanted = np.zeros(SHAPE, np.uint8)
        cv2.circle(wanted, (55, 60), 22, 1, -1)
        state = ImageState.of(image)
        before = segment(state, Prompts((Click(55, 60),))).mask
        assert before[60, 98] == 1, "the two touch and have no edge between them"
        after = segment(state, Prompts((Click(55, 60), Click(98, 60, False)))).mask
        assert iou(after, wanted > 0) > max(0.8, iou(before, wanted > 0))

    def test_a_hole_is_filled_unless_it_was_clicked(self) -> None:
        image, _ = micrograph((80, 60, 30), noise=4)
        hole = np.zeros(SHAPE, np.uint8)
        cv2.circle(hole, (90, 60), 8, 1, -1)
        image[hole > 0] = 80
        clicks = (Click(70, 60), Click(90, 60, False))
        assert segment(image, Prompts(clicks[:1])).mask[hole > 0].all()
        assert segment(image, Prompts(clicks)).mask[hole > 0].mean() < 0.2

    def test_touching_instances_are_split_where_asked(self) -> None:
        image, _ = micrograph((55, 60, 22), (96, 60, 22), noise=4)
        wanted = np.zeros(SHAPE, np.uint8)
        cv2.circle(wanted, (55, 60), 22, 1, -1)
        found = segment(image, Prompts((Click(55, 60),)), instances=True).mask
        assert iou(found, wanted > 0) > 0.8

    def test_one_round_instance_is_not_split(self) -> None:
        image, truth = micrograph((80, 60, 30))
        assert iou(segment(image, Prompts((Click(60, 60),)), instances=True).mask, truth) > 0.85

    def test_a_second_click_reuses_the_first_answer(self, monkeypatch: pytest.MonkeyPatch) -> None:
        image, _ = micrograph((80, 60, 20))
        state = ImageState.of(image)
        segment(state, Prompts((Click(80, 60),)))
        monkeypatch.setattr("srpu_backend.interactive.segmentation.propose", None)
        assert segment(state, Prompts((Click(80, 60), Click(20, 20)))).mask[20, 20] == 1


class TestBoxesAndStrokes:
    def test_a_box_gives_what_it_was_drawn_around(self) -> None:
        image, _ = micrograph((50, 60, 15), (100, 60, 25))
        one = np.zeros(SHAPE, np.uint8)
        cv2.circle(one, (100, 60), 25, 1, -1)
        found = segment(image, Prompts(box=Box(73, 33, 128, 88))).mask
        assert iou(found, one > 0) > 0.85

    def test_a_region_stays_in_its_box(self) -> None:
        image, _ = micrograph((80, 60, 30))
        found = segment(image, Prompts(box=Box(70, 50, 100, 90))).mask
        ys, xs = np.nonzero(found)
        assert (xs.min(), ys.min()) >= (68, 48)
        assert (xs.max(), ys.max()) <= (102, 92)

    def test_a_stroke_is_part_of_its_region(self) -> None:
        image, truth = micrograph((80, 60, 25))
        stroke = np.zeros(SHAPE, np.uint8)
        cv2.line(stroke, (65, 60), (95, 60), 1, 3)
        found = segment(image, Prompts(stroke=stroke > 0)).mask
        assert found[stroke > 0].all()
        assert iou(found, truth) > 0.85

    def test_what_was_erased_is_not(self) -> None:
        image, _ = micrograph((80, 60, 25))
        erased = np.zeros(SHAPE, bool)
        erased[55:65, 70:80] = True
        found = segment(image, Prompts((Click(90, 60),), erased=erased)).mask
        assert not found[erased].any()


class TestOddities:
    @given(
        st.lists(st.tuples(st.integers(-5, 45), st.integers(-5, 35), st.booleans()), max_size=5),
        st.tuples(*[st.integers(-5, 45)] * 4) | st.none(),
        st.sampled_from(["noise", "flat", "ramp", "discs"]),
    )
    @settings(max_examples=60, deadline=None)
    def test_clicks_are_obeyed_and_nothing_breaks(self, points: Any, corners: Any, kind: str) -> None:
        shape = (30, 40)
        images = {
            "noise": np.random.default_rng(3).integers(0, 255, shape, np.uint8),
            "flat": np.full(shape, 7, np.uint8),
            "ramp": np.tile(np.arange(40, dtype=np.uint16) * 1000, (30, 1)),
            "discs": micrograph((20, 15, 8))[0][:30, :40],
        }
        clicks = tuple(Click(*point) for point in points)
        box = Box(*corners) if corners else None
        region = segment(images[kind], Prompts(clicks, box))
        assert region.mask.shape == shape
        assert region.mask.dtype == np.uint8
        assert 0 <= region.score <= 1
        last = {(c.x, c.y): c.positive for c in clicks if 0 <= c.x < 40 and 0 <= c.y < 30}
        if any(last.values()):
            assert all(region.mask[y, x] == positive for (x, y), positive in last.items())

    @pytest.mark.parametrize("shape", [(1, 1), (1, 7), (9, 1), (2, 2), (3, 400)])
    def test_images_of_hardly_any_pixels(self, shape: tuple[int, int]) -> None:
        image = np.arange(shape[0] * shape[1], dtype=np.uint16).reshape(shape)
        height, width = shape
        clicks = (Click(0, 0), Click(width - 1, height - 1, False), Click(width // 2, height // 2))
        for count in (1, 2, 3):
            assert segment(image, Prompts(clicks[:count])).mask.shape == shape
        assert segment(image, Prompts(box=Box(0, 0, width, height))).mask.shape == shape

    def test_nothing_that_belongs_to_it_is_an_empty_region(self) -> None:
        image, _ = micrograph((80, 60, 20))
        assert not segment(image, Prompts((Click(5, 5, False),))).mask.any()
        assert not segment(image, Prompts()).mask.any()
        assert not segment(image, Prompts((Click(500, 5),))).mask.any()

    def test_not_a_number_is_a_grey_like_another(self) -> None:
        image = np.full(SHAPE, np.nan, np.float32)
        assert segment(image, Prompts((Click(5, 5),))).mask[5, 5] == 1

    def test_arrays_that_do_not_fit_are_refused(self) -> None:
        with pytest.raises(ValueError, match="grey"):
            segment(np.zeros((4, 4, 3)), Prompts((Click(1, 1),)))
        with pytest.raises(ValueError, match="do not fit"):
            segment(np.zeros((4, 4)), Prompts((Click(1, 1),)), np.zeros((2, 5, 4)))
        with pytest.raises(ValueError, match="stroke"):
            segment(np.zeros((4, 4)), Prompts(stroke=np.ones((5, 5), bool)))


class TestStateCache:
    def test_memory_is_bounded_and_the_newest_stays(self) -> None:
        one = ImageState.of(np.zeros((200, 200), np.uint8))
        cache = StateCache(int(one.nbytes * 2.5))
        for key in range(5):
            cache.get(key, lambda: ImageState.of(np.zeros((200, 200), np.uint8)))
        assert len(cache) == 2
        made: list[int] = []
        cache.get(4, lambda: made.append(4) or one)  # type: ignore[func-returns-value]
        assert made == []
        assert len(StateCache(1)) == 0

"""Dice + cross-entropy where not every pixel is spoken for."""

from __future__ import annotations

import numpy as np
import pytest
import segmentation_models_pytorch as smp
import torch

from training.fitting.losses import DiceCrossEntropy, class_weights

pytestmark = pytest.mark.fast


def batch(classes: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, 8, 8, generator=generator, requires_grad=True)
    truth = torch.randint(0, classes, (2, 8, 8), generator=generator)
    truth[:, :2] = 255
    return logits, truth


def test_ignored_pixels_have_no_say() -> None:
    logits, truth = batch()
    loss = DiceCrossEntropy(np.array([1.0, 2.0, 3.0]))
    other = logits.detach().clone()
    other[:, :, :2] = 17 * torch.randn(2, 3, 2, 8)
    torch.testing.assert_close(loss(logits, truth), loss(other, truth))
    loss(logits, truth).backward()
    assert logits.grad is not None
    assert not logits.grad[:, :, :2].any()
    assert logits.grad[:, :, 2:].any()


def test_a_batch_nobody_spoke_about_costs_nothing_and_has_a_gradient() -> None:
    logits, truth = batch()
    value = DiceCrossEntropy(np.ones(3))(logits, torch.full_like(truth, 255))
    value.backward()
    assert value.item() == 0
    assert logits.grad is not None
    assert not logits.grad.any()


def test_a_perfect_answer_costs_nearly_nothing_and_a_wrong_one_much() -> None:
    truth = batch()[1]
    sure = torch.nn.functional.one_hot(truth.where(truth != 255, 0), 3).permute(0, 3, 1, 2) * 50.0
    loss = DiceCrossEntropy(np.ones(3))
    assert loss(sure, truth).item() < 1e-3
    assert loss(sure.roll(1, dims=1), truth).item() > 2


def test_equal_weights_are_plain_cross_entropy() -> None:
    logits, truth = batch()
    loss = DiceCrossEntropy(np.ones(3))
    dice = smp.losses.DiceLoss(mode="multiclass", ignore_index=255)
    expected = torch.nn.functional.cross_entropy(logits, truth, ignore_index=255) + dice(logits, truth)
    torch.testing.assert_close(loss(logits, truth), expected)


def test_bfloat16_logits_are_summed_in_float32() -> None:
    logits, truth = batch()
    assert DiceCrossEntropy(np.ones(3))(logits.bfloat16(), truth).dtype == torch.float32


def test_rare_classes_weigh_more_but_not_without_bound() -> None:
    np.testing.assert_allclose(class_weights(np.array([1000, 500, 1, 0]), cap=3), [1, 2, 3, 1])
    np.testing.assert_allclose(class_weights(np.array([1000, 1]), cap=1), [1, 1])

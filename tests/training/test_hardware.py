"""What is left to `auto` follows the machine; what is set is left alone."""

from __future__ import annotations

import pytest

from training.config import BadConfig, load_config
from training.fitting.hardware import Hardware, resolved
from training.fitting.ranks import Ranks

pytestmark = pytest.mark.fast

CPU = Hardware("cpu", cores=8)
AUTO = {"crop": "auto", "batch_size": "auto"}


def gpu(gib: float, **more: int) -> Hardware:
    return Hardware("cuda", cores=16, gpu_gib=gib, bfloat16=True, compiler=True, **({"gpus": 1} | more))


def test_on_a_cpu() -> None:
    found = resolved(load_config("default"), CPU, Ranks())
    assert (found.device, found.crop, found.batch_size) == ("cpu", 256, 4)
    assert (found.workers, found.compile, found.precision) == (0, False, "float32")


@pytest.mark.parametrize(("gib", "crop", "batch"), [(6, 256, 16), (8, 512, 4), (24, 512, 16), (80, 512, 32)])
def test_a_gpu_is_filled_as_far_as_its_memory_goes(gib: float, crop: int, batch: int) -> None:
    found = resolved(load_config("default", AUTO), gpu(gib), Ranks())
    assert (found.device, found.crop, found.batch_size) == ("cuda", crop, batch)
    assert (found.workers, found.precision) == (8, "bfloat16")


def test_compiling_must_pay_within_the_budget() -> None:
    assert not resolved(load_config("default", ["minutes=5"]), gpu(24), Ranks()).compile
    assert resolved(load_config("default", ["minutes=60"]), gpu(24), Ranks()).compile


def test_what_is_set_is_left_alone() -> None:
    settings = ["crop=128", "batch_size=6", "workers=3", "compile=false", "precision=float32", "minutes=60"]
    found = resolved(load_config("default", settings), gpu(24), Ranks())
    assert (found.crop, found.batch_size, found.workers) == (128, 6, 3)
    assert (found.compile, found.precision) == (False, "float32")


def test_nothing_is_left_to_auto_but_the_mode() -> None:
    found = resolved(load_config("default"), CPU, Ranks())
    assert [name for name, value in found if value == "auto"] == ["mode"]
    assert type(found).model_validate(found.model_dump()) == found


def test_processes_share_the_cores_and_each_brings_a_batch() -> None:
    found = resolved(load_config("default", AUTO), gpu(24, gpus=4), Ranks(1, 4, 4))
    assert (found.batch_size, found.workers) == (4 * 16, 3)


def test_gpus_that_are_not_there_are_not_shared() -> None:
    with pytest.raises(BadConfig, match=r"`devices` is 4, but torch sees 1 GPU here; set it to 1"):
        resolved(load_config("default"), gpu(24), Ranks(0, 4, 4))

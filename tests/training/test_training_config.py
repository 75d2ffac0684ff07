"""Presets, what is set on top of them, and what is said about mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from training.config import BadConfig, TrainingConfig, load_config, presets, resolve
from training.config_text import commented

pytestmark = pytest.mark.fast


@pytest.mark.parametrize("preset", presets())
def test_every_preset_is_a_valid_configuration(preset: str) -> None:
    assert load_config(preset).encoder


@pytest.mark.parametrize("name", ["crop", "batch_size", "workers", "compile", "precision", "device", "mode"])
def test_what_follows_the_device_may_be_left_to_it_in_so_many_words(name: str) -> None:
    assert getattr(load_config("test", [f"{name}=auto"]), name) == "auto"


def test_the_presets_that_are_promised_are_there() -> None:
    assert {"quick", "default", "best", "gpu", "test"} <= set(presets())


def test_every_setting_is_documented() -> None:
    undocumented = [name for name, field in TrainingConfig.model_fields.items() if not field.description]
    assert not undocumented


def test_texts_and_mappings_set_the_same_things() -> None:
    texts = load_config("test", ["lr=1e-4", "augmentation.noise=0", "options.decoder_use_norm=false"])
    mapping = {"lr": 1e-4, "augmentation": {"noise": 0}, "options.decoder_use_norm": False}
    assert texts == load_config("test", mapping)
    assert texts.lr == 1e-4
    assert texts.options == {"decoder_channels": [64, 32, 16, 16, 8], "decoder_use_norm": False}


def test_what_is_not_set_stays_as_the_preset_has_it() -> None:
    assert load_config("test", {"augmentation.noise": 0.01}).augmentation.blur == 1.5


def test_a_preset_may_be_ones_own_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text("minutes: 7\naugmentation: {noise: 0.01}\n")
    assert load_config(str(path)).minutes == 7


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("lr=-1", "`lr` is -1; it must be greater than 0; typical: 1e-4 to 1e-3."),
        ("lr=fast", "`lr` is 'fast'; it must be a number; typical: 1e-4 to 1e-3."),
        ("minuts=3", "There is no setting `minuts`; did you mean `minutes`?"),
        (
            "augmentation.noize=0",
            "There is no setting `augmentation.noize`; did you mean `augmentation.noise`?",
        ),
        ("max_steps=1.5", "`max_steps` is 1.5; it must be a whole number"),
        ("minutes=.nan", "`minutes` is nan; it must be a finite number"),
        ("precision=fp8", "`precision` is 'fp8'; it must be 'auto', 'float32' or 'bfloat16'."),
        ("input_depth=2", "`input_depth` must be odd"),
        ("augmentation.scale=[2, 1]", "`augmentation.scale` must be two numbers"),
        ("augmentation=3", "`augmentation` is 3; it must be a block of settings"),
        ("minutes", "`minutes` sets nothing; write `name=value`"),
        ("minutes=[", "The value in `minutes=[` cannot be read"),
    ],
)
def test_a_mistake_is_explained_in_a_sentence(override: str, said: str) -> None:
    with pytest.raises(BadConfig) as caught:
        load_config("test", [override])
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_every_mistake_is_named_at_once() -> None:
    with pytest.raises(BadConfig, match=r"`lr` is 0.*`workers` is -1"):
        load_config("test", ["lr=0", "workers=-1"])


def test_an_unknown_preset_names_the_known_ones() -> None:
    with pytest.raises(BadConfig, match=r"no preset 'fast'.*default.*quick"):
        load_config("fast")


@pytest.mark.parametrize("content", ["- 1\n", "a: [\n", "\x00"])
def test_a_preset_file_that_is_none_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(content)
    with pytest.raises(BadConfig, match=r"mine\.yaml"):
        load_config(str(path))


def test_the_environment_is_stronger_than_the_preset_and_weaker_than_the_command_line() -> None:
    environment = {
        "SRPU_TRAINING__LR": "1e-4",
        "SRPU_TRAINING__AUGMENTATION__NOISE": "0.01",
        "SRPU_TRAINING__MINUTES": "9",
        "SRPU_TRAINING": "{}",
    }
    found = resolve("test", ["minutes=3"], environment)
    assert (found.config.lr, found.config.augmentation.noise, found.config.minutes) == (1e-4, 0.01, 3)
    assert found.origins["lr"] == "SRPU_TRAINING__LR"
    assert found.origins["augmentation.noise"] == "SRPU_TRAINING__AUGMENTATION__NOISE"
    assert found.origins["minutes"] == "command line"
    assert found.origins["encoder"] == "preset test"
    assert "seed" not in found.origins


def test_the_explained_configuration_is_a_preset_again(tmp_path: Path) -> None:
    found = resolve("test", ["augmentation.noise=0.01", "max_steps=null"], {"SRPU_TRAINING__LR": "1e-4"})
    text = commented(found.config, found.origins)
    (tmp_path / "mine.yaml").write_text(text)
    assert load_config(str(tmp_path / "mine.yaml")) == found.config
    assert "lr: 0.0001  # SRPU_TRAINING__LR" in text
    assert "  noise: 0.01  # command line" in text
    assert "seed: 0  # built-in default" in text
    assert "# Side of a training crop in px;" in text
    assert "Typical: 1e-4 to 1e-3." in text


def test_a_mistake_in_the_environment_names_the_variable() -> None:
    with pytest.raises(BadConfig, match=r"`lr` is -1; .*\(It is set by SRPU_TRAINING__LR\.\)"):
        load_config("test", environment={"SRPU_TRAINING__LR": "-1"})


@pytest.mark.parametrize(
    "overrides",
    [
        ["mode=scratch", "weights=imagenet"],
        ["mode=finetune_frozen", "weights=none"],
        ["mode=finetune_differential", "weights=none"],
        ["unfreeze_at=0.5"],
    ],
)
def test_settings_that_contradict_each_other_are_refused_with_a_way_out(overrides: list[str]) -> None:
    with pytest.raises(BadConfig, match=r"`mode`.*; set `(weights|mode)` to"):
        load_config("quick", overrides)


def test_who_asks_for_a_training_from_scratch_need_not_undo_the_presets_weights(tmp_path: Path) -> None:
    assert load_config("quick", ["mode=scratch"]).weights == "none"
    (tmp_path / "mine.yaml").write_text("mode: scratch\nweights: imagenet\n")
    with pytest.raises(BadConfig, match="scratch"):
        load_config(str(tmp_path / "mine.yaml"))
    with pytest.raises(BadConfig, match="scratch"):
        load_config(str(tmp_path / "mine.yaml"), environment={"SRPU_TRAINING__WEIGHTS": "imagenet"})

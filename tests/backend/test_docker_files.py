"""The image and the compose file are what docs/docker.md promises, as far as that shows without an engine."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from docker_files import COMPOSE, ROOT, compose, copied, environment, example_variables, stages, whole

from srpu_backend.settings import Settings

pytestmark = pytest.mark.fast
_OF_THE_IMAGE = {"HF_HUB_OFFLINE", "SRPU_ROLE"}


def known_variables() -> set[str]:
    """Every environment variable the settings read."""
    aliases = [field.validation_alias for field in Settings.model_fields.values()]
    return {str(name) for alias in aliases for name in getattr(alias, "choices", ())}


@pytest.mark.parametrize("target", ["cpu", "cuda"])
def test_an_image_runs_as_nobody_special_and_says_how_it_is(target: str) -> None:
    words = [word for word, _ in whole(target)]
    assert ("USER", "srpu") in whole(target)
    assert {"HEALTHCHECK", "CMD", "EXPOSE", "VOLUME"} <= set(words)
    final = " ".join(rest for word, rest in whole(target) if word == "RUN")
    assert not re.search(r"apt|gcc|build-essential|pip install", final), (
        "building belongs to the build stages"
    )
    assert "ADD" not in words


def test_packages_come_from_the_requirements_alone() -> None:
    for name in ("build-cpu", "build-cuda"):
        installs = " ".join(rest for word, rest in stages()[name] if word == "RUN")
        assert "pip install -r /build/requirements.txt" in installs


def test_everything_copied_is_there_and_nothing_else_is_sent_to_the_builder() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    for source, _ in copied():
        assert (ROOT / source).exists(), source
        assert source in allowed
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


def test_state_and_weights_lie_on_volumes() -> None:
    variables = environment("cpu")
    volumes = next(rest for word, rest in whole("cpu") if word == "VOLUME")
    assert variables["MODEL_DIR"] in volumes
    assert variables["HF_HOME"] in volumes


def test_label_studio_is_the_version_the_tests_run_against() -> None:
    makefile = (ROOT / "Makefile").read_text()
    version = re.search(r"LABEL_STUDIO_VERSION := (\S+)", makefile)
    assert version is not None
    assert compose()["services"]["label-studio"]["image"].endswith(f":{version[1]}")


def test_every_variable_of_compose_is_in_the_example_and_the_other_way_round() -> None:
    used = set(re.findall(r"\$\{(\w+)", COMPOSE.read_text(encoding="utf-8")))
    offered = set(example_variables())
    assert used | {"COMPOSE_PROFILES"} == offered


def test_every_variable_handed_to_srpu_is_one_it_reads() -> None:
    for name in ("backend", "trainer", "trainer-gpu"):
        handed = set(compose()["services"][name]["environment"])
        assert handed - _OF_THE_IMAGE <= known_variables()


def test_the_services_fit_together() -> None:
    content = compose()
    services = content["services"]
    declared = set(content["volumes"])
    for service in services.values():
        assert set(service.get("depends_on", [])) <= set(services)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in declared or (COMPOSE.parent / source).exists()
        for port in service.get("ports", []):
            assert ":-127.0.0.1:" in port, "nothing is open to the network unless somebody says so"
    shared = [services[name]["volumes"] for name in ("backend", "trainer", "trainer-gpu")]
    assert shared[0] == shared[1] == shared[2]
    assert services["trainer"]["profiles"] == ["cpu"]
    assert services["trainer-gpu"]["profiles"] == ["gpu"]
    assert "profiles" not in services["backend"]
    assert services["trainer-gpu"]["build"]["target"] == "cuda"


def test_label_studio_may_call_a_backend_at_a_private_address_and_no_metadata_service() -> None:
    environment = compose()["services"]["label-studio"]["environment"]
    assert environment["USE_DEFAULT_BANNED_SUBNETS"] == "false"
    assert "169.254.0.0/16" in environment["USER_ADDITIONAL_BANNED_SUBNETS"]


def test_no_secret_has_a_default(tmp_path: Path) -> None:
    for name, value in example_variables().items():
        if re.search("PASS|SECRET|KEY|TOKEN", name):
            assert value == "", name

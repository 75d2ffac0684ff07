"""The Docker files, read as far as the tests need."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
COMPOSE = ROOT / "docker" / "docker-compose.yml"
ENV_EXAMPLE = ROOT / "docker" / ".env.example"

Instruction = tuple[str, str]


def stages() -> dict[str, list[Instruction]]:
    """The instructions of each stage, by its name; the first is FROM."""
    text = DOCKERFILE.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    found: dict[str, list[Instruction]] = {}
    current: list[Instruction] = []
    for line in joined.splitlines():
        word, _, rest = line.strip().partition(" ")
        if word == "FROM":
            current = found.setdefault(rest.split(" AS ")[1], [])
        current.append((word, re.sub(r"\s+", " ", rest)))
    return found


def whole(name: str) -> list[Instruction]:
    """The instructions of a stage and of those it is made from."""
    parts = stages()
    parent = parts[name][0][1].split(" AS ")[0]
    return (whole(parent) if parent in parts else []) + parts[name]


def copied() -> list[tuple[str, str]]:
    """(source, destination) of everything the image takes from the checkout, destinations below /srpu."""
    pairs = []
    for word, rest in stages()["base"]:
        if word == "COPY" and not rest.startswith("--from"):
            *sources, destination = rest.split()
            several = len(sources) > 1
            pairs += [(source, f"{destination}/{source}" if several else destination) for source in sources]
    return pairs


def environment(name: str) -> dict[str, str]:
    """What ENV sets in a stage and those before it."""
    found: dict[str, str] = {}
    for word, rest in whole(name):
        if word == "ENV":
            found |= dict(re.findall(r"(\w+)=(\S+)", rest))
    return found


def command(name: str, word: str) -> list[str]:
    """The last CMD or HEALTHCHECK of a stage, as a list."""
    last = [rest for instruction, rest in whole(name) if instruction == word][-1]
    parsed: list[str] = json.loads(last[last.index("[") :])
    return parsed


def compose() -> dict[str, Any]:
    """docker-compose.yml, its merges resolved."""
    content: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return content


def example_variables() -> dict[str, str]:
    """What .env.example sets."""
    lines = ENV_EXAMPLE.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if re.match(r"[A-Z_]+=", line))

"""What happens in the trainer, told as it happens."""

from __future__ import annotations

from collections.abc import Callable

from srpu_backend.projects import Projects

_STEP = 0.25
"""Share of a training after which it is mentioned again."""


class News:
    """Tells of one project whatever is new since it told last."""

    def __init__(self, projects: Projects, project_id: int, say: Callable[[str], object]) -> None:
        self._projects = projects
        self._id = project_id
        self._say = say
        self._told = self._current()

    def tell(self) -> None:
        """Say what changed, if anything did."""
        current = self._current()
        if current != self._told:
            self._told = current
            _, message, _, share = current
            self._say(message if share is None else f"{message} ({share:.0%})")

    def _current(self) -> tuple[str, str, int, float | None]:
        state = self._projects.get(self._id).state()
        share = None if state.fraction is None else int(state.fraction / _STEP) * _STEP
        return state.stage, f"[{state.stage}] {state.message}", state.labelled, share

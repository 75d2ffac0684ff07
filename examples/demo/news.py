"""What happens in the trainer, told as it happens."""

from __future__ import annotations

from collections.abc import Callable

from srpu_backend.projects import Projects

STEP = 0.25
"""Share of a stage after which it is mentioned again."""


class News:
    """Tells of one project whatever is new since it told last."""

    def __init__(self, projects: Projects, project_id: int, say: Callable[[str], object]) -> None:
        self._projects = projects
        self._id = project_id
        self._say = say
        self._told: tuple[str, object] = ("idle", "")

    def tell(self) -> None:
        """Say which stage began, how far it is, or how it ended, unless that was said before."""
        state = self._projects.get(self._id).state()
        resting = state.stage in ("idle", "failed")
        share = int((state.fraction or 0) / STEP) * STEP
        current = (state.stage, state.message if resting else share)
        if current != self._told and state.message:
            self._told = current
            shown = f" ({share:.0%})" if share and not resting else ""
            self._say(f"[{state.stage}] {state.message}{shown}")

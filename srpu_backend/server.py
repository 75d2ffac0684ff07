"""gunicorn with our settings: what `python _wsgi.py` and `python -m srpu_backend serve` run."""

from __future__ import annotations

from typing import Any

from gunicorn.app.base import BaseApplication
from gunicorn.glogging import Logger

from srpu_backend.logs import configure_logging
from srpu_backend.settings import Settings

SECONDS_TO_FINISH = 100
"""A stopping worker finishes its requests; Label Studio waits no longer than that either."""


class OurLog(Logger):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn's own messages, in our form and place."""

    def setup(self, cfg: Any) -> None:
        """Called by gunicorn: leave everything to the root logger."""
        super().setup(cfg)
        self.error_log.handlers.clear()
        self.error_log.propagate = True


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn has no types
    """gunicorn, configured from the settings alone; the application is made in each worker."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        super().__init__()

    def load_config(self) -> None:
        """Called by gunicorn: what the settings say."""
        for name, value in self._options().items():
            self.cfg.set(name, value)

    def load(self) -> Any:
        """Called by gunicorn in each worker: the application."""
        # Imported here, after the fork: threads that libraries start when imported do not survive one.
        from srpu_backend.app import create_app
        from srpu_backend.jobs import JobClient

        jobs = JobClient(self._settings)
        jobs.warm_up()
        return create_app(self._settings, jobs=jobs)

    def _options(self) -> dict[str, Any]:
        return {
            "bind": f"{self._settings.host}:{self._settings.port}",
            "worker_class": "gthread",
            "workers": self._settings.workers,
            "threads": self._settings.threads,
            "timeout": 0,  # a prediction may take minutes; /predict has its own deadline
            "graceful_timeout": SECONDS_TO_FINISH,
            "keepalive": 5,
            "control_socket_disable": True,
            "logger_class": "srpu_backend.server.OurLog",
        }


def serve(settings: Settings) -> int:
    """Serve until stopped."""
    configure_logging(settings)
    Server(settings).run()
    return 0

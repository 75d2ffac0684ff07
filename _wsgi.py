"""The web process: `gunicorn --threads 16 _wsgi:app`, or `python _wsgi.py`, which obeys HOST and PORT."""

from __future__ import annotations

import sys

from model_zoo.errors import SRPUError
from srpu_backend.logs import configure_logging
from srpu_backend.settings import read_settings

try:
    settings = read_settings()
except SRPUError as error:
    sys.exit(str(error))

if __name__ == "__main__":
    from srpu_backend.server import serve

    sys.exit(serve(settings))
else:
    from srpu_backend.app import create_app

    configure_logging(settings)
    app = create_app(settings)

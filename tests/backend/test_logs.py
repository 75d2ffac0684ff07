"""Logs: one line an event, the request's id, no secrets."""

from __future__ import annotations

import io
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from srpu_backend.logs import configure_logging, request_id
from srpu_backend.settings import Settings

pytestmark = pytest.mark.fast


@pytest.fixture
def output(tmp_path: Path) -> Iterator[io.StringIO]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    stream = io.StringIO()
    settings = Settings(model_dir=tmp_path, label_studio_api_key=SecretStr("k"), log_level="INFO")
    configure_logging(settings.model_copy(update={"basic_auth_pass": SecretStr("open sesame")}), stream)
    yield stream
    root.handlers, root.level = handlers, level


def test_a_traceback_is_folded_into_the_line(output: io.StringIO) -> None:
    try:
        raise ValueError("first\nsecond")
    except ValueError:
        logging.getLogger("srpu_backend.test").exception("it failed")
    (line,) = output.getvalue().splitlines()
    assert "it failed" in line
    assert "ValueError: first\\nsecond" in line


def test_the_request_is_named(output: io.StringIO) -> None:
    token = request_id.set("abc123")
    logging.getLogger("srpu_backend.test").info("hello")
    request_id.reset(token)
    assert "srpu_backend.test [abc123] hello" in output.getvalue()


@pytest.mark.parametrize(
    "text",
    [
        "with open sesame inside",
        "Authorization: Token 0123456789abcdef0123456789abcdef01234567",
        "Authorization: Bearer eyJhbGciOi.eyJzdWIi.abc-_",
        '{"access_token": "0123456789abcdef0123456789abcdef01234567"}',
        "http://host/x?token=0123456789abcdef",
        "{'refresh': 'eyJhbGciOi.eyJzdWIi'}",
    ],
)
def test_secrets_are_masked(output: io.StringIO, text: str) -> None:
    logging.getLogger("srpu_backend.test").warning("%s", text)
    line = output.getvalue()
    assert "********" in line
    assert not any(part in line for part in ("open sesame", "0123456789abcdef", "eyJ"))


def test_a_secret_of_one_letter_does_not_blank_the_log(output: io.StringIO) -> None:
    logging.getLogger("srpu_backend.test").warning("kept as it is")
    assert "kept as it is" in output.getvalue()

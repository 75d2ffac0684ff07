"""The one place where the environment is read: a strict object, read once, secrets masked."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from model_zoo.errors import SRPUError


class BadSettings(SRPUError):
    """An environment variable that cannot be used."""


def _as(*names: str) -> AliasChoices:
    return AliasChoices(*names)


class Settings(BaseSettings):
    """Every variable SRPU reads. Names are Label Studio's own where it has them, else `SRPU_…`."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    model_dir: Path = Field(default=Path("data/srpu"), validation_alias=_as("MODEL_DIR"))
    """Holds all state; share it between backend and trainer."""
    host: str = Field(default="127.0.0.1", validation_alias=_as("SRPU_HOST"))
    port: int = Field(default=9090, ge=1, le=65535, validation_alias=_as("PORT"))
    workers: int = Field(default=1, ge=1, validation_alias=_as("WORKERS"))
    """Web processes; each holds its own champions in memory."""
    threads: int = Field(default=16, ge=2, validation_alias=_as("THREADS"))
    """Requests a web process serves at once; half of them are kept free of /predict, for /health."""
    loaded_models: int = Field(default=4, ge=1, validation_alias=_as("SRPU_LOADED_MODELS"))
    """Champions a process keeps in memory; the one used longest ago makes room."""
    max_request_bytes: int = Field(default=256 * 2**20, ge=1, validation_alias=_as("SRPU_MAX_REQUEST_BYTES"))
    """Longest request body; Label Studio sends all tasks with all their regions in one /predict."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", validation_alias=_as("LOG_LEVEL")
    )

    label_studio_url: str = Field(default="", validation_alias=_as("LABEL_STUDIO_URL", "LABEL_STUDIO_HOST"))
    """When set, the only Label Studio we talk to; else the one that called /setup."""
    label_studio_api_key: SecretStr = Field(
        default=SecretStr(""), validation_alias=_as("LABEL_STUDIO_API_KEY")
    )
    """Legacy token or personal access token; else the one /setup sent."""
    basic_auth_user: str = Field(default="", validation_alias=_as("BASIC_AUTH_USER"))
    basic_auth_pass: SecretStr = Field(default=SecretStr(""), validation_alias=_as("BASIC_AUTH_PASS"))
    webhook_secret: SecretStr = Field(default=SecretStr(""), validation_alias=_as("SRPU_WEBHOOK_SECRET"))
    """Expected in `X-SRPU-Secret` on webhooks; empty: one is generated and kept in MODEL_DIR."""

    allowed_image_hosts: str = Field(default="", validation_alias=_as("SRPU_ALLOWED_IMAGE_HOSTS"))
    """Comma-separated `host` or `host:port` besides Label Studio's own."""
    allowed_image_folders: str = Field(default="", validation_alias=_as("SRPU_ALLOWED_IMAGE_FOLDERS"))
    """Colon-separated folders from which originals (`data.original`) may be read directly."""
    max_image_bytes: int = Field(default=512 * 2**20, ge=1, validation_alias=_as("SRPU_MAX_IMAGE_BYTES"))
    max_image_pixels: int = Field(
        default=20_000 * 20_000, ge=1, validation_alias=_as("SRPU_MAX_IMAGE_PIXELS")
    )
    image_timeout: float = Field(default=30.0, gt=0, validation_alias=_as("SRPU_IMAGE_TIMEOUT"))
    """Seconds to fetch one image."""
    predict_deadline: float = Field(default=80.0, gt=0, validation_alias=_as("SRPU_PREDICT_DEADLINE"))
    """Seconds after which /predict answers what it has; Label Studio gives up at 100."""

    jobs_url: str = Field(default="", validation_alias=_as("SRPU_JOBS_URL"))
    """Database of the durable workflows; empty: `sqlite:///MODEL_DIR/jobs.sqlite`."""
    debounce: float = Field(default=5.0, ge=0, validation_alias=_as("SRPU_DEBOUNCE"))
    """Seconds of quiet after an annotation before a run starts."""
    reconcile_interval: float = Field(default=60.0, gt=0, validation_alias=_as("SRPU_RECONCILE_INTERVAL"))
    """Seconds between two pulls of every project."""
    first_training_after: int = Field(default=2, ge=1, validation_alias=_as("SRPU_FIRST_TRAINING_AFTER"))
    """Labelled tasks before the first training."""
    retrain_growth: float = Field(default=0.05, ge=0, validation_alias=_as("SRPU_RETRAIN_GROWTH"))
    """Share of new labels (at least one) after which a new challenger is trained."""
    holdout_share: float = Field(default=0.25, ge=0, lt=1, validation_alias=_as("SRPU_HOLDOUT_SHARE"))
    min_holdout_images: int = Field(default=3, ge=1, validation_alias=_as("SRPU_MIN_HOLDOUT_IMAGES"))
    """Below this the gate says "not enough to judge"."""
    choose_engine: bool = Field(default=True, validation_alias=_as("SRPU_CHOOSE_ENGINE"))
    """Measure what serves a new model fastest before it is judged; off: ONNX Runtime serves."""
    strategy: str = Field(default="hybrid", validation_alias=_as("SRPU_STRATEGY"))
    """How the tasks to label next are chosen; see docs/active-learning.md."""
    label_batch: int = Field(default=20, ge=1, le=10_000, validation_alias=_as("SRPU_LABEL_BATCH"))
    """Tasks chosen at once; when half of them are labelled, the batch is filled up."""
    preset: str = Field(default="default", validation_alias=_as("SRPU_PRESET"))
    training_overrides: str = Field(default="", validation_alias=_as("SRPU_TRAINING"))
    """JSON object merged over the preset, such as `{"minutes": 2, "encoder": "resnet18"}`."""

    @cached_property
    def jobs_database(self) -> str:
        """SQLAlchemy URL of the workflow database."""
        return self.jobs_url or f"sqlite:///{(self.model_dir / 'jobs.sqlite').absolute()}"


def read_settings() -> Settings:
    """Settings from the environment; raises `BadSettings` with one sentence per bad variable."""
    try:
        return Settings()
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise BadSettings(f"These environment variables cannot be used: {problems}.") from None

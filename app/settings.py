"""Every setting of the service, read from `KENSOR_*` variables (or a `.env` file)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import platformdirs
from pydantic import AfterValidator, Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

MIB = 2**20
DEVICES = r"^(cpu|cuda(:\d+)?|xpu|mps)$"


def _address(value: str) -> str:
    """Raises ValueError."""
    parts = urlsplit(value)
    plain = not (parts.query or parts.fragment or "@" in parts.netloc or any(c.isspace() for c in value))
    if not (plain and parts.scheme in ("http", "https") and parts.hostname) or parts.port == 0:
        raise ValueError("must read http://host:port/path or https://…")
    return value


Folder = Annotated[Path, AfterValidator(lambda path: path.expanduser().absolute())]


class Settings(BaseSettings):
    """One frozen set of values; `create_app` and `run_worker` take it and read no environment themselves."""

    model_config = SettingsConfigDict(
        env_prefix="KENSOR_", env_file=".env", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    home: Folder | None = None
    """Weights and exported graphs; may be purged. Default: the platform's cache folder."""
    data: Folder = Field(default_factory=lambda: Path(platformdirs.user_data_dir("kensor")))
    """Recipes, pictures, maps, the SQLite file: the record."""
    database_url: str | None = None
    """`postgresql://…`; default: SQLite in `data`."""
    store_url: str | None = None
    """Any fsspec URL for pictures and maps; default: `data/objects`."""
    admin_key: SecretStr | None = Field(default=None, min_length=16)
    """A key with the role `admin` that is not in the database: the first one."""
    host: str = "127.0.0.1"
    port: int = Field(default=8000, ge=0, le=65535)
    no_worker: bool = False
    """Do not start a worker child with the service."""

    max_upload_mib: int = Field(default=64, ge=1)
    """One picture's file."""
    max_body_mib: int = Field(default=1024, ge=1)
    """One whole request (many pictures, a recipe)."""
    max_megapixels: int = Field(default=100, ge=1)
    queue_length: int = Field(default=64, ge=1)
    """Pictures waiting for the expert; one more is answered 429."""
    queue_mib: int = Field(default=512, ge=1)
    """Bytes of those pictures; past them, too, the next is answered 429."""
    inference_threads: int = Field(default=1, ge=1)
    """Pictures judged at the same time."""
    backbone_threads: int = Field(default=1, ge=1)
    """Threads inside one judgement."""
    device: str = Field(default="cpu", pattern=DEVICES)
    """Where the experts' backbones run; an accelerator is torch's."""
    pool_mib: int = Field(default=1024, ge=1)
    """Loaded recipes; the least recently used leave first."""
    lease_seconds: float = Field(default=30.0, gt=0)
    """A job whose worker has been silent for so long is given to another."""
    poll_seconds: float = Field(default=0.5, gt=0)
    """How often a worker with nothing to do looks for a job."""
    chunk: int = Field(default=16, ge=1)
    """Pictures per commit in a re-inspection."""

    lmm_weights: Folder | None = None
    """The built-in model's trained parts, as `kensor train-lmm` writes them; default: those that come with the program."""
    engine_timeout: float = Field(default=60.0, gt=0, le=3600)
    """Seconds one reply of `transformers` or `openai` may take."""
    transformers_model: str | None = Field(default=None, min_length=1)
    """Folder or hub name of an image-text-to-text model in safetensors: turns the engine `transformers` on."""
    transformers_device: str = Field(default="cpu", pattern=DEVICES)
    transformers_download: bool = False
    """A hub name may be fetched from the hub; otherwise it must be in its cache."""
    openai_url: Annotated[str, AfterValidator(_address)] | None = None
    """Base address of an OpenAI-compatible server, such as `http://host:8000/v1`: with a model, turns the engine `openai` on."""
    openai_model: str | None = Field(default=None, min_length=1)
    openai_key: SecretStr | None = None
    openai_at_once: int = Field(default=4, ge=1, le=64)
    """Questions the server is given at the same time; eight more wait."""

    @property
    def engines(self) -> tuple[str, ...]:
        """The engines that may be asked."""
        on = {"transformers": self.transformers_model, "openai": self.openai_url and self.openai_model}
        return ("builtin", *(name for name, value in on.items() if value))

    @property
    def url(self) -> str:
        """The database, as SQLAlchemy wants it named."""
        if self.database_url is None:
            return f"sqlite:///{self.data / 'kensor.sqlite'}"
        return self.database_url.replace("postgres://", "postgresql://", 1).replace("postgresql://", "postgresql+psycopg://", 1)

    @property
    def recipes(self) -> Path:
        """Recipe folders, each named by its digest."""
        return self.data / "recipes"

    def export(self) -> None:
        """Tell what models/ reads from the environment, here and in child processes, also where a `.env` file said it."""
        if self.home is not None:
            os.environ["KENSOR_HOME"] = str(self.home)
        if self.device != "cpu":
            os.environ["KENSOR_DEVICE"] = self.device

    def environment(self) -> dict[str, str]:
        """The variables that make the same settings again in a child process."""
        values = {name: value for name, value in self.model_dump().items() if value is not None}
        shown = {n: v.get_secret_value() if isinstance(v, SecretStr) else str(v) for n, v in values.items()}
        return {f"KENSOR_{name.upper()}": value for name, value in shown.items()}

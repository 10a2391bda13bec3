"""Which engines answer questions: `builtin`, and those that the settings name."""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import closing
from typing import Any

from app.errors import Invalid
from app.language import Language, LanguageProcess, Progress, Remote
from app.settings import Settings
from app.turns import LanguageBusy, LanguageTimeout, LanguageUnavailable, Turns
from models.lmm.engines import Engine
from models.lmm.errors import EngineError
from models.lmm.openai_engine import OpenAIEngine
from models.lmm.prompt import Prompt

TRANSFORMERS = "models.lmm.transformers_engine:TransformersEngine"
NEEDS = {"transformers": "KENSOR_TRANSFORMERS_MODEL", "openai": "KENSOR_OPENAI_URL and KENSOR_OPENAI_MODEL"}
LOADING = 600.0
"""Seconds a large model may take to be loaded."""


def check(settings: Settings, name: str) -> None:
    """Raises `Invalid` (`unknown_engine`, `engine_off`) for an engine that cannot be asked."""
    if name in settings.engines:
        return
    if name in NEEDS:
        raise Invalid(f"The engine `{name}` is off; set {NEEDS[name]}.", code="engine_off", engine=name)
    known = ", ".join(settings.engines)
    raise Invalid(f"There is no engine `{name[:100]}`; there is {known}.", code="unknown_engine", engines=list(settings.engines))


def longest(settings: Settings) -> float:
    """Seconds that no answer takes: a turn waited for, then loaded, said and given up twice, by the slowest engine; and spare."""
    return 3 * (LOADING + settings.engine_timeout) + LOADING


def opened(settings: Settings) -> Language:
    """What answers questions, as the settings have it. Nothing is loaded or reached before the first question."""
    others: dict[str, Remote] = {}
    if "transformers" in settings.engines:
        others["transformers"] = LanguageProcess(
            TRANSFORMERS,
            timeout=settings.engine_timeout,
            patience=LOADING,
            grace=settings.engine_timeout,
            options=_options(settings),
            wants="pictures",
            online=settings.transformers_download,
        )
    if "openai" in settings.engines:
        others["openai"] = LanguageServer(_server(settings), at_once=settings.openai_at_once, patience=settings.engine_timeout)
    parts = {"folder": str(settings.lmm_weights)} if settings.lmm_weights else None
    return Language(LanguageProcess(options=parts), engines=others)


def in_process(settings: Settings, name: str, progress: Callable[[str], None]) -> Engine:
    """`transformers` or `openai` as the settings have it, in this process and without a queue: for an evaluation.

    Raises as `check`, and what `TransformersEngine` raises."""
    check(settings, name)
    if name == "openai":
        return _server(settings)
    from models.lmm.transformers_engine import TransformersEngine  # torch: seconds

    return TransformersEngine(progress, **_options(settings))


def _options(settings: Settings) -> dict[str, Any]:
    """What `TransformersEngine` is made from."""
    names = ("model", "device", "download")
    return {name: getattr(settings, f"transformers_{name}") for name in names}


def _server(settings: Settings) -> OpenAIEngine:
    assert settings.openai_url is not None and settings.openai_model is not None
    key = settings.openai_key.get_secret_value() if settings.openai_key else None
    return OpenAIEngine(settings.openai_url, settings.openai_model, key, timeout=settings.engine_timeout)


class LanguageServer:
    """An engine on a server, `at_once` questions at a time, some more waiting."""

    def __init__(self, engine: OpenAIEngine, *, at_once: int = 4, queue_size: int = 8, patience: float = 60.0) -> None:
        self._engine, self.turns = engine, Turns(at_once, queue_size, patience)
        self.name, self.sha256, self.wants = engine.name, engine.sha256, engine.wants

    def generate(self, prompt: Prompt, *, max_tokens: int = 64, progress: Progress | None = None) -> Generator[str, None, None]:
        """Yield the reply in pieces. Raises `LanguageBusy`, `LanguageTimeout`, `LanguageUnavailable`."""
        tell = progress or (lambda stage: None)
        with self.turns.turn(lambda: tell(None)):
            try:
                with closing(self._engine.generate(prompt, max_tokens=max_tokens, waiting=lambda: tell(None))) as pieces:
                    yield from pieces
            except EngineError as error:
                raise _refusal(error) from error

    def close(self) -> None:
        """Let no further question in."""
        self.turns.closed = True


def _refusal(error: EngineError) -> LanguageBusy | LanguageUnavailable:
    if error.code == LanguageBusy.code:
        return LanguageBusy(str(error), retry_after=error.retry_after, **error.details)
    kind = LanguageTimeout if error.code == LanguageTimeout.code else LanguageUnavailable
    return kind(str(error), code=error.code, **error.details)

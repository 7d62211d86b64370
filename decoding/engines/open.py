"""Engines by name; each one's library is imported only when it is opened."""

import difflib
import importlib.util
from collections.abc import Awaitable, Callable
from typing import Any

from decoding.engine import Engine
from decoding.errors import ConfigError
from decoding.host import OpenEngine
from decoding.models import ModelSource, resolve

ENGINES = ("vllm", "transformers")


def open_engine(
    model: str, engine: str = "auto", *, revision: str | None = None, trust_remote_code: bool = False, **options: Any
) -> OpenEngine:
    """Open an engine on a model; close it, or use it as a context manager.

    Args:
        model: An embedded model's name, a folder, or an id on the Hugging Face hub.
        engine: ``vllm``, ``transformers``, or ``auto``: vLLM where it is installed.
        revision: A branch, tag or commit on the hub.
        trust_remote_code: Let the model's own Python code run.
        options: What else the engine takes, by its own name (``gpu_memory_utilization=0.8``, ``slots=32``).

    Raises:
        ModelError: The model can't be found, fetched or loaded.
        ConfigError: There is no such engine or option, or its library is not installed.
    """
    name = engine_named(engine)
    return open_source(resolve(model, revision=revision, trust_remote_code=trust_remote_code), name, **options)


def open_source(source: ModelSource, engine: str, **options: Any) -> OpenEngine:
    """Open an engine, named as `engine_named` names it, on a model that was resolved before."""
    opener = _opener(engine)
    return OpenEngine(lambda: opener(source, **options))


def available_engines() -> list[str]:
    """Names of the engines whose libraries are installed, the preferred one first."""
    return [name for name in ENGINES if importlib.util.find_spec(name) is not None]


def engine_named(engine: str) -> str:
    """The engine that a name means: `auto` is the first that is installed. Raises ``ConfigError``."""
    installed = available_engines()
    if engine == "auto":
        if not installed:
            raise ConfigError("neither vllm nor transformers is installed: see Installing in the README")
        return installed[0]
    if engine not in ENGINES:
        close = difflib.get_close_matches(engine, ENGINES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(f"unknown engine {engine!r}: {hint}there are auto, {', '.join(ENGINES)}")
    if engine not in installed:
        raise ConfigError(f"the engine {engine!r} needs the package {engine}, which is not installed: see the README")
    return engine


def _opener(engine: str) -> Callable[..., Awaitable[Engine]]:
    if engine == "vllm":
        from decoding.engines.vllm import open_vllm

        return open_vllm
    from decoding.engines.transformers import open_transformers

    return open_transformers

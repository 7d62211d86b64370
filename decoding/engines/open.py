"""Engines by name; each one's library is imported only when it is opened."""

import difflib
import importlib.util
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from decoding.engine import Capability, Engine, Tokenizer
from decoding.errors import ConfigError
from decoding.host import OpenEngine
from decoding.models import ModelSource, load_tokenizer, model_shape, resolve

# The package that each needs; None: nothing but bethink.
ENGINES: Mapping[str, str | None] = MappingProxyType(
    {"vllm": "vllm", "transformers": "transformers", "openai": "aiohttp", "replay": None}
)
LOCAL = ("vllm", "transformers")  # they load weights; what `auto` chooses among


class Model(NamedTuple):
    """A model as prompts see it, known before anything is generated."""

    source: ModelSource
    tokenizer: Tokenizer
    context_length: int  # tokens; 0: unknown


def open_engine(
    model: str, engine: str = "auto", *, revision: str | None = None, trust_remote_code: bool = False, **options: Any
) -> OpenEngine:
    """Open an engine on a model; close it, or use it as a context manager.

    Args:
        model: An embedded model's name, a folder, or an id on the Hugging Face hub. For ``openai`` the server's name
            of the model (``auto``: the only one it serves), for ``replay`` the file of a recording.
        engine: ``vllm``, ``transformers``, ``openai``, ``replay``, or ``auto``: vLLM where it is installed.
        revision: A branch, tag or commit on the hub.
        trust_remote_code: Let the model's own Python code run.
        options: What else the engine takes, by its own name (``gpu_memory_utilization=0.8``, ``slots=32``,
            ``base_url="http://host:8000/v1"``). Any engine takes ``record=FILE``, which `replay` plays back.

    Raises:
        ModelError: The model can't be found, fetched or loaded.
        ConfigError: There is no such engine or option, or its library is not installed.
        EngineError: No server can be used, or the recording can't.
    """
    name = engine_named(engine)
    return open_source(find_source(model, name, revision, trust_remote_code), name, **options)


def open_source(source: ModelSource, engine: str, *, record: str | Path | None = None, **options: Any) -> OpenEngine:
    """Open an engine, named as `engine_named` names it, on a model that was resolved before."""
    opener = _opener(engine)

    async def opening() -> Engine:
        opened = await opener(source, **options)
        if record is None:
            return opened
        from decoding.engines.recording import Recorder

        try:
            return Recorder(opened, Path(record).expanduser(), _tokenizer_name(opened, source, options))
        except BaseException:
            await opened.aclose()
            raise

    return OpenEngine(opening)


def find_source(model: str, engine: str, revision: str | None = None, trust_remote_code: bool = False) -> ModelSource:
    """The model for an engine: found on this machine, or no more than its name where something else holds it."""
    if engine in LOCAL:
        return resolve(model, revision=revision, trust_remote_code=trust_remote_code)
    return ModelSource(name=model, path=model, revision=revision, trust_remote_code=trust_remote_code)


def describe(
    model: str, engine: str, options: Mapping[str, Any], *, revision: str | None = None, trust_remote_code: bool = False
) -> Model:
    """What has to be known to render prompts, without weights: servers are asked, recordings are read.

    `engine` is named as `engine_named` names it. Raises like `open_engine`.
    """
    source = find_source(model, engine, revision, trust_remote_code)
    if engine in LOCAL:
        return Model(source, load_tokenizer(source), model_shape(source).context_length)
    options = {key: value for key, value in options.items() if key != "record"}
    with open_source(source, engine, **options) as opened:
        info = opened.engine.info
        named = replace(source, name=info.model, revision=info.revision)
        return Model(named, opened.engine.tokenizer, info.context_length)


def available_engines() -> list[str]:
    """Names of the engines whose libraries are installed, the preferred one first."""
    return [name for name, package in ENGINES.items() if package is None or importlib.util.find_spec(package)]


def engine_named(engine: str) -> str:
    """The engine that a name means: `auto` is the first that is installed and loads weights. Raises ``ConfigError``."""
    installed = available_engines()
    if engine == "auto":
        usable = [name for name in LOCAL if name in installed]
        if not usable:
            raise ConfigError("neither vllm nor transformers is installed: see Installing in the README")
        return usable[0]
    if engine not in ENGINES:
        close = difflib.get_close_matches(engine, ENGINES, n=1)
        hint = f"did you mean {close[0]!r}? " if close else ""
        raise ConfigError(f"unknown engine {engine!r}: {hint}there are auto, {', '.join(ENGINES)}")
    if engine not in installed:
        package = ENGINES[engine]
        raise ConfigError(f"the engine {engine!r} needs the package {package}, which is not installed: see the README")
    return engine


def _opener(engine: str) -> Callable[..., Awaitable[Engine]]:
    if engine == "vllm":
        from decoding.engines.vllm import open_vllm

        return open_vllm
    if engine == "openai":
        from decoding.engines.openai.open import open_openai

        return open_openai
    if engine == "replay":
        from decoding.engines.replay import open_replay

        return open_replay
    from decoding.engines.transformers import open_transformers

    return open_transformers


def _tokenizer_name(engine: Engine, source: ModelSource, options: Mapping[str, Any]) -> str | None:
    """Whose tokenizer a recording needs; None for servers that speak text."""
    if Capability.TOKEN_IDS not in engine.info.capabilities:
        return None
    if "tokenizer" in options:
        return str(options["tokenizer"])
    name = engine.info.model if engine.info.engine == "openai" else source.name
    return str(Path(name).resolve()) if Path(name).is_dir() else name

"""Starting vLLM: what it is started with, and how its processes are kept quiet and from outliving their owner.

For the engine that generates and for the one that is read by judges. Whatever else vLLM can do (tensor, pipeline and
data parallelism, quantisation, its own speculative decoding) is passed through by name.
"""

import os
import sys
import tempfile
import threading
import types
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from decoding.engines.vllm_orphans import OWNER
from decoding.errors import ConfigError, ModelError
from decoding.models import ModelSource, model_shape

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM

CPU_DEFAULTS: dict[str, Any] = {
    "dtype": "float32",  # 2.5 times faster than bfloat16 on CPUs without bf16 instructions
    "enforce_eager": True,  # starts in a third of the time; compiled decodes about a fifth faster
    "enable_chunked_prefill": False,  # a seeded request caught in a chunked prefill crashes the CPU build
    "block_size": 32,  # the least; prompts shorter than a block never hit the prefix cache
    "max_num_seqs": 256,
}
QUIET = {
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_LOGGING_STREAM": "ext://sys.stderr",  # its processes' standard error goes to a file, see `started_quietly`
    "VLLM_NO_USAGE_STATS": "1",
    "TORCH_CPP_LOG_LEVEL": "ERROR",
}
CPU_KV_GIB = "2"
_STARTING = threading.Lock()  # standard error and the main module, which a start hides, are the whole process's


def start_vllm(source: ModelSource, options: Mapping[str, Any]) -> "tuple[AsyncLLM, Path]":
    """Start vLLM on a model; takes tens of seconds. Returns it and the file that its processes write to.

    `options` are `AsyncEngineArgs` fields, by name. Raises ``ConfigError`` for an unknown option, ``ModelError`` if
    vLLM can't load the model.
    """
    descriptor, name = tempfile.mkstemp(prefix=f"bethink-vllm-{os.getpid()}-", suffix=".log")
    os.close(descriptor)
    log = Path(name)
    with _STARTING, started_quietly(log):
        try:
            arguments = engine_arguments(source, options)
        except BaseException:
            log.unlink()
            raise
        from vllm.engine.arg_utils import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        try:
            return AsyncLLM.from_engine_args(AsyncEngineArgs(**arguments)), log
        except Exception as error:
            what = f"{type(error).__name__}: {error}"
            raise ModelError(f"vLLM could not start {source.name}: {what}\nIts log is {log}") from error


def stop_vllm(llm: "AsyncLLM", log: Path) -> None:
    """Stop vLLM's processes. Stopping twice does nothing."""
    llm.shutdown()
    # Its destructor shuts down again, which fails once the interpreter has begun to end.
    llm.shutdown = lambda timeout=None: None
    log.unlink(missing_ok=True)


def engine_arguments(source: ModelSource, options: Mapping[str, Any]) -> dict[str, Any]:
    """What vLLM is started with: our defaults for this kind of machine, and over them the user's options."""
    _prepare_environment()
    from vllm.engine.arg_utils import AsyncEngineArgs
    from vllm.platforms import current_platform

    unknown = set(options) - set(AsyncEngineArgs.__dataclass_fields__)
    if unknown:
        raise ConfigError(f"vLLM {version_of_vllm()} has no engine option {sorted(unknown)}: see AsyncEngineArgs")
    arguments: dict[str, Any] = {
        "model": source.path,
        "trust_remote_code": source.trust_remote_code,
        "enable_prefix_caching": True,
        "disable_log_stats": True,
        "use_tqdm_on_load": False,
        **(CPU_DEFAULTS if current_platform.is_cpu() else {}),
        **options,
    }
    if current_platform.is_cpu():  # without chunked prefill a whole prompt has to fit into a batch
        length = arguments.get("max_model_len") or model_shape(source).context_length
        arguments.setdefault("max_num_batched_tokens", max(2048, length))
    return arguments


def version_of_vllm() -> str:
    """The installed vLLM's version, whichever build it is."""
    import vllm

    return str(vllm.__version__)


def _prepare_environment() -> None:
    """Settings that vLLM reads from the environment, where the user has none of their own."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("VLLM_CPU_KVCACHE_SPACE", CPU_KV_GIB)
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "spawn")  # no fork of a process that has threads
    os.environ[OWNER] = str(os.getpid())


@contextmanager
def started_quietly(log: Path) -> Iterator[None]:
    """Start processes that write to `log` instead of the terminal and that don't run the caller's script again.

    vLLM's processes inherit standard error and have much to say that a user can't change. And a spawned process
    imports its parent's main module: a script without an ``if __name__ == "__main__"`` would start another engine in
    there, and so on.
    """
    main, terminal = sys.modules["__main__"], os.dup(2)
    with log.open("ab") as file, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sys.modules["__main__"] = types.ModuleType("__main__")
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            os.close(terminal)
            sys.modules["__main__"] = main

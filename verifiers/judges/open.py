"""Judges by name, opened: a name of the catalogue, a folder, or an id on the hub."""

import difflib
import importlib
import inspect
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from decoding.errors import ConfigError, ModelError
from decoding.models import EMBEDDED, ModelSource, resolve
from decoding.tokenizers import read_json
from verifiers.judges.catalogue import JUDGES, ROLE_OF_FORMAT, ROLES, JudgeEntry
from verifiers.judges.checked import is_verified
from verifiers.judges.format import PRMFormat, ReadOut
from verifiers.judges.formats import format_by_name
from verifiers.judges.process import PrefixValue, ReadingJudge, SolutionReward, StepJudge
from verifiers.judges.reader import Head, Reader
from verifiers.judges.readouts import LeastLikely
from verifiers.judges.types import Judge

BACKENDS = ("auto", "transformers", "vllm", "http", "engine")
_CLASSES: dict[str, type[ReadingJudge]] = {"prm": StepJudge, "value": PrefixValue, "orm": SolutionReward}
# A process reward of the last step says something of a prefix, and of the whole text as one step of a solution.
_PLAYS = {"prm": ROLES, "value": ("value",), "orm": ("orm",)}


def open_judge(
    name: str,
    *,
    role: str | None = None,
    backend: str = "auto",
    format: str | None = None,  # noqa: A002
    **options: Any,
) -> Judge:
    """Open a judge; blocks while its model is loaded. Close it with ``aclose``.

    Args:
        name: One of `JUDGES`, a folder, or an id on the Hugging Face hub.
        role: ``prm`` (a `ProcessRewardModel`), ``value`` (a `ValueModel`) or ``orm`` (an `OutcomeRewardModel`); by
            default what the model is made for.
        backend: ``transformers``, which keeps what it computed of a trajectory and is what ``auto`` means; ``vllm``;
            ``http``: a server; ``engine``: an engine of bethink for judges of token pairs, which ``engine=NAME`` names.
        format: One of `FORMATS`; by default what the catalogue, the folder's judge.json or its architecture says.
        options: ``model`` (a folder, an id on the hub or a server's name, where it is not the catalogue's; of judges
            that write: whose), ``revision``, ``trust_remote_code``, ``separator`` (format trl), ``reference``
            (log-ratios: the second model), ``chains`` and the like of judges that write; the rest goes to the backend.

    Raises:
        ConfigError: There is no such name, role, backend or format, or they don't go together.
        ModelError: The model can't be found or loaded, or is not one of this format.
    """
    if role is not None and role not in ROLES:
        raise ConfigError(f"there is no role {role!r} for a judge: there are {', '.join(ROLES)}")
    if backend not in BACKENDS:
        raise ConfigError(f"there is no backend {backend!r} for judges: there are {', '.join(BACKENDS)}")
    entry = JUDGES.get(name)
    if entry is None and not _may_be_model(name):
        close = difflib.get_close_matches(name.lower(), JUDGES, n=3, cutoff=0.5)
        meant = f" (did you mean {' or '.join(close)}?)" if close else ""
        raise ConfigError(f"there is no judge {name!r}{meant}: there are {', '.join(JUDGES)}; or give a folder")
    if entry is not None and entry.writes:
        if format is not None:
            raise ConfigError(f"{name} writes, in a format of its own: leave format={format!r} out")
        return _open_writing(entry, backend, options)
    if entry is None and (asked := _own_query(Path(name).expanduser())):
        return _open_writing(JUDGES["self-evaluation"], backend, {"model": name, **asked, **options})
    return _open_reading(_wanted(name, entry, role, backend, format, options), backend, options)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    """A judge that reads, before it is loaded."""

    name: str
    source: ModelSource
    format: PRMFormat
    role: str
    reference: ModelSource | None


def _wanted(
    name: str, entry: JudgeEntry | None, role: str | None, backend: str, asked: str | None, options: dict[str, Any]
) -> _Wanted:
    """What is to be opened; takes from `options` what is not the backend's."""
    found = _finder(backend, options)
    source = found(options.pop("model", None) or (entry and entry.model) or name)
    said = _said_by_folder(Path(source.path)) | _said_by_entry(entry)
    judged = format_by_name(asked or said.get("format") or _refuse(source), separator=options.pop("separator", None))
    judged = _fitted(judged, said)
    made_for = ROLE_OF_FORMAT[judged.name] if asked else said.get("role", ROLE_OF_FORMAT[judged.name])
    if role is not None and role not in _PLAYS[made_for]:
        raise ConfigError(f"{name} is a judge of the role {made_for}, it can't be a {role}")
    reference = None
    if judged.read_out.models == 2:
        second = options.pop("reference", None) or (entry and entry.reference)
        if not second:
            raise ConfigError(f"{name}: scores of the format {judged.name} need a second model: give reference=NAME")
        reference = found(second)
    return _Wanted(name=name, source=source, format=judged, role=role or made_for, reference=reference)


def _finder(backend: str, options: dict[str, Any]) -> Callable[[str], ModelSource]:
    revision, trust = options.pop("revision", None), bool(options.pop("trust_remote_code", False))
    if backend == "http":
        return lambda name: ModelSource(name=name, path=name, revision=revision, trust_remote_code=trust)
    return lambda name: resolve(name, revision=revision, trust_remote_code=trust)


def _said_by_entry(entry: JudgeEntry | None) -> dict[str, Any]:
    return {} if entry is None else {"format": entry.format, "role": entry.role}


def _said_by_folder(folder: Path) -> dict[str, Any]:
    """Format and role that judge.json names, or that the architecture means; empty if neither does."""
    if (folder / "judge.json").is_file():
        said = read_json(folder / "judge.json")
        if said.get("role") not in ROLES or not isinstance(said.get("format"), str):
            raise ModelError(
                f"{folder / 'judge.json'} should name a role ({', '.join(ROLES)}) and a format, and says {said}"
            )
        return said
    config = read_json(folder / "config.json") if (folder / "config.json").is_file() else {}
    architecture = str((config.get("architectures") or [""])[0])
    outputs = len(config.get("id2label") or {0: "", 1: ""})  # two is what transformers does not write down
    if architecture == "Qwen2ForProcessRewardModel":
        return {"format": "qwen-prm"}
    if architecture == "Qwen2ForRewardModel":
        return {"format": "qwen-rm"}
    if architecture.endswith("ForTokenClassification") and outputs == 2:
        return {"format": "trl"}
    if architecture.endswith("ForSequenceClassification") and outputs == 1:
        return {"format": "chat-reward"}
    return {}


def _fitted(judged: PRMFormat, said: dict[str, Any]) -> PRMFormat:
    """A format with the numbers that were fitted for this very model."""
    if not isinstance(judged.read_out, LeastLikely):
        return judged
    fitted = {key: float(said[key]) for key in ("slope", "intercept") if key in said}
    return replace(judged, read_out=replace(judged.read_out, **fitted))


def _own_query(folder: Path) -> dict[str, Any]:
    """How a model that `bethink train self-eval` made wants to be asked; empty for all others."""
    path = folder / "judge.json"
    said = read_json(path) if path.is_file() else {}
    return {key: said[key] for key in ("query", "good", "bad")} if said.get("format") == "self-evaluation" else {}


def _refuse(source: ModelSource) -> str:
    path = Path(source.path) / "config.json"
    architectures = read_json(path).get("architectures") if path.is_file() else None
    raise ModelError(
        f"{source.name} has no judge.json, and its architecture ({architectures or 'unknown'}) does not tell how it "
        "judges: give a format (qwen-prm, trl, ...)"
    )


def _open_reading(wanted: _Wanted, backend: str, options: dict[str, Any]) -> Judge:
    with ExitStack() as stack:

        def opened(source: ModelSource) -> Reader:
            reader = open_reader(source, wanted.format.read_out, backend, **options)
            stack.callback(_close, reader)
            return reader

        reader = opened(wanted.source)
        judge = _CLASSES[wanted.role](
            reader,
            wanted.format,
            name=wanted.name,
            verified=is_verified(wanted.format.name, reader.tokenizer),
            reference=None if wanted.reference is None else opened(wanted.reference),
        )
        stack.pop_all()
    return judge


def open_reader(source: ModelSource, read_out: ReadOut, backend: str = "auto", **options: Any) -> Reader:
    """A model to be read, through a backend; see `open_judge`."""
    head = read_out.head
    if backend in ("auto", "transformers"):
        from verifiers.models.transformers_reader import open_transformers_reader

        return open_transformers_reader(source, read_out, **options)
    if head is Head.TEXT:
        raise ConfigError(f"{source.name} is read by its text's log-probabilities: take the transformers backend")
    if head is Head.TOKENS:
        from verifiers.models.engine_reader import open_engine_reader

        engine = {"vllm": "vllm", "http": "openai"}.get(backend) or options.pop("engine", "auto")
        return open_engine_reader(source, read_out, engine=engine, **options)
    if backend == "vllm":
        from verifiers.models.pooling_reader import open_pooling_reader

        return open_pooling_reader(source, read_out, **options)
    if backend == "http":
        from verifiers.models.http_pooling import open_http_pooling_reader

        return open_http_pooling_reader(source, read_out, **options)
    raise ConfigError(f"{source.name} has a head of its own, which engines don't read: take transformers, vllm or http")


def _open_writing(entry: JudgeEntry, backend: str, options: dict[str, Any]) -> Judge:
    """A judge that writes, over an engine of its own."""
    from decoding.engines.open import open_engine

    module, _, factory_name = entry.writes.partition(":")
    factory = getattr(importlib.import_module(f"verifiers.judges.written.{module}"), factory_name)
    own = {key: options.pop(key) for key in _settings(factory) & set(options)}
    model = options.pop("model", entry.model)
    if model is None:
        raise ConfigError(f"{entry.name} needs a model that writes: give model=NAME (--judge-option model=NAME)")
    engine = {"engine": options.pop("engine", "auto"), "http": "openai"}.get(backend, backend)
    opened = open_engine(model, engine, **options)
    try:
        judge: Judge = factory(opened, name=entry.name, owned=True, **own)
    except BaseException:
        opened.close()
        raise
    return judge


def _settings(factory: type) -> set[str]:
    """Names of a judge's own options."""
    names = {
        parameter.name
        for each in factory.__mro__[:-1]  # each takes its own and hands the rest on
        for parameter in inspect.signature(each).parameters.values()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    return names - {"name", "owned"}


def _may_be_model(name: str) -> bool:
    return "/" in name or name in EMBEDDED or name.startswith((".", "~")) or Path(name).expanduser().exists()


def _close(reader: Reader) -> None:
    import asyncio
    from concurrent.futures import ThreadPoolExecutor

    # On a thread of its own: the caller's may have a loop that is running.
    with ThreadPoolExecutor(max_workers=1) as thread:
        thread.submit(lambda: asyncio.run(reader.aclose())).result()

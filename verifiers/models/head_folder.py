"""A judge's folder as vLLM can load it: its head under the name `score`, its architecture one that vLLM has.

vLLM reads a linear head of any decoder (``<Body>ForSequenceClassification``, tensors ``score.weight`` and
``score.bias``) and the two-layer heads of Qwen2.5-Math's reward models. Heads of other names are renamed in a copy of
the files that hold them; the other files are linked. Nothing of a stranger's code runs.
"""

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from decoding.errors import ModelError
from decoding.models import ModelSource, weight_files
from decoding.smollm2 import cache_folder
from decoding.tokenizers import read_json
from verifiers.judges.reader import Head
from verifiers.models.asked import check_columns
from verifiers.models.heads import BESIDE, LINEAR

_INDEX = "model.safetensors.index.json"
_TWO_LAYERS = {1: "Qwen2ForRewardModel", 2: "Qwen2ForProcessRewardModel"}  # by outputs
_ADVICE = "take the transformers backend"


class Servable(NamedTuple):
    """What vLLM is given."""

    source: ModelSource  # its folder may be another, with the same tokenizer
    overrides: dict[str, Any]  # of the model's config


def servable(source: ModelSource, head: Head) -> Servable:
    """The folder and the config that vLLM loads for a judge with a head over tokens.

    Raises ``ModelError`` that names model, expectation and finding: no head, one of another shape, or one that vLLM
    does not have.
    """
    folder = Path(source.path)
    files = [*weight_files(folder), *(folder / name for name in BESIDE if (folder / name).is_file())]
    if strange := [file.name for file in files if file.suffix != ".safetensors"]:
        raise ModelError(f"{source.name} has weights in {strange[0]}, and vLLM reads safetensors only here: {_ADVICE}")
    headers = {file: _header(file) for file in files}  # each file once
    shapes = {
        name: entry["shape"]
        for header in headers.values()
        for name, entry in header.items()
        if name.startswith(tuple(f"{prefix}." for prefix in LINEAR))
    }
    prefixes = sorted(name.removesuffix(".weight") for name in shapes if name.endswith(".weight"))
    config = read_json(folder / "config.json")
    if prefixes == ["score.0", "score.2"]:
        return _two_layers(source, head, config, shapes)
    if len(prefixes) != 1:
        found = ", ".join(prefixes) or "none"
        raise ModelError(f"{source.name}: expected one head named {', '.join(LINEAR)}, found {found}")
    columns = shapes[f"{prefixes[0]}.weight"][0]
    check_columns(source.name, head, columns)
    overrides = {"architectures": [_classifier(source.name, config)], "num_labels": columns}
    if prefixes[0] != "score" or any(file.name in BESIDE for file in files):
        source = replace(source, path=str(_renamed(source, headers, prefixes[0])))
    return Servable(source, overrides)


def _two_layers(
    source: ModelSource, head: Head, config: Mapping[str, Any], shapes: Mapping[str, list[int]]
) -> Servable:
    """Two linear layers with ReLU between, as vLLM has them for Qwen2 bodies."""
    columns = shapes["score.2.weight"][0]
    check_columns(source.name, head, columns)
    if config.get("model_type") != "qwen2" or columns not in _TWO_LAYERS or "score.0.bias" not in shapes:
        raise ModelError(
            f"{source.name} has a head of two layers with {columns} outputs on a {config.get('model_type')} body, and "
            f"vLLM has such heads with biases, 1 or 2 outputs and qwen2 bodies only: {_ADVICE}"
        )
    return Servable(source, {"architectures": [_TWO_LAYERS[columns]]})


def _classifier(name: str, config: Mapping[str, Any]) -> str:
    """The architecture that vLLM calls this body with a linear head, whatever the checkpoint calls it."""
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    kind = config.get("model_type")
    causal = MODEL_FOR_CAUSAL_LM_MAPPING_NAMES.get(kind)
    if not isinstance(causal, str) or not causal.endswith("ForCausalLM"):
        raise ModelError(
            f"{name} has a body of type {kind}, which is no decoder that vLLM could put a head on: {_ADVICE}"
        )
    return causal.removesuffix("ForCausalLM") + "ForSequenceClassification"


def _renamed(source: ModelSource, headers: Mapping[Path, Mapping[str, Any]], prefix: str) -> Path:
    """A folder in the cache with the head's tensors as `score`; made once."""
    key = hashlib.sha256(f"{source.path}\0{source.revision}\0{prefix}".encode()).hexdigest()[:24]
    folder = cache_folder() / "heads" / key
    if folder.is_dir() and all(path.exists() for path in folder.iterdir()):  # a link's target may have gone
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{key}.", dir=folder.parent))
    index: dict[str, str] = {}
    for file in Path(source.path).iterdir():
        header = headers.get(file, {})
        names = {name: _score(name, prefix) for name in header}
        index |= {new: file.name for name, new in names.items() if name != "__metadata__"}
        if any(name != new for name, new in names.items()):
            _write_renamed(file, unfinished / file.name, {names[name]: entry for name, entry in header.items()})
        elif file.name != _INDEX:
            (unfinished / file.name).symlink_to(file.resolve())
    if len(headers) > 1:
        (unfinished / _INDEX).write_text(json.dumps({"metadata": {}, "weight_map": index}))
    shutil.rmtree(folder, ignore_errors=True)
    try:
        unfinished.rename(folder)
    except OSError:  # somebody else was faster, with the same
        shutil.rmtree(unfinished)
    return folder


def _score(name: str, prefix: str) -> str:
    return re.sub(rf"^{re.escape(prefix)}\.(weight|bias)$", r"score.\1", name)


def _header(path: Path) -> dict[str, Any]:
    """A safetensors file's header: 8 bytes of length, little-endian, then JSON."""
    try:
        with path.open("rb") as file:
            header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return dict(header)
    except (OSError, ValueError, TypeError, MemoryError, OverflowError) as error:
        raise ModelError(f"{path} is not a safetensors file ({error}): fetch the model again") from error


def _write_renamed(source: Path, target: Path, header: Mapping[str, Any]) -> None:
    """A copy with another header; the data's places are counted from its end."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with source.open("rb") as old, target.open("wb") as new:
        old.seek(8 + int.from_bytes(old.read(8), "little"), os.SEEK_SET)
        new.write(len(text).to_bytes(8, "little") + text)
        shutil.copyfileobj(old, new, 1 << 20)

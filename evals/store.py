"""A results folder: append-only, so that whatever kills a run loses nothing that was finished.

    run.json        what was asked for, and with which versions
    samples.jsonl   one row a completion that ended by itself: the pool; keyed by (problem, seed, max_tokens)
    grades.jsonl    one row a judged sample; keyed by (problem, slot)
    results.jsonl   one row a strategy's result on a problem, with its trace; keyed by (problem, strategy)

A row is one line, written by one system call. A line that a kill or a full disk left without its end is cut off when
the folder is opened again. Only one process may write to a folder.
"""

import contextlib
import fcntl
import gzip
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TextIO

from decoding.errors import StoreError

FORMAT = 1
TABLES = ("samples", "grades", "results")

Row = dict[str, Any]


class Store:
    """A results folder that is open for writing. A context manager."""

    def __init__(
        self,
        folder: Path,
        config: Mapping[str, Any],
        environment: Mapping[str, Any],
        tables: Sequence[str] = TABLES,
    ) -> None:
        """Open or continue a folder.

        `config` is what determines the samples; a folder made with another one is refused. `environment` (versions)
        is recorded each time it changes. `tables` are those that can be written.

        Raises:
            StoreError: The folder can't be written, is open in another process, or has other settings.
        """
        self.folder = folder
        self._files: dict[str, int] = {}
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StoreError(f"the results folder {folder} can't be written: {error.strerror or error}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise StoreError(f"another process is writing to {folder}: wait for it, or take another --out") from None
        try:
            self._write_config(config, environment)
            for table in tables:
                path = folder / f"{table}.jsonl"
                _cut_torn_line(path)
                self._files[table] = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        except BaseException:
            self.close()
            raise

    def append(self, table: str, row: Mapping[str, Any]) -> None:
        """Write one row. Raises ``StoreError`` if it can't be written; what was written before is safe."""
        line = (json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n").encode("utf-8", "surrogatepass")
        try:
            written = os.write(self._files[table], line)
        except OSError as error:
            raise _cannot_write(self.folder, error.strerror or str(error)) from error
        if written < len(line):
            raise _cannot_write(self.folder, "no space left on the device")

    def rows(self, table: str) -> Iterator[Row]:
        """All rows of a table, in the order in which they were written."""
        return read_rows(self.folder, table)

    def close(self) -> None:
        """Close the files and let others write."""
        for file in self._files.values():
            os.close(file)
        self._files = {}
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _write_config(self, config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
        record = read_config(self.folder) if (self.folder / "run.json").exists() else None
        if record is None:
            record = {"format": FORMAT, "config": dict(config), "environments": [dict(environment)]}
        else:
            _refuse_other_settings(self.folder, record["config"], config)
            if record["environments"][-1] == dict(environment):
                return
            record["environments"].append(dict(environment))
        partial = self.folder / "run.json.partial"
        try:
            partial.write_text(json.dumps(record, indent=2) + "\n")
            partial.replace(self.folder / "run.json")
        except OSError as error:
            raise _cannot_write(self.folder, error.strerror or str(error)) from error


def read_config(folder: Path) -> Row:
    """The record in run.json; raises ``StoreError`` where there is none that can be read."""
    path = folder / "run.json"
    try:
        record: Row = json.loads(path.read_text())
    except FileNotFoundError:
        raise StoreError(f"{folder} is not a results folder: it has no run.json") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} can't be read: {error}") from error
    if record.get("format") != FORMAT:
        raise StoreError(f"{path} has the format {record.get('format')!r}, and this bethink reads {FORMAT}")
    return record


def read_rows(folder: Path, table: str) -> Iterator[Row]:
    """All rows of a table, plain or gzipped; none where there is no such file. A torn last line is left out."""
    path = folder / f"{table}.jsonl"
    packed = path.with_suffix(".jsonl.gz")
    if path.exists():
        with path.open("rb") as lines:
            yield from _parse(path, lines)
    elif packed.exists():
        with gzip.open(packed, "rb") as lines:
            yield from _parse(packed, lines)


@contextlib.contextmanager
def whole_file(target: Path) -> Iterator[TextIO]:
    """A file to write that takes its name when all of it is written, and leaves nothing where it could not be.

    Raises ``StoreError`` if it can't be written.
    """
    partial = target.with_name(target.name + ".partial")
    try:
        with partial.open("w", encoding="utf-8", errors="surrogatepass") as file:
            yield file
        partial.replace(target)
    except OSError as error:
        raise StoreError(f"{target} can't be written: {error.strerror or error}") from error
    finally:
        partial.unlink(missing_ok=True)


def pack(folder: Path) -> None:
    """Gzip the tables for keeping: `report` reads them as they are. The same rows give the same bytes."""
    for table in TABLES:
        path = folder / f"{table}.jsonl"
        if path.exists():
            # No name and no time in the header.
            with path.with_suffix(".jsonl.gz").open("wb") as raw, gzip.GzipFile("", "wb", 9, raw, mtime=0) as packed:
                packed.write(path.read_bytes())
            path.unlink()


def _parse(path: Path, lines: Any) -> Iterator[Row]:
    for number, line in enumerate(lines, start=1):
        if not line.endswith(b"\n"):
            return
        try:
            row: Row = json.loads(line)
        except ValueError as error:
            raise StoreError(f"{path}, line {number} can't be read: {error}; remove that line to go on") from error
        yield row


def _cut_torn_line(path: Path) -> None:
    """Remove what stands after the last newline: a row that was never finished."""
    if not path.exists():
        return
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        position = end
        while position > 0:
            start = max(0, position - 65536)
            file.seek(start)
            newline = file.read(position - start).rfind(b"\n")
            if newline >= 0:
                position = start + newline + 1
                break
            position = start
        if position < end:
            file.truncate(position)


def _refuse_other_settings(folder: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    new = json.loads(json.dumps(new))  # as it would be read back
    differing = sorted(key for key in {*old, *new} if old.get(key) != new.get(key))
    if differing:
        changes = "; ".join(f"{key}: {old.get(key)!r} there, {new.get(key)!r} now" for key in differing)
        raise StoreError(
            f"{folder} holds a run with other settings ({changes}): take another --out, or the same settings"
        )


def _cannot_write(folder: Path, reason: str) -> StoreError:
    return StoreError(
        f"{folder} can't be written: {reason}. Nothing that was finished is lost: free some space and run the same "
        "line again"
    )

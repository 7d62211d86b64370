"""What the code tasks have in common: rows that may be compressed, and a task of problems with tests."""

import gzip
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from decoding.errors import DataError
from evals.data import Known, Row, Rows, checksum, differences, load_rows, read_jsonl
from evals.tasks.base import Problem, Task
from verifiers.code.check import ExamplesCheck
from verifiers.code.programs import CodeFormat
from verifiers.code.verifier import CodeReference, CodeVerifier
from verifiers.sandbox.tiers import reached
from verifiers.sandbox.types import Policy

PROMPT, MAX_TOKENS = "code", 1024


def code_task(spec: str, problems: Sequence[Problem], source: str) -> Task:
    """A task of problems that want programs; the examples that a problem shows may steer a search."""
    return Task(
        name=spec,
        problems=problems,
        answers=CodeFormat(),
        verifier=CodeVerifier(),
        prompt=PROMPT,
        max_tokens=MAX_TOKENS,
        source=source,
        checksum=checksum(problems),
        check=ExamplesCheck(),
    )


def with_policy(task: Task, policy: Policy) -> Task:
    """A task whose programs run under another policy; a task without programs stays as it is.

    The tier that is reached here is required of every worker: none may fall behind it in silence. Raises
    ``SandboxError`` where the machine can't do what the policy asks for.
    """
    if not isinstance(task.verifier, CodeVerifier):
        return task
    policy = replace(policy, require_tier=reached(policy))
    check = replace(task.check, policy=policy) if isinstance(task.check, ExamplesCheck) else task.check
    return replace(task, verifier=replace(task.verifier, policy=policy), check=check)


def code_problem(task_id: str, question: str, reference: CodeReference) -> Problem:
    """A problem by its data set's own id."""
    metadata = {"task_id": task_id, "entry_point": reference.tests.entry_point}
    return Problem(id=task_id, question=question, reference=reference.to_json(), metadata=metadata)


def code_rows(
    *, hub: str, config: str, split: str, file: str, data_dir: Path | None, known: Known, fields: Sequence[str]
) -> Rows:
    """As `load_rows`, for a file that may end in ``.gz``; what differs from the known data stands in the source."""
    if data_dir is not None and file.endswith(".gz"):
        rows, source = read_gzip(data_dir / file), file
    else:
        rows, source = load_rows(hub=hub, config=config, split=split, file=file, data_dir=data_dir)
    return Rows(rows, source + differences(known, rows, fields))


def read_gzip(path: Path) -> list[Row]:
    """Rows of a compressed file, or of one of the same name that is not; raises ``DataError``."""
    if not path.is_file() and path.with_suffix("").is_file():
        return read_jsonl(path.with_suffix(""))
    try:
        lines = gzip.decompress(path.read_bytes()).split(b"\n")
        return [json.loads(line) for line in lines if line.strip()]
    except (OSError, EOFError, ValueError) as error:
        raise DataError(f"{path} can't be read ({error}): check the path, and whether the file is torn") from error

"""Data sets of reasoning-gym (Stojanovski et al. 2025) as tasks: ``gym:<data set>``.

reasoning-gym scores the answers itself. For nine of its data sets it does so by running the answer as Python (eval,
or sympy's parse_expr, which evals); an answer to these is scored only if it is spelt in characters that can't call
anything. A long computation can still be spelt, so scoring runs in worker programs under a limit on CPU time.
"""

import difflib
import json
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from decoding.errors import ConfigError, DataError
from decoding.seeds import derive_seed
from evals.data import checksum
from evals.tasks.base import Problem, Task
from verifiers.base import Outcome, Verdict
from verifiers.exact import UNANSWERED
from verifiers.text import TextFormat

DEFAULT_PROBLEMS = 500
RULE = "reasoning-gym"

# Measured with 0.1.25: these draw from sets of strings, so their problems change with Python's hash seed.
HASH_DEPENDENT = frozenset(
    {"isomorphic_strings", "knight_swap", "list_functions", "polynomial_multiplication", "ransom_note", "word_ladder"}
)

_LONGEST = 2000  # characters of an answer that is evaluated
_LIST = re.compile(r"[\w\s\[\],'\"-]*")  # no call, no attribute, no product
_SUM = re.compile(r"(?!.*\*\s*\*)[\d\s+\-*/().]*", re.DOTALL)  # no name, no power
_FUNCTIONS = "sin|cos|tan|asin|acos|atan|sinh|cosh|tanh|exp|log|ln|sqrt|pi|Abs"
# Possessive throughout, so that a long answer can't make the match itself slow. No Integral: it would answer anything.
_FORMULA = re.compile(
    rf"(?:\b(?:{_FUNCTIONS}|[A-Za-z])\b|\*\*\s*+\(?\s*+-?\d{{1,2}}\b(?!\s*\*\*)|\*(?!\*)|\d++(?:\.\d++)?+|[\s+\-/()^])*+"
)
EVALUATED = {
    "string_insertion": _LIST,
    "spiral_matrix": _LIST,
    "binary_matrix": _LIST,
    "n_queens": _LIST,
    "countdown": _SUM,
    "puzzle24": _SUM,
    "simple_integration": _FORMULA,
    "intermediate_integration": _FORMULA,
    "polynomial_multiplication": _FORMULA,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class GymVerifier:
    """reasoning-gym's own ``score_answer``; only a full score counts.

    It wants the data set's own entry, which needn't survive JSON. A reference therefore names the entry's place, and
    the entry is made again.
    """

    dataset: str
    size: int
    seed: int

    def quick(self, answer: str | None, reference: str) -> Verdict | None:
        """None is ``no_answer``, an answer that may not be evaluated is wrong; all else is for the scorer."""
        if answer is None:
            return UNANSWERED
        allowed = EVALUATED.get(self.dataset)
        if allowed is not None and (len(answer) > _LONGEST or allowed.fullmatch(answer) is None):
            return Verdict(outcome=Outcome.WRONG, rule="not evaluated: the answer could run code")
        return None

    def verify(self, answer: str | None, reference: str) -> Verdict:
        """Judge an extracted answer. A scorer may compute for long: run it in a worker program."""
        told = self.quick(answer, reference)
        if told is not None:
            return told
        entries = _dataset(self.dataset, self.size, self.seed)
        try:
            score = entries.score_answer(answer, entries[json.loads(reference)["index"]])
        except ValueError:  # raised by some data sets for answers that don't parse
            return Verdict(outcome=Outcome.WRONG, rule=RULE)
        except Exception as error:  # the scorer broke: not the answer's fault
            return Verdict(outcome=Outcome.ERROR, rule=f"{RULE}: {type(error).__name__}")
        return Verdict(outcome=Outcome.CORRECT if score == 1.0 else Outcome.WRONG, rule=RULE)


def load_gym(spec: str, *, limit: int | None, seed: int) -> Task:
    """The task ``gym:<data set>`` with `limit` problems, the data set's own settings left at their defaults."""
    _, _, name = spec.partition(":")
    size = DEFAULT_PROBLEMS if limit is None else limit
    # reasoning-gym seeds problem i with seed + i, so neighbouring seeds would share nearly all their problems.
    verifier = GymVerifier(dataset=name, size=size, seed=derive_seed(seed, "gym", name) % 2**31)
    entries = _dataset(name, verifier.size, verifier.seed)
    problems = [_problem(name, index, entries[index]) for index in range(size)]
    return Task(
        name=spec,
        problems=problems,
        answers=TextFormat(),
        verifier=verifier,
        prompt="answer",
        max_tokens=1024,
        source=f"generated: reasoning-gym {name}, seed {seed}",
        checksum=checksum(problems),
    )


def _problem(name: str, index: int, entry: dict[str, Any]) -> Problem:
    return Problem(
        id=f"gym-{name}-{index:05d}",
        question=entry["question"],
        reference=json.dumps({"index": index, "answer": entry["answer"]}),  # None where many answers are right
    )


@lru_cache(maxsize=16)
def _dataset(name: str, size: int, seed: int) -> Any:
    try:
        import reasoning_gym
        from reasoning_gym.factory import DATASETS
    except ImportError as error:
        raise DataError("tasks of reasoning-gym need: pip install 'bethink[data]'") from error
    if name not in DATASETS:
        close = ", ".join(difflib.get_close_matches(name, DATASETS, n=3)) or "none is close"
        raise ConfigError(f"reasoning-gym has no data set {name!r} ({close}). It has: {', '.join(sorted(DATASETS))}")
    if name in HASH_DEPENDENT and os.environ.get("PYTHONHASHSEED", "random") == "random":
        raise ConfigError(f"the problems of gym:{name} change with Python's hash seed: set PYTHONHASHSEED=0, run again")
    try:
        return reasoning_gym.create_dataset(name, size=size, seed=seed)
    except Exception as error:  # whatever a data set's own settings ask for
        raise ConfigError(f"gym:{name} can't be made with its default settings ({error}): take another") from error

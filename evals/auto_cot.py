"""Auto-CoT: demonstrations that the model under test writes itself (Zhang et al. 2022, arXiv 2210.03493).

Questions are clustered by their sentence embeddings. Each cluster gives one: the nearest to the centre that is short
and whose rationale, written after "Let's think step by step.", is simple. Diversity is to keep errors from being all
alike; whether a rationale is right is not asked, and no reference is seen.

This is a step before an evaluation: it writes a file, which the prompt ``demonstrations:<file>`` puts before questions.
"""

import asyncio
import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from decoding.engine import Engine
from decoding.errors import ConfigError, DataError
from decoding.host import OpenEngine
from decoding.seeds import Rng, SeededRng, derive_seed
from decoding.types import FinishReason, GenerationRequest, SamplingParams
from evals.data import hash_order, text_field
from evals.demonstrations import Demonstration, write_demonstrations
from evals.prompts import TEMPLATES, render
from evals.tasks.gsm8k import gsm8k_rows
from evals.tasks.registry import load_task
from verifiers.base import AnswerFormat
from verifiers.models.embeddings import MINILM, embed

MAX_WORDS = 60  # of a question, section 4.2; the authors' code counts words
MAX_STEPS = 5  # lines of a rationale, likewise
MAX_TOKENS = 256  # of a rationale, as the authors' code
RESTARTS = 10  # of k-means; the clusters of lowest inertia are kept

Rows = npt.NDArray[np.float64]
Embed = Callable[[Sequence[str]], npt.NDArray[np.float32]]


class Clusters(NamedTuple):
    """Rows in k clusters, none of them empty."""

    labels: npt.NDArray[np.int64]  # [N], 0 .. k - 1
    distances: Rows  # [N] to the cluster's centre


def demonstrate(
    engine: OpenEngine,
    questions: Sequence[str],
    k: int,
    path: Path,
    *,
    answers: AnswerFormat,
    seed: int = 0,
    attempts: int = 32,
) -> list[Demonstration]:
    """Make up to k demonstrations with an open engine and write them to a file.

    Args:
        engine: The model under test.
        questions: Of the task's training split (see `training_questions`).
        k: Clusters. One without a fitting question among its first `attempts` gives none.
        path: The file; what is there is replaced.
        answers: How the answer is read from a rationale.
        seed: Of the clustering; rationales are greedy.
        attempts: Rationales that a cluster may cost.

    Raises:
        ConfigError: Fewer questions than clusters, or no embedding model.
        DataError: No cluster gave a demonstration.
    """
    made = engine.run(lambda e: make_demonstrations(e, questions, k, answers=answers, seed=seed, attempts=attempts))
    info = engine.engine.info
    origin = {
        "method": "auto_cot",
        "model": info.model,
        "revision": info.revision,
        "embeddings": MINILM,
        "clusters": k,
        "seed": seed,
        "questions": len(questions),
        "questions_sha256": hashlib.sha256("\0".join(questions).encode(errors="surrogatepass")).hexdigest(),
    }
    write_demonstrations(path, made, origin)
    return made


async def make_demonstrations(
    engine: Engine,
    questions: Sequence[str],
    k: int,
    *,
    answers: AnswerFormat,
    seed: int = 0,
    attempts: int = 32,
    embedder: Embed = embed,
) -> list[Demonstration]:
    """As `demonstrate`, without the file; the clusters are worked on side by side and keep their order."""
    distinct = list(dict.fromkeys(questions))
    if not 1 <= k <= len(distinct):
        raise ConfigError(f"{k} demonstrations need 1 to {len(distinct)} clusters, one a question at most: change k")
    found = k_means(embedder(distinct), k, SeededRng(derive_seed(seed, "auto_cot", "clusters")))
    order = np.argsort(found.distances, kind="stable")
    nearest = ([distinct[i] for i in order if found.labels[i] == cluster] for cluster in range(k))
    made = await asyncio.gather(*(_first_simple(engine, near, answers, attempts) for near in nearest))
    demonstrations = [demonstration for demonstration in made if demonstration is not None]
    if not demonstrations:
        raise DataError(
            f"none of {len(distinct)} questions has at most {MAX_WORDS} words and a rationale of at most {MAX_STEPS} "
            "lines that ends by itself with an answer: give other questions, or take a stronger model"
        )
    return demonstrations


def is_simple(question: str, rationale: str) -> bool:
    """The paper's criteria: at most 60 words of question, at most 5 lines of rationale that end with a full stop."""
    steps = [line for line in rationale.splitlines() if line.strip()]
    return len(question.split()) <= MAX_WORDS and 0 < len(steps) <= MAX_STEPS and rationale.rstrip().endswith(".")


def k_means(rows: npt.NDArray[Any], k: int, rng: Rng) -> Clusters:
    """Lloyd's algorithm from k-means++ centres (Arthur and Vassilvitskii 2007), the best of `RESTARTS`.

    Args:
        rows: [N, D].
        k: Clusters, 1 .. N.
        rng: For the first centres.

    Raises ``ConfigError`` if the rows, many of them alike, leave a cluster empty every time.
    """
    from scipy.cluster.vq import ClusterError, kmeans2, vq

    points = np.asarray(rows, dtype=np.float64)
    best: Clusters | None = None
    for _ in range(RESTARTS):
        try:
            centres, _ = kmeans2(points, _spread(points, k, rng), iter=100, minit="matrix", missing="raise")
        except ClusterError:
            continue
        found = Clusters(*vq(points, centres))
        full = np.unique(found.labels).size == k
        if full and (best is None or np.sum(found.distances**2) < np.sum(best.distances**2)):
            best = found
    if best is None:
        raise ConfigError(f"these {len(points)} questions don't fall into {k} clusters: ask for fewer demonstrations")
    return best


def training_questions(task: str, *, data_dir: Path | None = None, limit: int = 200, seed: int = 0) -> list[str]:
    """Questions that the evaluation of a task does not ask, at most `limit`.

    For gsm8k the training split, the first in the order of a hash; for data sets of reasoning-gym, problems of another
    seed. Raises ``ConfigError`` for other tasks.
    """
    if task == "gsm8k":
        rows, source = gsm8k_rows("train", data_dir)
        texts = [text_field(row, ["question"], f"{source}, row {i}") for i, row in enumerate(rows)]
        return sorted(texts, key=hash_order)[:limit]
    if task.startswith("gym:"):
        other = derive_seed(seed, "training questions")
        return [problem.question for problem in load_task(task, limit=limit, seed=other).problems]
    raise ConfigError(f"{task!r} has no training questions, gsm8k and gym:<data set> have: give your own as a list")


async def _first_simple(
    engine: Engine, questions: Sequence[str], answers: AnswerFormat, attempts: int
) -> Demonstration | None:
    """A demonstration of the first question, nearest to the centre first, that meets the criteria."""
    short = [question for question in questions if len(question.split()) <= MAX_WORDS]
    for question in short[:attempts]:
        prompt = render(TEMPLATES["zero_shot_cot"], question, engine.tokenizer)
        sampling = SamplingParams(seed=0, temperature=0.0, max_tokens=MAX_TOKENS, stop=TEMPLATES["zero_shot_cot"].stop)
        completion = await engine.generate(GenerationRequest(prompt_token_ids=prompt.token_ids, sampling=sampling))
        text = engine.tokenizer.decode(completion.token_ids).strip()
        text = text.partition("\nQ:")[0].rstrip()  # a completion keeps its stop string
        answer = answers.extract(text).value
        if completion.finish_reason is not FinishReason.LENGTH and answer is not None and is_simple(question, text):
            return Demonstration(question=question, rationale=" ".join(text.split()), answer=answer)
    return None


def _spread(points: Rows, k: int, rng: Rng) -> Rows:
    """The first centres of k-means++, [k, D]: each drawn by its squared distance to the nearest of those before it."""
    weights = np.ones(len(points))
    chosen: list[int] = []
    while len(chosen) < k:
        # Where all that is left coincides with a centre, any point does; the empty cluster shows in the result.
        chosen.append(rng.categorical(weights if weights.any() else np.ones(len(points))))
        away = np.sum((points - points[chosen[-1]]) ** 2, axis=1)
        weights = away if len(chosen) == 1 else np.minimum(weights, away)
    return points[chosen]

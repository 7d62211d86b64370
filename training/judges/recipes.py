"""Recipes of judges, and the whole way from a recipe to a folder."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from decoding.errors import ConfigError
from decoding.models import load_tokenizer, resolve
from decoding.seeds import derive_seed
from training.judges.completions import Key, Tally, complete, step_ends
from training.judges.data import Example, Labelled, compressed, queried, render, render_everywhere
from training.judges.fit import FitRecipe, Progress, fit, policy_divergence, read_scores
from training.judges.labels import (
    LABELS,
    completion_labels,
    continuing_labels,
    exact_labels,
    exact_length,
    outcome_labels,
)
from training.judges.likelihood import FORMAT as LIKELIHOOD
from training.judges.likelihood import fit_least_likely, least_likely
from training.judges.models import BAD, GOOD, QUERY, TRAINED, JudgeModel, build, make_trainable, save_model, token
from training.judges.report import Scored, measure, write_report
from training.judges.rollouts import Rollout, RolloutRecipe, roll_out
from training.judges.searches import SearchRecipe, search_all
from verifiers.judges.formats import format_by_name

ROLES = ("prm", "value", "self-eval")
Told = Callable[[str], None]
Tallies = Mapping[Key, Mapping[int, Tally]]


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgeRecipe:
    """Everything that determines a judge, on one machine and one version of torch."""

    role: str  # prm, value, self-eval
    labels: str  # exact, outcome, hard, soft, mcts (see `labels`); of self-eval: soft
    start: str = "reference-base"  # whose weights or shape it begins with
    fresh: bool = False  # the shape alone: weights are drawn
    trained: str = "all"  # all, top (layers on top, and head), head, lora (adapters and head), likelihood (see there)
    layers: int = 0  # put on top of those of `start`
    rank: int = 8  # of adapters
    completions: int = 4  # of a prefix, for Monte-Carlo labels
    completed: int = 0  # solutions of each split that get completions, or whose problems are searched; 0: all
    search: SearchRecipe = field(default_factory=SearchRecipe)  # for mcts labels
    dense: bool = False  # labels at every character of a solution; exact and outcome labels alone
    compressed: float = 0.0  # share of solutions that come a second time with two steps merged (HRM)
    joint: str = ","  # between the texts of merged steps
    keep: float = 1.0  # of self-eval: weight of the divergence from how the policy writes
    rollouts: RolloutRecipe = field(default_factory=RolloutRecipe)
    fit: FitRecipe = field(default_factory=FitRecipe)

    def __post_init__(self) -> None:
        for name, value, known in (
            ("role", self.role, ROLES),
            ("labels", self.labels, LABELS),
            ("trained", self.trained, TRAINED),
        ):
            if value not in known:
                raise ConfigError(f"{name} must be one of {', '.join(known)}, got {value!r}")
        if self.role == "self-eval" and self.labels != "soft":
            raise ConfigError("self-evaluation is trained on soft labels: shares of completions are compared")
        if self.role != "value" and self.labels == "mcts":
            raise ConfigError("a tree search gives values of prefixes: train a value model on mcts labels")
        if self.trained == "likelihood" and (self.role == "self-eval" or self.layers):
            raise ConfigError("a likelihood is that of a language model as it stands: no layers, no self-evaluation")
        if self.trained == "top" and not self.layers:
            raise ConfigError("there is no top to train: give layers, or train the head")
        if self.fresh and self.trained != "all":
            raise ConfigError(
                f"weights that are drawn have to be trained: leave fresh out, or train all, not {self.trained}"
            )
        if self.dense and self.labels not in ("exact", "outcome"):
            raise ConfigError(f"only steps have {self.labels} labels, not characters: leave dense out")
        foreign = [task for task in self.rollouts.tasks if not task.startswith("reference:")]
        if foreign and self.labels == "exact":
            raise ConfigError(f"exact labels of steps exist in the reference world alone, not for {foreign[0]}")

    @property
    def counts(self) -> bool:
        """Whether its labels are counted from completions, or from what a search found."""
        return self.labels in ("hard", "soft", "mcts")

    @property
    def format(self) -> str:
        """The judge's format by name."""
        if self.trained == "likelihood":
            return LIKELIHOOD
        return {"prm": "reference-prm", "value": "reference-value"}.get(self.role, "self-evaluation")


RECIPES: Mapping[str, JudgeRecipe] = {
    "prm": JudgeRecipe(role="prm", labels="exact", dense=True, trained="top", layers=2),
    "value": JudgeRecipe(role="value", labels="outcome", dense=True, trained="top", layers=2),
    "self-eval": JudgeRecipe(role="self-eval", labels="soft", completed=600, fit=FitRecipe(learning_rate=3e-4)),
}
"""What `bethink train prm|value|self-eval` makes; the first two are shipped."""


def train_judge(
    recipe: JudgeRecipe,
    folder: Path,
    *,
    data: Path,
    engine: str = "transformers",
    options: Mapping[str, Any] | None = None,
    data_dir: Path | None = None,
    threads: int = 1,
    told: Told = lambda _: None,
) -> dict[str, Any]:
    """Train a judge and write its folder: model, tokenizer, recipe.json, judge.json, report. The figures.

    Args:
        recipe: What to make.
        folder: Where the judge goes.
        data: Where rollouts and completions are kept; what is there is not drawn again.
        engine: Draws them.
        options: Of the engine.
        data_dir: Data sets of tasks that are not made on the spot.
        threads: Of torch while it trains; sums depend on it in their last bits.
        told: Hears how it goes.

    Raises:
        ConfigError: The recipe can't work.
        ModelError: Policy or start can't be loaded.
        StoreError: `data` holds rollouts of another recipe, or can't be written.
    """
    told("rollouts")
    drawn: dict[str, Any] = {"engine": engine, "data_dir": data_dir, "options": options}
    rollouts = roll_out(recipe.rollouts, data, **drawn)
    chosen = {split: choose(recipe, rollouts, split) for split in ("train", "tune", "held-out")}
    tallies: Tallies = {}
    if recipe.labels == "mcts":
        problems = {(rollout.task, rollout.problem) for rollout in chosen["train"]}
        told(f"searches of {len(problems)} problems")
        found, tallies = search_all(recipe.rollouts, recipe.search, problems, data, **drawn)
        chosen["train"] = [rollout for rollout in found if rollout.steps]
    elif recipe.counts:
        wanted = [*chosen["train"], *(chosen["held-out"] if recipe.role == "self-eval" else [])]
        told(f"completions of {len(wanted)} solutions")
        tallies = complete(recipe.rollouts, wanted, data, samples=recipe.completions, **drawn)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        train = _train_likelihood if recipe.trained == "likelihood" else _train
        return train(recipe, folder, chosen, tallies, told)
    finally:
        torch.set_num_threads(before)


def choose(recipe: JudgeRecipe, rollouts: Sequence[Rollout], split: str) -> list[Rollout]:
    """Rollouts of a split that have steps; where completions are counted, `completed` of them at random."""
    inside = [rollout for rollout in rollouts if rollout.split == split and rollout.steps]
    if not recipe.counts or not recipe.completed or (split != "train" and recipe.role != "self-eval"):
        return inside
    seed = recipe.rollouts.seed
    return sorted(inside, key=lambda rollout: derive_seed(seed, "chosen", *rollout.key))[: recipe.completed]


def label(recipe: JudgeRecipe, rollouts: Sequence[Rollout], tallies: Tallies) -> list[Labelled]:
    """Rollouts with what the recipe trains on."""
    if recipe.role == "self-eval":
        return [(rollout, continuing_labels(rollout, tallies[rollout.key])) for rollout in rollouts]
    if recipe.counts:
        hard = recipe.labels == "hard"
        return [(rollout, completion_labels(rollout, tallies[rollout.key], hard=hard)) for rollout in rollouts]
    labels = exact_labels if recipe.labels == "exact" else outcome_labels
    return [(rollout, [float(each) for each in labels(rollout)]) for rollout in rollouts]


def _train(
    recipe: JudgeRecipe, folder: Path, chosen: Mapping[str, Sequence[Rollout]], tallies: Tallies, told: Told
) -> dict[str, Any]:
    model, tokenizer = build(recipe.role, recipe.start, fresh=recipe.fresh, seed=recipe.fit.seed, layers=recipe.layers)
    labelled = label(recipe, chosen["train"], tallies)
    examples = _dense(recipe, tokenizer, labelled) if recipe.dense else _examples(recipe, tokenizer, labelled)
    if recipe.compressed:
        examples += compressed(
            tokenizer,
            format_by_name(recipe.format),
            labelled,
            share=recipe.compressed,
            joint=recipe.joint,
            seed=recipe.fit.seed,
        )
    told(f"training on {len(examples)} rows, {sum(len(example.token_ids) for example in examples)} tokens")

    def report(progress: Progress) -> None:
        told(f"step {progress.step}/{progress.steps}, {progress.loss:.4f} nats a read, {progress.seconds:.0f} s")

    parameters = make_trainable(model, recipe.trained, recipe.rank, recipe.fit.seed, recipe.layers)
    keep = recipe.keep if recipe.role == "self-eval" else 0.0
    fit(model, parameters, examples, recipe.fit, report, frozen=recipe.trained == "head", keep=keep)
    told("measuring")
    held_out, figures = _measure(recipe, model, tokenizer, chosen, tallies)
    save_model(model, tokenizer, folder)
    _write_records(recipe, folder, model)
    write_report(folder, f"{recipe.role}, trained on {recipe.labels} labels", figures, held_out)
    return figures


def _train_likelihood(
    recipe: JudgeRecipe, folder: Path, chosen: Mapping[str, Sequence[Rollout]], tallies: Tallies, told: Told
) -> dict[str, Any]:
    model, tokenizer = build("prm", recipe.start, fresh=False, seed=recipe.fit.seed)
    language: Any = model.model
    told(f"reading {len(chosen['train'])} solutions")
    labelled = label(recipe, chosen["train"], tallies)
    fitted = fit_least_likely(least_likely(language, tokenizer, chosen["train"]), labelled)

    def scored(split: str) -> list[Scored]:
        rows = zip(
            _truth(recipe, chosen[split], tallies), least_likely(language, tokenizer, chosen[split]), strict=True
        )
        return [
            Scored(rollout.task, rollout.problem, fitted.scores(least), tuple(map(bool, labels)))
            for (rollout, labels), least in rows
        ]

    told("measuring")
    held_out = scored("held-out")
    figures = measure(held_out, scored("tune") if _steps_known(recipe) else ())
    save_model(model, tokenizer, folder)
    _write_records(recipe, folder, model, **fitted._asdict())
    write_report(folder, f"{recipe.role}, a likelihood fitted to {recipe.labels} labels", figures, held_out)
    return figures


def _steps_known(recipe: JudgeRecipe) -> bool:
    return recipe.role == "prm" and all(task.startswith("reference:") for task in recipe.rollouts.tasks)


def _examples(recipe: JudgeRecipe, tokenizer: Any, labelled: Sequence[Labelled]) -> list[Example]:
    if recipe.role != "self-eval":
        return render(tokenizer, format_by_name(recipe.format), labelled)
    decode = load_tokenizer(resolve(recipe.rollouts.policy)).decode
    ends = {rollout.key: step_ends(decode, rollout.token_ids, rollout.finished) for rollout, _ in labelled}
    return queried(token(tokenizer, QUERY), labelled, ends)


def _dense(recipe: JudgeRecipe, tokenizer: Any, labelled: Sequence[Labelled]) -> list[Example]:
    exact = recipe.labels == "exact"
    rollouts = [(r, exact_length(r) if exact else len(r.text) + 1 if r.right else 0) for r, _ in labelled]
    return render_everywhere(tokenizer, format_by_name(recipe.format), rollouts)


def _measure(
    recipe: JudgeRecipe,
    model: JudgeModel,
    tokenizer: Any,
    chosen: Mapping[str, Sequence[Rollout]],
    tallies: Tallies,
) -> tuple[list[Scored], dict[str, Any]]:
    """Held-out solutions with scores and truth, and the figures."""

    def scored(split: str) -> list[Scored]:
        labelled = _truth(recipe, chosen[split], tallies)
        examples = _examples(recipe, tokenizer, labelled)
        scores = read_scores(model, examples)
        pairs = [(rollout, list(labels)) for rollout, labels in labelled]
        if recipe.role == "self-eval":  # a row for each prefix
            pairs = [(rollout, [truth]) for rollout, labels in labelled for truth in labels]
        found = []
        for (rollout, truths), row in zip(pairs, scores, strict=True):
            if 0.5 not in truths:
                found.append(Scored(rollout.task, rollout.problem, tuple(row), tuple(map(bool, truths))))
        return found

    held_out = scored("held-out")
    figures = measure(held_out, scored("tune") if _steps_known(recipe) else ())
    if recipe.role == "self-eval":
        examples = _examples(recipe, tokenizer, _truth(recipe, chosen["held-out"], tallies))
        figures["kl"] = policy_divergence(model, build("prm", recipe.start, fresh=False, seed=0)[0], examples)
    return held_out, figures


def _truth(recipe: JudgeRecipe, rollouts: Sequence[Rollout], tallies: Tallies) -> list[Labelled]:
    """What the report's protocol calls true, where it is known."""
    if recipe.role == "self-eval":
        return label(recipe, rollouts, tallies)
    if _steps_known(recipe):
        return [(rollout, exact_labels(rollout)) for rollout in rollouts]
    return [(rollout, outcome_labels(rollout)) for rollout in rollouts]


def _write_records(recipe: JudgeRecipe, folder: Path, model: JudgeModel, **fitted: float) -> None:
    role = "value" if recipe.role == "self-eval" else recipe.role
    judge: dict[str, Any] = {"role": role, "format": recipe.format, **fitted}
    if recipe.role == "self-eval":
        judge |= {"query": QUERY, "good": GOOD, "bad": BAD}
    (folder / "judge.json").write_text(json.dumps(judge, indent=2) + "\n")
    parameters = sum(parameter.numel() for parameter in model.model.parameters())
    record = {"recipe": asdict(recipe), "torch": torch.__version__, "parameters": parameters}
    (folder / "recipe.json").write_text(json.dumps(record, indent=2) + "\n")

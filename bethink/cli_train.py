"""``bethink train``: the models of the reference world, and judges of any policy; one seeded command each."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from decoding.errors import ConfigError

if TYPE_CHECKING:
    from training.judges.recipes import JudgeRecipe

Out = Annotated[Path, typer.Option("--out", help="Where the model goes.")]
Rollouts = Annotated[
    Path | None,
    typer.Option("--rollouts", help="Where the policy's solutions are kept; OUT-rollouts if left out. Can be shared."),
]
Policy = Annotated[str, typer.Option("--policy", help="Who writes the solutions.")]
Start = Annotated[str | None, typer.Option("--start", help="Whose weights it begins with; the policy's if left out.")]
Tasks = Annotated[list[str] | None, typer.Option("--task", help="As in eval; repeat. reference:2 to 10 if left out.")]
Problems = Annotated[int | None, typer.Option(help="Of each task; the recipe's own if left out.")]
Samples = Annotated[int | None, typer.Option(help="Solutions of a problem.")]
Trained = Annotated[
    str | None,
    typer.Option(
        "--train",
        help="all; top: layers put on top; head: on frozen hidden states; lora (PEFT); likelihood: how little a model "
        "that knows the world expected a token, nothing but two numbers fitted.",
    ),
]
Layers = Annotated[int | None, typer.Option(help="Put on top of the policy's, as the identity; top needs some.")]
Fresh = Annotated[bool, typer.Option("--fresh", help="Begin with weights that are drawn, not the policy's.")]
Dense = Annotated[
    bool | None,
    typer.Option("--dense/--steps", help="Labels at every character, or at steps; exact and outcome labels are dense."),
]
Completions = Annotated[int | None, typer.Option(help="Of a prefix, for Monte-Carlo labels (hard, soft).")]
Completed = Annotated[
    int | None, typer.Option(help="Solutions that get completions, or whose problems are searched; 0 is all.")
]
Simulations = Annotated[int | None, typer.Option(help="Of the search of each problem, for mcts labels.")]
Children = Annotated[int | None, typer.Option(help="Next steps of each prefix that a search expands.")]
Before = Annotated[
    str | None,
    typer.Option("--value", help="The value model of the round before, for mcts labels; prefixes are 0 without."),
]
Compressed = Annotated[float, typer.Option(help="Share of solutions that come again with two steps merged (HRM).")]
Epochs = Annotated[int | None, typer.Option(help="Times that each solution is read.")]
LearningRate = Annotated[float | None, typer.Option(help="At its peak.")]
Engine = Annotated[str, typer.Option(help="Draws the solutions: transformers, vllm or openai.")]
DataDir = Annotated[Path | None, typer.Option(help="Folder with data sets as JSON lines, instead of the hub.")]
Threads = Annotated[int, typer.Option(help="Of torch; the same seed gives the same weights at the same number.")]
Seed = Annotated[int, typer.Option(help="Of problems, solutions, weights and batches.")]


def add_train(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    train = typer.Typer(no_args_is_help=True, help="Train policies of the reference world, and judges of any policy.")
    for command in (policy, prm, value, self_eval):
        train.command()(command)
    app.add_typer(train, name="train")


def policy(
    folder: Out,
    size: Annotated[str, typer.Option(help="base or small; judge-body: what the shipped judges begin with.")] = "base",
    steps: Annotated[int | None, typer.Option(help="Optimiser steps; the recipe's own if left out.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of weights and data; the recipe's own if left out.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
) -> None:
    """Train a policy for the reference world; minutes on two cores.

    Example:

        bethink train policy --size base --out my-policy

        bethink eval reference:8 -m ./my-policy -s self_consistency:n=16
    """
    from dataclasses import replace

    from training.policy import RECIPES, save, train

    if size not in RECIPES:
        raise ConfigError(f"there is no policy of size {size!r}: there are {', '.join(RECIPES)}")
    usual = RECIPES[size]
    recipe = replace(usual, seed=usual.seed if seed is None else seed, steps=steps or usual.steps)
    model = train(
        recipe,
        device=device,
        report=lambda p: print(
            f"step {p.step}/{recipe.steps}, {p.loss:.4f} nats a token, {p.seconds:.0f} s", flush=True
        ),
    )
    save(model, recipe, folder)
    print(f"written to {folder}")


def prm(
    folder: Out,
    labels: Annotated[str, typer.Option(help="exact (reference world), or by completions: hard, soft.")] = "exact",
    policy: Policy = "reference-base",
    start: Start = None,
    task: Tasks = None,
    problems: Problems = None,
    samples: Samples = None,
    trained: Trained = None,
    layers: Layers = None,
    fresh: Fresh = False,
    dense: Dense = None,
    completions: Completions = None,
    completed: Completed = None,
    compressed: Compressed = 0.0,
    epochs: Epochs = None,
    learning_rate: LearningRate = None,
    engine: Engine = "transformers",
    data_dir: DataDir = None,
    rollouts: Rollouts = None,
    threads: Threads = 1,
    seed: Seed = 0,
) -> None:
    """Train a process reward model on a policy's own solutions.

    Example:

        bethink train prm --out my-prm

        bethink train prm --labels soft --completed 2000 --completions 4 --out my-mc-prm
    """
    changes = {
        "labels": labels,
        "trained": trained,
        "layers": layers,
        "fresh": fresh,
        "compressed": compressed,
        "dense": dense,
    }
    counted = {"completions": completions, "completed": completed}
    drawn = {"policy": policy, "tasks": task, "problems": problems, "samples": samples}
    fitted = {"epochs": epochs, "learning_rate": learning_rate}
    recipe = _recipe("prm", {**changes, **counted, "start": start or policy}, drawn, fitted, seed)
    _train(recipe, folder, rollouts, engine, data_dir, threads)


def value(
    folder: Out,
    labels: Annotated[
        str, typer.Option(help="outcome of the solution itself, by completions: soft, or by tree search: mcts.")
    ] = "outcome",
    policy: Policy = "reference-base",
    start: Start = None,
    task: Tasks = None,
    problems: Problems = None,
    samples: Samples = None,
    trained: Trained = None,
    layers: Layers = None,
    fresh: Fresh = False,
    dense: Dense = None,
    completions: Completions = None,
    completed: Completed = None,
    simulations: Simulations = None,
    children: Children = None,
    before: Before = None,
    epochs: Epochs = None,
    learning_rate: LearningRate = None,
    engine: Engine = "transformers",
    data_dir: DataDir = None,
    rollouts: Rollouts = None,
    threads: Threads = 1,
    seed: Seed = 0,
) -> None:
    """Train a value model: how probable is it that what was written so far ends right?

    Example:

        bethink train value --out my-value

        bethink train value --labels mcts --simulations 40 --completed 600 --out my-searched-value
    """
    changes = {"labels": labels, "trained": trained, "layers": layers, "fresh": fresh, "dense": dense}
    counted = {"completions": completions, "completed": completed}
    drawn = {"policy": policy, "tasks": task, "problems": problems, "samples": samples}
    fitted = {"epochs": epochs, "learning_rate": learning_rate}
    searched = {"simulations": simulations, "children": children, "value": before}
    recipe = _recipe("value", {**changes, **counted, "start": start or policy}, drawn, fitted, seed, searched)
    _train(recipe, folder, rollouts, engine, data_dir, threads)


def self_eval(
    folder: Out,
    policy: Policy = "reference-base",
    task: Tasks = None,
    problems: Problems = None,
    samples: Samples = None,
    trained: Trained = None,
    layers: Layers = None,
    completions: Completions = None,
    completed: Completed = None,
    keep: Annotated[float, typer.Option(help="Weight of writing as before; 0 is none.")] = 1.0,
    epochs: Epochs = None,
    learning_rate: LearningRate = None,
    engine: Engine = "transformers",
    data_dir: DataDir = None,
    rollouts: Rollouts = None,
    threads: Threads = 1,
    seed: Seed = 0,
) -> None:
    """Train a policy to say, by one token, whether going on beats starting over.

    Example:

        bethink train self-eval --out my-policy-that-judges-itself
    """
    changes = {"trained": trained, "layers": layers, "keep": keep, "completions": completions, "completed": completed}
    drawn = {"policy": policy, "tasks": task, "problems": problems, "samples": samples}
    fitted = {"epochs": epochs, "learning_rate": learning_rate}
    recipe = _recipe("self-eval", {**changes, "start": policy}, drawn, fitted, seed)
    _train(recipe, folder, rollouts, engine, data_dir, threads)


def _recipe(
    role: str,
    changes: dict[str, Any],
    drawn: dict[str, Any],
    fitted: dict[str, Any],
    seed: int,
    searched: dict[str, Any] | None = None,
) -> "JudgeRecipe":
    """The role's recipe with what the user changed."""
    from dataclasses import replace

    from training.judges.recipes import RECIPES

    def given(options: dict[str, Any]) -> dict[str, Any]:
        return {key: tuple(v) if isinstance(v, list) else v for key, v in options.items() if v is not None}

    recipe = RECIPES[role]
    if changes["trained"] in ("head", "lora", "likelihood") or changes.get("fresh"):
        recipe = replace(recipe, trained="all", layers=0)  # these begin with the policy's own layers
    if changes.get("labels", recipe.labels) not in ("exact", "outcome"):
        recipe = replace(recipe, dense=False)
    return replace(
        recipe,
        rollouts=replace(recipe.rollouts, **given(drawn), seed=seed),
        fit=replace(recipe.fit, **given(fitted), seed=seed),
        search=replace(recipe.search, **given(searched or {})),
        **given(changes),
    )


def _train(
    recipe: "JudgeRecipe", folder: Path, rollouts: Path | None, engine: str, data_dir: Path | None, threads: int
) -> None:
    from training.judges.recipes import train_judge

    data = rollouts or folder.with_name(f"{folder.name}-rollouts")
    told = lambda line: print(line, file=sys.stderr, flush=True)  # noqa: E731
    options = {"threads": threads} if engine == "transformers" else {}
    figures = train_judge(
        recipe, folder, data=data, engine=engine, options=options, data_dir=data_dir, threads=threads, told=told
    )
    auc = figures["auc"]
    print(f"held-out AUC {auc['mean']:.4f} ({auc['low']:.4f} to {auc['high']:.4f}); see {folder / 'report.md'}")

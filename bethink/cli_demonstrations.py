"""``bethink demonstrations``: have a model write the solved examples that stand before the question (Auto-CoT)."""

from pathlib import Path
from typing import Annotated

import typer


def add_demonstrations(app: typer.Typer) -> None:
    """Add the command to the command line."""
    app.command()(demonstrations)


def demonstrations(
    task: Annotated[str, typer.Argument(help="gsm8k, or gym:NAME; its training questions are used.")],
    model: Annotated[str, typer.Option("--model", "-m", help="The model that is to be evaluated.")],
    target: Annotated[Path, typer.Option("--out", help="The file; an eval takes it as --prompt demonstrations:FILE.")],
    count: Annotated[int, typer.Option(help="Demonstrations, one for each cluster of questions.")] = 8,
    engine: Annotated[str, typer.Option(help="As for eval.")] = "auto",
    data_dir: Annotated[Path | None, typer.Option(help="Folder with data sets as JSON lines.")] = None,
    questions: Annotated[int, typer.Option(help="Training questions that are clustered.")] = 200,
    seed: Annotated[int, typer.Option(help="Of the clusters; what the model writes is greedy.")] = 0,
) -> None:
    """Cluster training questions and have the model solve a typical one of each cluster.

    Examples:

        bethink demonstrations gsm8k -m smollm2-135m-instruct --out demos.jsonl --data-dir data

        bethink eval gsm8k -m smollm2-135m-instruct --prompt demonstrations:demos.jsonl -s self_consistency:n=8
    """
    from bethink import open_engine
    from evals.auto_cot import demonstrate, training_questions
    from verifiers.numeric import NumberFormat
    from verifiers.text import TextFormat

    asked = training_questions(task, data_dir=data_dir, limit=questions, seed=seed)
    answers = NumberFormat() if task == "gsm8k" else TextFormat()
    with open_engine(model, engine) as opened:
        made = demonstrate(opened, asked, count, target, answers=answers, seed=seed)
    print(f"{len(made)} demonstrations written to {target}")

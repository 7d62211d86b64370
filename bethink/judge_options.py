"""Options of the command line that name judges."""

import ast
from typing import Annotated, Any

import typer

from decoding.errors import ConfigError
from reasoning.judging import ROLES
from reasoning.open_judges import SELF, JudgeChoice
from verifiers.judges.types import Judge

Prm = Annotated[
    str | None,
    typer.Option("--prm", help="Process reward model: a name of `bethink models`, a folder, a hub id, or exact."),
]
Value = Annotated[str | None, typer.Option("--value", help="Value model, named likewise.")]
Orm = Annotated[str | None, typer.Option("--orm", help="Outcome reward model, named likewise.")]
Itself = Annotated[bool, typer.Option("--self", help="Let the policy judge itself, by one token.")]
JudgeBackend = Annotated[
    str, typer.Option("--judge-backend", help="What runs the judges: transformers, vllm, http, or auto.")
]
JudgeOptions = Annotated[
    list[str] | None,
    typer.Option("--judge-option", help="name=value for the judge; of several, role.name=value. Repeat."),
]


def parse_judges(
    prm: str | None, value: str | None, orm: str | None, itself: bool, backend: str, options: list[str] | None
) -> JudgeChoice:
    """The judges that were named; raises ``ConfigError``."""
    typed = {"prm": prm, "value": value, "orm": orm, "self": SELF if itself else None}
    named: dict[str, str | Judge] = {role: name for role, name in typed.items() if name is not None}
    by_role: dict[str, dict[str, Any]] = {}
    for item in options or []:
        key, equals, text = item.partition("=")
        role, dot, option = key.rpartition(".")
        if not dot and len(named) == 1:
            role = next(iter(named))
        if not equals or not option.isidentifier() or role not in ROLES:
            raise ConfigError(
                f"a judge's option is name=value, or role.name=value where there are several judges, got {item!r}; "
                f"roles are {', '.join(ROLES)}"
            )
        by_role.setdefault(role, {})[option] = literal(text)
    return JudgeChoice(named=named, backend=backend, options=by_role)


def literal(text: str) -> Any:
    """A Python literal where the text is one, else the text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text

r"""Prompt templates by name.

A template is data: an instruction, a frame for the question, and whether it is meant for a chat. Braces are replaced,
not formatted, so ``\boxed{}`` stays what it is.
"""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from decoding.engine import Tokenizer
from decoding.errors import ConfigError, DataError
from evals.data import hash_order, text_field
from evals.demonstrations import read_demonstrations
from evals.tasks.gsm8k import FIELDS, gsm8k_rows
from reasoning.trajectory import Prompt

QUESTION = "{question}"
_STEP_BY_STEP = "Let's think step by step."
# PS and PS+ as the paper and those who quote it spell them; the wordings in its code differ a little.
_PLAN_AND_SOLVE = (
    "Let's first understand the problem and devise a plan to solve the problem. Then, let's carry out the plan and "
    "solve the problem step by step."
)
_PLAN_AND_SOLVE_PLUS = (
    "Let's first understand the problem, extract relevant variables and their corresponding numerals, and make a plan. "
    "Then, let's carry out the plan, calculate intermediate variables (pay attention to correct numerical calculation "
    "and commonsense), solve the problem step by step, and show the answer."
)
_QWEN = r"Please reason step by step, and put your final answer within \boxed{}."
# The system prompt of search-and-learn (Hugging Face, Apache-2.0), which particle filtering and ETS took over.
_SEARCH_AND_LEARN = r"""Solve the following math problem efficiently and clearly:

- For simple problems (2 steps or fewer):
Provide a concise solution with minimal explanation.

- For complex problems (3 steps or more):
Use this step-by-step format:

## Step 1: [Concise description]
[Brief explanation and calculations]

## Step 2: [Concise description]
[Brief explanation and calculations]

...

Regardless of the approach, always conclude with:

Therefore, the final answer is: $\boxed{answer}$. I hope it is correct.

Where [answer] is just the final number or expression that solves the problem."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """How a question is put to a model."""

    name: str
    chat: bool  # meant for models with a chat template; others get system and frame as one text
    frame: str = QUESTION  # the user's message, or the whole text; `QUESTION` stands where the question goes
    system: str | None = None
    stop: tuple[str, ...] = ()  # strings that end a completion of a model that doesn't stop by itself


def _triggered(name: str, trigger: str) -> Template:
    """A question and the words that open its answer.

    The papers then ask a second time ("Therefore, the answer is"); here the answer format reads what was written.
    """
    return Template(name=name, chat=True, frame=f"Q: {QUESTION}\nA: {trigger}", stop=("\nQ:",))


TEMPLATES: Mapping[str, Template] = MappingProxyType(
    {
        template.name: template
        for template in (
            Template(name="plain", chat=False),
            Template(name="chat", chat=True),
            Template(
                name="zero_shot",
                chat=True,
                frame=QUESTION + "\n\nReason step by step. End with a line of the form\n#### number",
            ),
            Template(
                name="answer",
                chat=True,
                frame=QUESTION + "\n\nReason step by step. End with a line of the form\nAnswer: your answer",
            ),
            _triggered("zero_shot_cot", _STEP_BY_STEP),  # Kojima et al. 2022, arXiv 2205.11916
            _triggered("plan_and_solve", _PLAN_AND_SOLVE),  # Wang et al. 2023, arXiv 2305.04091
            _triggered("plan_and_solve_plus", _PLAN_AND_SOLVE_PLUS),
            Template(name="boxed", chat=True, system=_QWEN),
            Template(
                name="code",
                chat=True,
                frame="Write the Python function that is asked for. Answer with one fenced block of Python that holds "
                "the whole function and all that it needs.\n\n" + QUESTION,
            ),
            Template(
                name="code_completion",
                chat=False,
                stop=("\nif __name__", "\nprint(", "\nassert ", '\n"""', "\n```"),
            ),
            Template(name="search_and_learn", chat=True, system=_SEARCH_AND_LEARN),
        )
    }
)


_TAKE_ARGUMENT = ("few_shot:<k>", "demonstrations:<file>")


def template_named(spec: str, *, data_dir: Path | None = None) -> Template:
    """A template by name, or one that puts solved problems before the question.

    ``few_shot:<k>`` has k GSM8K training problems; `data_dir` holds ``gsm8k_train.jsonl``, without it they come from
    the hub. ``demonstrations:<file>`` has those of a file that `evals.auto_cot` wrote.

    Raises ``ConfigError`` for an unknown name, ``DataError`` if the solved problems can't be had.
    """
    name, _, argument = spec.partition(":")
    if name == "few_shot" and argument.isascii() and argument.isdigit() and int(argument[:5]) > 0:
        return _few_shot(int(argument[:5]), data_dir)
    if name == "demonstrations" and argument:
        return _demonstrations(Path(argument).expanduser())
    if name == "auto_cot":
        raise ConfigError(f"{spec!r}: the model writes the demonstrations first (evals.auto_cot, docs/prompting.md)")
    if spec not in TEMPLATES:
        close = difflib.get_close_matches(spec, TEMPLATES, n=1)
        meant = f" (did you mean {close[0]}?)" if close else ""
        raise ConfigError(
            f"there is no prompt {spec!r}{meant}. Prompts are: {', '.join((*TEMPLATES, *_TAKE_ARGUMENT))}"
        )
    return TEMPLATES[spec]


def render(template: Template, question: str, tokenizer: Tokenizer) -> Prompt:
    """Put a question into a template and turn it into ids, once.

    Templates for chats become messages where the model has a chat template, and one text where it has none.
    """
    # The question goes in last, so that one which holds `QUESTION` itself changes nothing.
    before, _, after = template.frame.rpartition(QUESTION)
    body = before + question + after
    if template.chat and tokenizer.has_chat_template:
        messages = [{"role": "user", "content": body}]
        if template.system is not None:
            messages.insert(0, {"role": "system", "content": template.system})
        return Prompt.from_chat(messages, tokenizer, question=question)
    text = body if template.system is None else f"{template.system}\n\n{body}"
    return Prompt.from_text(text, tokenizer, question=question)


def _few_shot(count: int, data_dir: Path | None) -> Template:
    """The few-shot prompt of Large Language Monkeys (Brown et al. 2024) and lm-eval's gsm8k.

    They draw other examples for every problem; here they are the first in hash order, so that all problems share
    the prefix.
    """
    rows, source = gsm8k_rows("train", data_dir)
    if count > len(rows):
        raise DataError(f"few_shot:{count} wants more examples than {source} has ({len(rows)}): ask for fewer")
    numbered = sorted(enumerate(rows), key=lambda pair: hash_order(f"gsm8k-train-{pair[0]:04d}"))
    examples = [
        "Question: {}\nAnswer: {}\n\n".format(*(text_field(row, [key], f"{source}, row {i}") for key in FIELDS))
        for i, row in numbered[:count]
    ]
    frame = "".join(examples) + f"Question: {QUESTION}\nAnswer:"
    return Template(name=f"few_shot:{count}", chat=False, frame=frame, stop=("\nQuestion:",))


def _demonstrations(path: Path) -> Template:
    """Questions with the model's own rationales, put as Auto-CoT puts them (Zhang et al. 2022, arXiv 2210.03493)."""
    demonstrations, checksum = read_demonstrations(path)
    examples = [
        f"Q: {d.question}\nA: {_STEP_BY_STEP} {d.rationale} The answer is {d.answer}.\n\n" for d in demonstrations
    ]
    frame = "".join(examples) + f"Q: {QUESTION}\nA: {_STEP_BY_STEP}"
    return Template(name=f"demonstrations:{checksum[:12]}", chat=False, frame=frame, stop=("\nQ:",))

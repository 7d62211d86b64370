"""What the grader of mathematical answers decides, how fast, and what it survives.

Each part is a function that returns figures; ``python -m benchmarks.math_grading DATA`` prints them all.
"""

import argparse
import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from verifiers.base import Outcome
from verifiers.graders import grader_by_name
from verifiers.grading import Grading
from verifiers.math import MathFormat, MathVerifier
from verifiers.math.latex import normalise
from verifiers.workers import WorkerPool

VERIFIER = MathVerifier()


class Rates(NamedTuple):
    """Golds against themselves."""

    extracted: int  # solutions whose last box is the gold
    correct: int
    total: int
    by_rule: dict[str, int]  # of golds respelt, so that their spelling decides nothing
    rows_a_second: float  # extraction and comparison


class Mutations(NamedTuple):
    """Changed golds, each judged both ways round."""

    by_kind: dict[str, int]
    accepted: list[tuple[str, str, str]]  # kind, changed, gold
    undecided: int  # of them, that only Math-Verify could tell
    excluded: dict[str, int]  # by reason


class Survived(NamedTuple):
    """What came of hostile answers through a pool."""

    verdicts: dict[str, str]
    slowest: float  # seconds, wall


class Leaks(NamedTuple):
    """Before and after many gradings."""

    gradings: int
    symbolic: int
    killed: int
    parent_mib: tuple[float, float]
    worker_mib: tuple[float, float]
    processes: tuple[int, int]


class Labels(NamedTuple):
    """Against labels of others."""

    total: int
    false_accepts: list[str]  # rows, with answer and gold
    false_refusals: list[str]


def golds(data: Path) -> list[dict[str, str]]:
    """MATH-500."""
    with (data / "math500.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def gold(data: Path) -> Rates:
    """Every gold against itself: as it is cut from its solution, and respelt."""
    rows = golds(data)
    answers = MathFormat()
    start = time.perf_counter()
    found = [answers.extract(row["solution"]).value for row in rows]
    verdicts = [VERIFIER.quick(value, row["answer"]) for value, row in zip(found, rows, strict=True)]
    seconds = time.perf_counter() - start
    respelt = [VERIFIER.verify(respell(row["answer"]), row["answer"]) for row in rows]
    correct = sum(verdict is not None and verdict.correct for verdict in verdicts)
    return Rates(
        extracted=sum(value == row["answer"] for value, row in zip(found, rows, strict=True)),
        correct=min(correct, sum(verdict.correct for verdict in respelt)),
        total=len(rows),
        by_rule=dict(Counter(verdict.rule for verdict in respelt).most_common()),
        rows_a_second=len(rows) / seconds,
    )


def respell(answer: str) -> str:
    """The same answer spelt in another way, so that its spelling decides nothing: n as 2n over 2, words in capitals.

    What has unknowns, a base or thousands in it is left as it is.
    """
    text = normalise(answer)
    if (words := re.fullmatch(r"\\text\{([^{}]*)\}", text)) is not None:
        return rf"\text{{{words[1].swapcase()}}}"
    if re.search(r"[A-Za-z]|_|[0-9],[0-9]{3}", re.sub(r"\\[A-Za-z]+", "", text)) or r"\frac" in text:
        return answer
    return re.sub(
        r"(?<![0-9.{^])([0-9]+)(?![0-9.}^/]|\^|\\text| )", lambda match: rf"\frac{{{2 * int(match[1])}}}{{2}}", text
    )


def mutations(data: Path) -> Mutations:
    """Golds changed in value; none may be accepted, whichever of the two is the reference."""
    kinds: Counter[str] = Counter()
    accepted, undecided, excluded = [], 0, Counter[str]()
    for row in golds(data):
        for kind, changed in mutants(row["answer"]):
            reason = _unchanged(kind, changed, row["answer"])
            if reason:
                excluded[f"{kind}: {reason}"] += 1
                continue
            kinds[kind] += 1
            for given, truth in ((changed, row["answer"]), (row["answer"], changed)):
                verdict = VERIFIER.quick(given, truth)
                undecided += verdict is None
                verdict = verdict or VERIFIER.verify(given, truth)
                if verdict.outcome is not Outcome.WRONG:
                    accepted.append((kind, given, truth))
    return Mutations(dict(kinds.most_common()), accepted, undecided, dict(excluded))


def mutants(answer: str) -> Iterator[tuple[str, str]]:
    """Changes of an answer's value, as text, by kind."""
    for digits in re.finditer(r"(?<![0-9.,])[0-9]+(?![0-9.,]|\\!)", answer):
        yield "plus one", answer[: digits.start()] + str(int(digits[0]) + 1) + answer[digits.end() :]
    yield "whole plus one", f"({answer})+1"
    yield from _signs(answer)
    yield from _brackets(answer)
    yield from _bases(answer)
    if (match := re.search(r"\\d?frac\{([^{}]+)\}\{([^{}]+)\}", answer)) is not None:
        turned = rf"\frac{{{match[2]}}}{{{match[1]}}}"
        yield "fraction upside down", answer[: match.start()] + turned + answer[match.end() :]
    if re.fullmatch(r"[^()\[\]{}]+,[^()\[\]{}]+|\([^()\[\]]+,[^()\[\]]+\)", answer) and r"\!" not in answer:
        yield "dropped item", answer.rpartition(",")[0] + (")" if answer.endswith(")") else "")
    if "x" in answer and r"\text" not in answer:
        yield "other unknown", re.sub(r"(?<![\\A-Za-z])x", "w", answer)
    for kind, old, new in (
        ("dropped root", r"\sqrt", ""),
        ("dropped pi", r"\pi", "1"),
        ("finite", r"\infty", "9"),
        ("one of two", r"\pm", "+"),
    ):
        if old in answer:
            yield kind, answer.replace(old, new, 1)


def _brackets(answer: str) -> Iterator[tuple[str, str]]:
    if re.match(r"(?:\\left)?[(\[].*,.*(?:\\right)?[)\]]$", answer):
        for old, new in (("(", "["), ("[", "("), (")", "]"), ("]", ")")):
            spots = [match.start() for match in re.finditer(re.escape(old), answer)]
            for spot in {spots[0], spots[-1]} if spots else ():
                yield "bracket kind", answer[:spot] + new + answer[spot + 1 :]
    if (match := re.fullmatch(r"(\\left)?([(\[])([^,]+),([^,]+?)(\\right)?([)\]])", answer)) is not None:
        yield "swapped coordinates", f"{match[2]}{match[4]},{match[3]}{match[6]}"


def _bases(answer: str) -> Iterator[tuple[str, str]]:
    if "_" in answer:
        yield "dropped base", answer.split("_")[0]
        yield "other base", re.sub(r"_\{?([0-9])\}?", lambda match: f"_{int(match[1]) + 1}", answer)


def _signs(answer: str) -> Iterator[tuple[str, str]]:
    if re.match(r"[0-9.\\]", answer) and not answer.startswith((r"\text", r"\begin", r"\{", r"\left")):
        yield "sign", f"-{answer}"
    for match in re.finditer("[-+]", answer):
        yield "sign", answer[: match.start()] + ("+" if match[0] == "-" else "-") + answer[match.end() :]


def _unchanged(kind: str, changed: str, answer: str) -> str:
    """Why a change changes nothing, decided apart from the verifier where that is possible; "" if it does."""
    if kind == "whole plus one" and re.search(r"\\text|\\mbox|[=_,]|\\begin|\\in|\\cup|\\circ|\\pm|\$|\\\{", answer):
        return "no value to add to"
    if kind == "sign" and re.fullmatch(r"-?0", answer):
        return "0 has no sign"
    if kind == "swapped coordinates" and len(set(re.sub(r"[()\[\] ]", "", answer).split(","))) == 1:
        return "equal coordinates"
    if kind == "other unknown" and re.match(r"x\s*(?:=|\\in)", answer):
        return "a name before its value"
    return "same text" if changed == answer else ""


HOSTILE = {
    "a million digits": "7" * 10**6,
    "a million letters": "x" * 10**6,
    "NUL": "5\0",
    "lone surrogate": "5\ud800",
    "3,000 brackets": "(" * 3000 + "1" + ")" * 3000,
    "3,000 braces": "{" * 3000 + "1" + "}" * 3000,
    "tower": "9^{9^{9^9}}",
    "tower of unknowns": "x^{x^{x^{x^{99999}}}}",
    "factorial": "(10^8)!",
    "binomial": r"\binom{10^9}{5\cdot10^8}",
    "power of a sum": "(1+x+y+z)^{1000}",
    "integral": r"\int_0^1 \frac{\sin^{37} x \ln(1+x^{11})}{\sqrt{1+x^{13}}} e^{x^7} dx",
    "long sum": r"\sum_{k=1}^{10^9} \frac{1}{k^{3}+\sqrt{k}}",
    "product": r"\prod_{k=1}^{10^7} (k^{k}+1)",
    "nested roots": r"\sqrt{1+" * 40 + "2" + "}" * 40,
    "import": r"__import__('os').system('touch hostile')",
    "import in text": r"\text{__import__('os').system('touch hostile')}",
    "root of a giant": r"\sqrt{" + "9" * 1500 + "}",
    "huge float": "1e9999",
}


def hostile(cpu_seconds: float = 3.0) -> Survived:
    """Each hostile answer against 5, then a plain answer, through one pool; and each as a reference."""

    async def story() -> Survived:
        verdicts, slowest = {}, 0.0
        async with WorkerPool(cpu_seconds=cpu_seconds, wall_seconds=60) as pool:
            grading = Grading(MathFormat(), pool)
            for name, answer in HOSTILE.items():
                for side, pair in (("answer", (answer, "5")), ("reference", ("5", answer))):
                    start = time.monotonic()
                    verdict = await grading.verify(VERIFIER, *pair)
                    slowest = max(slowest, time.monotonic() - start)
                    verdicts[f"{name} as {side}"] = f"{verdict.outcome}: {verdict.rule}"
            last = await grading.verify(VERIFIER, r"\cot x", r"\frac{1}{\tan x}")
            verdicts["a plain answer afterwards"] = f"{last.outcome}: {last.rule}"
        return Survived(verdicts, slowest)

    return asyncio.run(story())


def leaks(gradings: int = 10_000, symbolic: int = 200, killed: int = 3) -> Leaks:
    """Memory of parent and worker, and processes, before and after; the first gradings warm the caches up."""

    async def story() -> Leaks:
        here = psutil.Process()
        before_processes = len(here.children(recursive=True))
        async with WorkerPool(cpu_seconds=2, wall_seconds=60) as pool:
            grading = Grading(MathFormat(), pool)

            async def symbolically(number: int) -> None:
                await grading.verify(VERIFIER, rf"\sin^2 x+\cos^2 x+{number}", rf"{number}+1")

            for number in range(50):
                await symbolically(-number - 1)
            before = here.memory_info().rss / 2**20, _workers_mib(here)
            for number in range(gradings):
                given, truth = rf"\frac{{{number}}}{{7}}\sqrt{{2}}", rf"{number}\cdot\frac{{\sqrt{{2}}}}{{7}}"
                if not (await grading.verify(VERIFIER, given, truth)).correct:
                    raise AssertionError(given)
                if number % (gradings // symbolic) == 0:
                    await symbolically(number)
            after = here.memory_info().rss / 2**20, _workers_mib(here)
            for number in range(killed):
                verdict = await grading.verify(VERIFIER, rf"\prod_{{k=1}}^{{10^7}} (k^{{k}}+{number})", "5")
                if verdict.outcome is not Outcome.TIMEOUT:
                    raise AssertionError(verdict)
        processes = before_processes, len(here.children(recursive=True))
        return Leaks(gradings, symbolic, killed, (before[0], after[0]), (before[1], after[1]), processes)

    return asyncio.run(story())


def _workers_mib(here: psutil.Process) -> float:
    return float(sum(child.memory_info().rss for child in here.children(recursive=True)) / 2**20)


def labels(data: Path, grader: str = "math") -> Labels:
    """ProcessBench's 400 labelled solutions of GSM8K problems."""
    answers, verifier = grader_by_name(grader)
    accepts: list[str] = []
    refusals: list[str] = []
    total = 0
    with (data / "processbench_gsm8k.jsonl").open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            found = answers.extract("\n\n".join(row["steps"]))
            right = verifier.verify(found.value, row["gold_answer"]).correct
            total += 1
            if right != row["final_answer_correct"]:
                note = f"{row['id']}: {found.value!r} ({found.rule}), gold {row['gold_answer']}"
                (accepts if right else refusals).append(note)
    return Labels(total, accepts, refusals)


def layers(data: Path | None = None) -> dict[str, float]:
    """Comparisons a second of each layer, on pairs that it decides and that are not in a cache."""
    pairs: dict[str, Sequence[tuple[str, str]]] = {
        "spelling": [(rf"\left( {n}, x \right)", f"({n},x)") for n in range(2000)],
        "number": [(rf"\frac{{{n}}}{{8}}", str(Fraction(n, 8) + 1)) for n in range(2000)],
        "closed form": [(rf"\frac{{{n}}}{{\sqrt{{3}}}}", rf"\frac{{{n}\sqrt{{3}}}}{{3}}") for n in range(1, 2000)],
        "group": [(f"({n}, {n + 1})", f"[{n}, {n + 1})") for n in range(2000)],
        "list": [(f"{n}, {n + 1}, x", f"x, {n + 1}, {n}") for n in range(2000)],
        "bounds": [(rf"\sin {n}", rf"\cos {n}") for n in range(1, 500)],
        "Math-Verify": [(rf"\sqrt{{{n * n + 2}+{2 * n}\sqrt2}}", rf"{n}+\sqrt2") for n in range(2, 42)],
    }
    rates = {}
    VERIFIER.verify(r"\cot x", r"\frac{1}{\tan x}")  # imports
    for name, cases in pairs.items():
        start = time.perf_counter()
        for given, truth in cases:
            VERIFIER.verify(given, truth)
        rates[name] = len(cases) / (time.perf_counter() - start)
    return rates


def compatibility(data: Path) -> dict[str, str]:
    """Golds of MATH-500 against themselves, by the graders of other harnesses."""
    figures = {}
    for name in ("hendrycks", "minerva", "prm800k", "math_verify"):
        verifier = grader_by_name(name).verifier
        rows = [row["answer"] for row in golds(data)]
        texts = [f"${row}$" for row in rows] if name == "math_verify" else rows
        right = sum(verifier.verify(text, row).correct for text, row in zip(texts, rows, strict=True))
        figures[name] = f"{right}/{len(rows)}"
    return figures


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--only", action="append")
    arguments = parser.parse_args()
    parts: dict[str, Callable[[Path], Any]] = {
        "gold": gold,
        "layers": layers,
        "mutations": mutations,
        "labels": labels,
        "compatibility": compatibility,
        "hostile": lambda data: hostile(),
        "leaks": lambda data: leaks(),
    }
    for name, part in parts.items():
        if not arguments.only or name in arguments.only:
            figures = part(arguments.data)
            shown = figures._asdict() if hasattr(figures, "_asdict") else figures
            print(name, json.dumps(shown, indent=1, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()

"""Claims about answers, figures and choosing by probability, and about an engine behind a server."""

import math
from pathlib import Path

from benchmarks.claim import Claim, Shown, tests
from verifiers.base import Outcome


def gold(data: Path, out: Path) -> Shown:
    """MATH-500: each gold is cut from its solution, right against itself, and right when it is spelt in another way."""
    from benchmarks.math_grading import gold

    found = gold(data)
    total = sum(found.by_rule.values())
    return Shown(
        found.extracted == found.correct == total == found.total == 500,
        f"{found.correct}/{found.total} right, {found.extracted} cut from solutions, {total} right when respelt; "
        f"{found.rows_a_second:,.0f} rows/s",
    )


def mutations(data: Path, out: Path) -> Shown:
    """Every change of a gold that changes its value is refused, whichever of the two is the reference."""
    from benchmarks.math_grading import mutations

    found = mutations(data)
    kinds = ", ".join(f"{kind} {count}" for kind, count in found.by_kind.items())
    excluded = ", ".join(f"{reason} {count}" for reason, count in found.excluded.items())
    total = sum(found.by_kind.values())
    return Shown(not found.accepted and total > 1000, f"{total} refused ({kinds}); left out as equal: {excluded}")


def one_equality(data: Path, out: Path) -> Shown:
    r"""``\boxed{3}, no wait, \boxed{4}`` is 4; 1/2, 0.5 and \frac12 vote together; what can't be read never wins."""
    import asyncio

    from reasoning.selection import majority
    from verifiers.grading import Grading
    from verifiers.math import MathFormat

    answers = MathFormat()
    last = answers.extract(r"It is \boxed{3}, no wait, \boxed{4}.").value
    texts = [r"\boxed{1/2}", "no idea", r"\boxed{0.5}", "none", r"\boxed{\frac12}", "?", r"\boxed{1/3}", "so"]
    values = [answers.extract(text).value for text in texts]
    classes = asyncio.run(Grading(answers).classes(values))
    vote = majority(classes)
    return Shown(
        last == "4" and classes == [0, None, 0, None, 0, None, 1, None] and vote.winner == 0,
        f"last box {last}; classes {classes} of {values}; the winner has {vote.weights.get(0, 0):.0f} votes",
    )


def hostile(data: Path, out: Path) -> Shown:
    """Long, broken and endless answers: back within the deadline, with the verdict that says so."""
    from benchmarks.math_grading import hostile

    found = hostile()
    right = [name for name, verdict in found.verdicts.items() if verdict.startswith(Outcome.CORRECT)]
    told = "; ".join(f"{name}: {verdict}" for name, verdict in found.verdicts.items())
    only_control = right == ["a plain answer afterwards"]
    return Shown(only_control and found.slowest < 30, f"slowest {found.slowest:.1f} s; {told}")


def leaks(data: Path, out: Path) -> Shown:
    """10,000 gradings, some of them symbolic and some killed, leave no process and no memory."""
    from benchmarks.math_grading import leaks

    found = leaks()
    grown = [after - before for before, after in (found.parent_mib, found.worker_mib)]
    return Shown(
        found.processes[0] == found.processes[1] and max(grown) < 20,
        f"{found.gradings} gradings ({found.symbolic} symbolic, {found.killed} killed): the parent grew by "
        f"{grown[0]:.1f} MiB, the worker by {grown[1]:.1f}; processes {found.processes[0]} to {found.processes[1]}",
    )


def grade_speed(data: Path, out: Path) -> Shown:
    """`bethink grade` where no symbolic work is needed: at least 200 rows/s, start and workers included."""
    import json
    import time

    from evals.data import read_jsonl
    from evals.grade import grade_file, style_named

    rows = [
        {"text": row[name]["solution"], "reference": row["ground_truth"].rpartition("A:")[2].strip()}
        for row in read_jsonl(data / "gsm8k_openai_model_solutions.jsonl")
        for name in ("6b_finetuning", "6b_verification", "175b_finetuning", "175b_verification")
    ]
    source = out / "grade_in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows))
    began = time.monotonic()
    counts = grade_file(source, out / "grade_out.jsonl", style_named("gsm8k"))
    speed = len(rows) / (time.monotonic() - began)
    return Shown(speed >= 200 and counts.total() == 5276, f"{speed:,.0f} rows/s over {counts.total()} rows")


def estimators(data: Path, out: Path) -> Shown:
    """Every estimator against enumeration on 300 random pools."""
    from benchmarks.estimators import measure

    rows = measure(300)
    told = ", ".join(f"{row.estimator} {row.deviation:.0e}" for row in rows)
    return Shown(all(row.deviation < 1e-12 and row.cases >= 300 for row in rows), f"largest deviation: {told}")


def coverage_laws(data: Path, out: Path) -> Shown:
    """Coverage fits recover the law that made the pools; what they say of other worlds is in the table."""
    from benchmarks.estimators import recover

    rows = recover()
    told = "; ".join(
        f"{r.law} in {r.world}: {r.estimate:.3f} where {r.truth:.3f} is true, intervals hold {100 * r.covered:.0f} %"
        for r in rows
    )
    own = [row for row in rows if row.law == "beta-binomial" and row.world.startswith("beta")]
    return Shown(bool(own) and all(abs(row.estimate - row.truth) < 0.02 for row in own), told)


def laws(data: Path, out: Path) -> Shown:
    """Resampling against simulation, PC against exact masses, RPC without pruning, planted parameters: their tests."""
    return tests(*(f"test_{name}" for name in ("flaws", "rpc", "selection", "coverage", "metrics", "grading")))


def selection(data: Path, out: Path) -> Shown:
    """Choosing from the stored pool of 500 problems x 64 samples, whatever comes out."""
    from benchmarks.selection import load, measure

    problems = load("reference-8")
    lines = measure(problems, 64)
    told = ", ".join(
        f"{line.way} {100 * line.accuracy.mean:.1f} ({100 * line.gain.mean:+.1f}, {100 * line.gain.low:+.1f} to "
        f"{100 * line.gain.high:+.1f})"
        for line in lines
    )
    whole = len(problems) == 500 and all(math.isfinite(line.gain.mean) for line in lines)
    return Shown(whole, f"right at 64, % (over the majority, 95 %): {told}")


def same_tokens(data: Path, out: Path) -> Shown:
    """Seeded requests through the engine `vllm`, and through `openai` over a vLLM server."""
    from benchmarks.openai_tokens import measure

    found = measure()
    return Shown(
        found.differing == 0 == found.differing_reasons,
        f"{found.differing} of {found.requests} completions differ, {found.tokens} tokens; "
        f"{found.vllm_speed:,.0f} and {found.openai_speed:,.0f} tokens/s",
    )


CLAIMS = (
    Claim("MATH golds", gold),
    Claim("changed golds", mutations),
    Claim("one equality", one_equality),
    Claim("hostile answers", hostile),
    Claim("gradings leak nothing", leaks),
    Claim("grading speed", grade_speed),
    Claim("estimators", estimators),
    Claim("coverage laws", coverage_laws),
    Claim("laws of selection and resampling", laws),
    Claim("choosing by probability", selection),
    Claim("same tokens from a server", same_tokens),
)

"""Claims about searches by steps: exact laws, order, what they are worth and cost, how fast they run."""

from pathlib import Path

from benchmarks.claim import Claim, Shown, evaluate, tests
from benchmarks.machine import RESULTS

LAWS = (
    *("search", "resampling", "particle_filter", "particle_gibbs", "parallel_tempering", "beam_search", "rebase"),
    *("ets", "step_beam", "mcts", "code_steps"),
)


def laws(data: Path, out: Path) -> Shown:
    """Exact laws along every random path, optima, invariants, and planted errors that are caught; bad input."""
    return tests(*(f"test_{name}" for name in LAWS))


def order(data: Path, out: Path) -> Shown:
    """Every strategy: equal results and traces whatever the slots, the order of completions and of problems."""
    return tests("test_strategies")


def curves(data: Path, out: Path) -> Shown:
    """Searches against majority and best-of-n at equal tokens, with the shipped and the exact judge; whatever it is."""
    from benchmarks import search_curves as measured

    kept = out / "search-kept"
    keys = [(judge, family) for judge in measured.JUDGES for family in (measured.SAMPLING, *measured.FAMILIES)]
    settings = {"sizes": measured.SIZES, "limit": measured.LIMIT, "engine": "vllm"}
    measured.run(out / "search", kept, keys, {}, **settings)
    told, whole = [], True
    for judge in measured.JUDGES:
        points = measured.points_of(kept, judge)
        whole &= all(len(points.get(family, ())) == len(measured.SIZES) for family in measured.FAMILIES)
        for family in measured.FAMILIES:
            best = max(points[family], key=lambda point: point.size)
            gained = measured.gain(best, points["best of n"]).difference
            told.append(
                f"{judge} {family} n={best.size} {100 * best.found.right.mean():.1f} ({100 * gained.mean:+.1f}, "
                f"{100 * gained.low:+.1f} to {100 * gained.high:+.1f})"
            )
    return Shown(whole, f"right, % (over best of n at equal tokens, 95 %): {'; '.join(told)}")


def after_the_end(data: Path, out: Path) -> Shown:
    """No token was generated after a trajectory had finished, in any of the stored searches."""
    from benchmarks.search_rows import measured

    found = [line for folder in sorted((out / "search").glob("*/")) for line in measured(folder).values()]
    tokens, runs = sum(line.after_end for line in found), sum(len(line.right) for line in found)
    return Shown(runs > 10_000 and tokens == 0, f"{tokens} tokens in {runs} runs of {len(found)} strategies")


def cache(data: Path, out: Path) -> Shown:
    """ETS against REBASE at equal width, settings and margin fixed beforehand; whatever it is (1.8 was hoped for)."""
    from benchmarks import search_kv as measured

    kept = out / "search-kept"
    measured.run(out / "search", kept, {}, engine="vllm", pair=measured.PAIR, curve=measured.CURVE)
    fixed = measured.savings(kept)[0]
    return Shown(fixed.problems == measured.PAIR, measured.headline(fixed))


def speed(data: Path, out: Path) -> Shown:
    """One batch against one problem at a time with a barrier a step: at least 3 x and, with SmolLM2, 1.8 x."""
    from benchmarks import search as measured

    wanted, told, holds = {"reference-base": 3.0, "smollm2-135m-instruct": 1.8}, [], True
    for model, least in wanted.items():
        size = {"problems": measured.PROBLEMS, "particles": measured.PARTICLES}
        pair = measured.measure(measured.plan_of(model, **size, engine="vllm", data=data), 1, {})[0]
        holds &= pair.ratio >= least
        told.append(
            f"{model} {pair.ratio:.2f} ({pair.shipped.seconds:.0f} s against {pair.barrier.seconds:.0f} s, "
            f"{pair.differing} answers differ)"
        )
    return Shown(holds, "; ".join(told))


def schedule(data: Path, out: Path) -> Shown:
    """Slots busy, the judge's delay and the tail included, at least 0.85."""
    from benchmarks.search_schedule import DELAY, STRATEGIES, measure

    shares = {strategy: measure(strategy, DELAY, "shipped").share for strategy in STRATEGIES}
    told = ", ".join(f"{strategy} {share:.3f}" for strategy, share in shares.items())
    return Shown(min(shares.values()) >= 0.85, told)


def language(data: Path, out: Path) -> Shown:
    """Two searches in real language, 100 problems x 8, the policy as its own judge; whatever they solve."""
    from evals.store import read_rows

    folder = out / "search-smollm2"
    evaluate(
        *(folder, "gsm8k", "smollm2-135m-instruct", 100, "--data-dir", str(data), "--temperature", "0.8"),
        *("--max-tokens", "96", "--step-delimiter", "line", "--step-tokens", "32", "--self"),
        *("-s", "particle:n=8,score=self", "-s", "rebase:n=8,score=self"),
    )
    rows = list(read_rows(folder, "results"))
    right, errors = (sum(row["outcome"] == what for row in rows) for what in ("correct", "error"))
    tokens = sum(row["usage"].get("generated_tokens", 0) for row in rows)
    return Shown(len(rows) == 200 and not errors, f"{len(rows)} runs, {errors} errors, {right} right, {tokens} tokens")


def committed(data: Path, out: Path) -> Shown:
    """The committed tables are what the committed rows say."""
    from benchmarks import search_curves, search_kv

    wrong = []
    points = {judge: search_curves.points_of(RESULTS / "search", judge) for judge in search_curves.JUDGES}
    curves_text, kv_text = ((RESULTS / f"{name}.md").read_text() for name in ("search_curves", "search_kv"))
    wrong += [judge for judge, found in points.items() if "\n".join(search_curves.table(found)) not in curves_text]
    fixed, curve = search_kv.savings(RESULTS / "search")
    wrong += ["kv"] if any("\n".join(search_kv.table(lines)) not in kv_text for lines in ([fixed], curve)) else []
    return Shown(not wrong, f"other figures: {', '.join(wrong)}" if wrong else "both tables agree with their rows")


CLAIMS = (
    Claim("laws of searches", laws),
    Claim("order of searches", order),
    Claim("searches at equal cost", curves),
    Claim("cache of ETS and REBASE", cache),
    Claim("no tokens after the end", after_the_end),
    Claim("speed of searches", speed),
    Claim("schedule of searches", schedule),
    Claim("searches in real language", language),
    Claim("tables of searches", committed),
)

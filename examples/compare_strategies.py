"""Compare strategies on one question, from Python.

python examples/compare_strategies.py
"""

from bethink import AdaptiveSelfConsistency, BestOfN, SamplingParams, SelfConsistency, open_engine, solve
from evals.tasks.reference_task import ReferenceFormat

QUESTION = "84,+31,-76,-27,*4,+37,+16,-29,+91\n"


def main() -> None:
    """Ask once with each strategy."""
    with open_engine("reference-base") as engine:
        for strategy in (SelfConsistency(n=16), AdaptiveSelfConsistency(n=16), BestOfN(n=16)):
            result = solve(
                QUESTION,
                engine=engine,
                strategy=strategy,
                sampling=SamplingParams(seed=0, max_tokens=140),
                answers=ReferenceFormat(),
            )
            print(f"{strategy.name}: {result.answer} from {len(result.candidates)} candidates, ", end="")
            print(f"{result.usage.decoded_tokens} tokens, {result.stop_reason}")


if __name__ == "__main__":
    main()

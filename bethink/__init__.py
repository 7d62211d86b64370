r"""bethink: spend compute at inference time to get better answers out of a language model.

from bethink import SelfConsistency, open_engine, solve

with open_engine("reference-base") as engine:
print(solve("47,+38,*6\n", engine=engine, strategy=SelfConsistency(n=16)).answer)
"""

from bethink._ownership import check_ownership
from decoding.errors import BethinkError
from decoding.types import SamplingParams
from reasoning.api import asolve, open_engine, solve
from reasoning.budget import Budget
from reasoning.steps import Steps
from reasoning.strategies import (
    DVTS,
    ETS,
    MCTS,
    REBASE,
    AdaptiveBestOfN,
    AdaptiveSelfConsistency,
    BeamSearch,
    BestOfN,
    ParallelTempering,
    ParticleFilter,
    ParticleGibbs,
    PrunedBestOfN,
    RepeatedSampling,
    ResampleUntilAccepted,
    SelfConsistency,
    StepBeam,
    WeightedVote,
    parse_strategy,
)
from reasoning.trajectory import Candidate, Prompt, Result, Trajectory
from verifiers.judges.open import open_judge
from verifiers.judges.types import Solution

check_ownership()

__all__ = [
    "DVTS",
    "ETS",
    "MCTS",
    "REBASE",
    "AdaptiveBestOfN",
    "AdaptiveSelfConsistency",
    "BeamSearch",
    "BestOfN",
    "BethinkError",
    "Budget",
    "Candidate",
    "ParallelTempering",
    "ParticleFilter",
    "ParticleGibbs",
    "Prompt",
    "PrunedBestOfN",
    "RepeatedSampling",
    "ResampleUntilAccepted",
    "Result",
    "SamplingParams",
    "SelfConsistency",
    "Solution",
    "StepBeam",
    "Steps",
    "Trajectory",
    "WeightedVote",
    "asolve",
    "open_engine",
    "open_judge",
    "parse_strategy",
    "solve",
]

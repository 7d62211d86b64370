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
from reasoning.strategies import (
    AdaptiveSelfConsistency,
    BestOfN,
    RepeatedSampling,
    ResampleUntilAccepted,
    SelfConsistency,
    parse_strategy,
)
from reasoning.trajectory import Candidate, Prompt, Result, Trajectory

check_ownership()

__all__ = [
    "AdaptiveSelfConsistency",
    "BestOfN",
    "BethinkError",
    "Budget",
    "Candidate",
    "Prompt",
    "RepeatedSampling",
    "ResampleUntilAccepted",
    "Result",
    "SamplingParams",
    "SelfConsistency",
    "Trajectory",
    "asolve",
    "open_engine",
    "parse_strategy",
    "solve",
]

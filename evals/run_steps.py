"""How solutions fall into steps, in an evaluation: whom that concerns, and what run.json says of it."""

from collections.abc import Mapping, Sequence
from typing import Any

from decoding.errors import ConfigError
from reasoning.steps import Steps
from reasoning.strategies import Strategy
from reasoning.strategies.base import BySteps


def refuse_steps(typed: Mapping[str, Any], strategies: Sequence[Strategy]) -> None:
    """Raises ``ConfigError`` where fields of `Steps` were typed and no strategy goes by them."""
    if typed and not any(isinstance(strategy, BySteps) for strategy in strategies):
        raise ConfigError(
            f"{', '.join(typed)} of steps would change nothing: no search by steps is among "
            f"{', '.join(strategy.name for strategy in strategies)}; leave it out, or name one"
        )


def steps_config(steps: Steps, strategies: Sequence[Strategy]) -> dict[str, Any]:
    """What goes into run.json: nothing without a search, so that folders of other strategies stay what they were."""
    return {"steps": steps.record()} if any(isinstance(strategy, BySteps) for strategy in strategies) else {}

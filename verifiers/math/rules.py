"""What counts as the same answer where mathematics does not say."""

from dataclasses import dataclass
from typing import Literal

from decoding.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    r"""Policy of comparing; see docs/grading.md. The defaults follow how the MATH benchmark writes its answers.

    Attributes:
        ordered_points: Whether (1, 2) differs from (2, 1).
        ordered_lists: Whether ``1, 2`` differs from ``2, 1``; sets never have an order.
        percent: What ``50\%`` is: the number 50, or 50 hundredths.
        units: Whether two units that are known, and are not the same, make answers differ. A unit that is missing or
            not known never does.
        case: Whether case counts in words; it always counts in unknowns.
        reduced: Whether an answer with a fraction that could be reduced is wrong.
        tolerance: Relative difference up to which real numbers are equal; 0 asks for exact equality.
    """

    ordered_points: bool = True
    ordered_lists: bool = False
    percent: Literal["number", "hundredths"] = "number"
    units: bool = True
    case: bool = False
    reduced: bool = False
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what can't be meant."""
        if self.percent not in ("number", "hundredths"):
            raise ConfigError(f"percent must be 'number' or 'hundredths', got {self.percent!r}")
        if not 0 <= self.tolerance < 1:
            raise ConfigError(f"tolerance must be at least 0 and below 1, got {self.tolerance}")

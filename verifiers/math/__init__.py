"""Mathematical answers: found in texts, read as exact values and structures, compared in layers from cheap to dear."""

from verifiers.math.format import MathFormat
from verifiers.math.rules import Rules
from verifiers.math.verifier import MathVerifier

__all__ = ["MathFormat", "MathVerifier", "Rules"]

"""bethink's packages have names that other distributions use too, and pip overwrites one with another silently."""

from importlib.metadata import packages_distributions

from decoding.errors import ConfigError

SHARED_NAMES = ("reasoning", "decoding", "verifiers", "evals", "training")


def check_ownership() -> None:
    """Raise ``ConfigError`` if another installed distribution owns one of bethink's packages too."""
    owners = packages_distributions()
    for name in SHARED_NAMES:
        others = sorted(set(owners.get(name, ())) - {"bethink"})
        if others:
            raise ConfigError(
                f"the package {name!r} belongs to bethink and to {', '.join(others)}, and one has overwritten the "
                "other: install bethink into an environment of its own"
            )

"""Modules with errors planted in them: a law that holds of the healthy one has to fail of these."""

import inspect
import sys
from types import ModuleType


def planted(monkeypatch, module: ModuleType, *changes: tuple[str, str]) -> ModuleType:
    """A fresh copy of a module with pieces of its source replaced; whoever imports it from now on gets the copy."""
    source = inspect.getsource(module)
    for old, new in changes:
        assert source.count(old) == 1, f"{old!r} is {source.count(old)} times in {module.__name__}"
        source = source.replace(old, new)
    made = ModuleType(module.__name__)
    monkeypatch.setitem(sys.modules, module.__name__, made)
    exec(compile(source, str(module.__file__), "exec"), made.__dict__)
    return made


def deviation(found: dict, wanted: dict) -> float:
    """The largest difference of two laws."""
    return max(abs(found.get(key, 0.0) - wanted.get(key, 0.0)) for key in {*found, *wanted})

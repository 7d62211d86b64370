"""The package as it is installed."""

import importlib
from importlib.metadata import entry_points

import pytest

import bethink
from bethink import _ownership
from decoding.engines.vllm_orphans import OWNER, die_with_owner
from decoding.errors import ConfigError


def test_a_second_owner_of_a_package_is_an_error_that_names_it(monkeypatch):
    """`verifiers` is also another distribution's package, and pip overwrites one with the other without a word."""
    monkeypatch.setattr(_ownership, "packages_distributions", lambda: {"verifiers": ["bethink", "verifiers"]})
    with pytest.raises(ConfigError, match=r"'verifiers' belongs to bethink and to verifiers.*environment of its own"):
        _ownership.check_ownership()


def test_all_public_names_exist():
    for name in bethink.__all__:
        assert getattr(bethink, name) is not None


def test_vllm_finds_the_plugin_that_ends_orphans():
    plugins = [point for point in entry_points(group="vllm.general_plugins") if point.name == "bethink"]
    assert plugins, "install the package (pip install -e .): without it vLLM's processes outlive a killed run"
    assert plugins[0].load() is die_with_owner


def test_the_plugin_leaves_other_peoples_engines_alone(monkeypatch):
    def never(*_):
        raise AssertionError("it asked the kernel for something")

    monkeypatch.delenv(OWNER, raising=False)
    monkeypatch.setattr(importlib.import_module("ctypes"), "CDLL", never)
    die_with_owner()

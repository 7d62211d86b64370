"""An evaluation on the real vLLM engine that is killed loses nothing and leaves nothing behind."""

import importlib.util

import pytest

from benchmarks.kill_resume import measure


@pytest.mark.engine
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed here")
def test_two_kills_change_nothing_and_leave_no_process():
    """vLLM's EngineCore and Worker went on for ever when their parent was killed by SIGKILL."""
    outcome = measure(problems=60, samples=8, seed=1)
    assert all(0 < kill.samples < outcome.total for kill in outcome.kills)
    assert all(kill.processes >= 3 for kill in outcome.kills)
    assert sum(kill.survivors for kill in outcome.kills) == 0
    assert outcome.regenerated == outcome.differing == outcome.differing_results == 0

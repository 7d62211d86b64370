"""An evaluation on the real vLLM engine that is killed loses nothing and leaves nothing behind."""

import importlib.util
import os
import signal
import subprocess
import time

import psutil
import pytest

from benchmarks.kill_resume import command, measure

pytestmark = [
    pytest.mark.engine,
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed here"),
]


def test_two_kills_change_nothing_and_leave_no_process():
    """vLLM's EngineCore and Worker went on for ever when their parent was killed by SIGKILL."""
    outcome = measure(problems=60, samples=8, seed=1)
    assert all(0 < kill.samples < outcome.total for kill in outcome.kills)
    assert all(kill.processes >= 3 for kill in outcome.kills)
    assert sum(kill.survivors for kill in outcome.kills) == 0
    assert outcome.regenerated == outcome.differing == outcome.differing_results == 0


def test_ctrl_c_ends_in_order_although_it_reaches_every_process(tmp_path):
    """A terminal sends it to vLLM's processes too; they died at once, and their last words filled the screen."""
    folder = tmp_path / "run"
    process = subprocess.Popen(
        command(folder, 2000, 16),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    path, deadline = folder / "samples.jsonl", time.monotonic() + 180
    while not path.exists() or path.read_bytes().count(b"\n") < 500:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    family = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stderr.splitlines()[-1] == "stopped; what was finished is kept, run the same line again to go on"
    assert not [line for line in stderr.splitlines() if "rror" in line or "Traceback" in line]
    assert not psutil.wait_procs(family, timeout=10)[1]

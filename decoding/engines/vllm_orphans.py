"""No process of a vLLM engine outlives the program that opened it, not even one killed by SIGKILL.

vLLM's `EngineCore` and `Worker` processes go on when their parent is killed. vLLM loads this module in each of them, as
a plugin (entry point ``vllm.general_plugins``); where bethink opened the engine, the process asks the kernel to be
killed with its parent. Engines that bethink did not open are left alone. Linux only; elsewhere it does nothing.
"""

import ctypes
import os
import signal
import sys
import threading

OWNER = "BETHINK_ENGINE_OWNER"  # environment variable: process id of the program that opened the engine
_PR_SET_PDEATHSIG = 1


def die_with_owner() -> None:
    """Tie this process to its parent, if it belongs to an engine that bethink opened.

    Ctrl-C reaches every process of a terminal; from here on it is the owner's to handle, who ends requests in order.
    """
    owner = int(os.environ.get(OWNER, "0"))
    if not owner or owner == os.getpid() or not sys.platform.startswith("linux"):
        return
    if threading.current_thread() is threading.main_thread():  # no other may set handlers
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if not _alive(owner):  # it died while this process was starting: nobody is left to tell
        os._exit(1)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True

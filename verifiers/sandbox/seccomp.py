"""The filter of system calls (seccomp-BPF): what a program that computes needs is allowed, all else fails with EPERM.

Allowed are memory, files by the rights of the process, clocks, its own threads, and talking over what is open already.
Refused are new processes, sockets, signals to anybody, mounts, tracing, changing modes, owners, times or priorities,
and every call that is not on the list, those of future kernels too.

Runs inside the sandbox: standard library only. The numbers are those of Linux's headers for x86_64 and aarch64; the
filter was run on x86_64 only.
"""

import ctypes
import errno
import os
import platform
import struct

_ALLOWED = """
read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, close 3 57, lseek 8 62, open 2 -,
openat 257 56, stat 4 -, fstat 5 80, lstat 6 -, newfstatat 262 79, statx 332 291, access 21 -, faccessat 269 48,
faccessat2 439 439, readlink 89 -, readlinkat 267 78, getdents 78 -, getdents64 217 61, getcwd 79 17, chdir 80 49,
fchdir 81 50, statfs 137 43, fstatfs 138 44, umask 95 166, mkdir 83 -, mkdirat 258 34, rmdir 84 -, unlink 87 -,
unlinkat 263 35, rename 82 -, renameat 264 38, renameat2 316 276, symlink 88 -, symlinkat 266 36, link 86 -,
linkat 265 37, fsync 74 82, fdatasync 75 83, ftruncate 77 46, fallocate 285 47, flock 73 32, fadvise64 221 223,
sendfile 40 71, copy_file_range 326 285, close_range 436 436, readahead 187 213, mmap 9 222, munmap 11 215,
mprotect 10 226, mremap 25 216, madvise 28 233, brk 12 214, mincore 27 232, msync 26 227, futex 202 98,
sched_yield 24 124, set_robust_list 273 99, get_robust_list 274 100, rseq 334 293, set_tid_address 218 96,
exit 60 93, exit_group 231 94, restart_syscall 219 128, arch_prctl 158 -, wait4 61 260, waitid 247 95,
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, rt_sigpending 127 136, rt_sigsuspend 130 133,
rt_sigtimedwait 128 137, sigaltstack 131 132, pause 34 -, alarm 37 -, setitimer 38 103, getitimer 36 102,
clock_gettime 228 113, clock_getres 229 114, clock_nanosleep 230 115, nanosleep 35 101, gettimeofday 96 169,
time 201 -, times 100 153, getpid 39 172, gettid 186 178, getppid 110 173, getuid 102 174, geteuid 107 175,
getgid 104 176, getegid 108 177, getresuid 118 148, getresgid 120 150, getgroups 115 158, getpgrp 111 -,
getpgid 121 155, getsid 124 156, uname 63 160, sysinfo 99 179, getrusage 98 165, getrlimit 97 163, getcpu 309 168,
sched_getaffinity 204 123, getpriority 140 141, getrandom 318 278, poll 7 -, ppoll 271 73, select 23 -,
pselect6 270 72, epoll_create1 291 20, epoll_ctl 233 21, epoll_wait 232 -, epoll_pwait 281 22, eventfd2 290 19,
pipe 22 -, pipe2 293 59, dup 32 23, dup2 33 -, dup3 292 24, sendto 44 206, recvfrom 45 207, sendmsg 46 211,
recvmsg 47 212, shutdown 48 210, getsockopt 55 209
"""  # name, number on x86_64, number on aarch64; -: the machine has no such call
_ARGUMENT = {  # name: (numbers, which argument, what it may be)
    "fcntl": ((72, 25), 1, (0, 1, 2, 3, 4, 5, 6, 7, 1030)),  # copies, flags and locks; no signals to others (F_SETOWN)
    "ioctl": ((16, 29), 1, (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)),  # TCGETS, TIOCGWINSZ, FIO*; no TIOCSTI
    "prlimit64": ((302, 261), 0, (0,)),  # of itself only
}
_CLONE, _CLONE3 = (56, 220), (435, 435)
_CLONE_THREAD = 0x10000
_CLONE_NEW = 0x7E020080  # all namespaces of linux/sched.h
_AUDIT = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # linux/audit.h

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF: ld [k]; jeq k; jset k; ret k
_ALLOW, _FAIL, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_NUMBER, _MACHINE, _FIRST_ARGUMENT = 0, 4, 16  # offsets in struct seccomp_data; low half of an argument
_PR_SET_NO_NEW_PRIVS, _PR_SET_SECCOMP, _MODE_FILTER = 38, 22, 2


def install() -> None:
    """Filter this process, for good, and give up getting privileges by exec.

    Raises:
        OSError: The kernel has no seccomp, or refuses it, or the machine is unknown.
    """
    if platform.machine() not in _AUDIT:
        raise OSError(errno.ENOSYS, f"no table of system calls for {platform.machine()}")
    code = program(platform.machine())
    buffer = ctypes.create_string_buffer(code, len(code))
    # struct sock_fprog {unsigned short len; struct sock_filter *filter;}
    head = ctypes.create_string_buffer(struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _MODE_FILTER, head, 0, 0):
        raise OSError(ctypes.get_errno(), f"seccomp: {os.strerror(ctypes.get_errno())}")


def program(machine: str) -> bytes:
    """The filter in BPF, 8 bytes an instruction."""
    column = list(_AUDIT).index(machine)
    refuse = _step(_RETURN, _FAIL | errno.EPERM)
    code = [_step(_LOAD, _MACHINE), _step(_EQUAL, _AUDIT[machine], 1, 0), _step(_RETURN, _KILL)]
    code.append(_step(_LOAD, _NUMBER))
    for entry in _ALLOWED.split(","):
        number = entry.split()[1 + column]
        if number != "-":
            code += [_step(_EQUAL, int(number), 0, 1), _step(_RETURN, _ALLOW)]
    for numbers, argument, values in _ARGUMENT.values():
        body = [_step(_LOAD, _FIRST_ARGUMENT + 8 * argument)]
        for value in values:
            body += [_step(_EQUAL, value, 0, 1), _step(_RETURN, _ALLOW)]
        body.append(refuse)
        code += [_step(_EQUAL, numbers[column], 0, len(body)), *body]
    # Threads, but no processes. glibc falls back from clone3, whose flags a filter can't see, to clone.
    threads = [_step(_LOAD, _FIRST_ARGUMENT), _step(_ANY_BIT, _CLONE_NEW, 2, 0)]
    threads += [_step(_ANY_BIT, _CLONE_THREAD, 0, 1), _step(_RETURN, _ALLOW), refuse]
    code += [_step(_EQUAL, _CLONE[column], 0, len(threads)), *threads]
    code += [_step(_EQUAL, _CLONE3[column], 0, 1), _step(_RETURN, _FAIL | errno.ENOSYS), refuse]
    return b"".join(code)


def _step(operation: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", operation, if_true, if_false, value)

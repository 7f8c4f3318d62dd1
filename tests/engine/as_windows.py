"""Makes this process, on Linux, as able as one on Windows; for tests, before latebolt is imported.

Attributes of `os`, `signal` and `select` that Windows has not are taken away, modules too, folders cannot be
opened, and a file that this process has open or mapped can be neither replaced, renamed, removed nor be in a
folder that is renamed, as there with files that Python opens. What is not simulated: paths, drives, case,
device names, what other processes hold, the console's signals.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import pathlib  # noqa: F401 - the standard library's own use of os is bound before
import select
import shutil
import signal
import socket
import stat
import subprocess  # noqa: F401
import sys
import tempfile  # noqa: F401
from collections.abc import Callable
from typing import Any

_OS = (
    *("fork", "forkpty", "register_at_fork", "killpg", "geteuid", "getuid", "getegid", "getgid", "setsid"),
    *("fchmod", "fchown", "chown", "lchown", "mkfifo", "sysconf", "statvfs", "sched_getaffinity", "uname"),
    *(
        "getloadavg",
        "pread",
        "pwrite",
        "posix_fadvise",
        "O_DIRECTORY",
        "O_NONBLOCK",
        "O_CLOEXEC",
        "O_NOFOLLOW",
    ),
)
_SIGNALS = (
    *("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGKILL", "SIGCHLD"),
    *("setitimer", "alarm", "pthread_sigmask"),
)
_SELECT = ["poll", "epoll", "PIPE_BUF"]
_MODULES = ["resource", "pwd", "grp", "termios", "tty", "pty", "fcntl"]
# Libraries that choose by `sys.platform` what they use: they stay as they are here.
_LIBRARIES = (
    *("numpy", "platformdirs", "filelock", "tqdm", "click", "msgspec", "tokenizers", "huggingface_hub"),
    *("onnxruntime", "llvmlite.binding", "numba", "uvicorn", "prometheus_client", "multiprocessing.context"),
    *("asyncio", "logging.config", "watchfiles", "httpx2", "uuid", "sqlite3", "concurrent.futures"),
)


def take_away() -> None:
    """See above; for the rest of this process."""
    for name in _LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    _lock_by_size()
    for owner, names in ((os, _OS), (signal, _SIGNALS), (select, _SELECT), (socket, ["AF_UNIX"])):
        for name in names:
            if hasattr(owner, name):
                delattr(owner, name)
    for name in _MODULES:
        sys.modules[name] = None  # type: ignore[assignment]
    shutil.rmtree = _remove_tree  # type: ignore[assignment] # Python's takes folders by descriptors where it can
    real_open = os.open

    def open_(path: Any, flags: int, *rest: Any, **more: Any) -> int:
        if more.get("dir_fd") is not None:
            raise NotImplementedError("dir_fd is unavailable on this platform")
        is_named = isinstance(path, str | os.PathLike)
        if is_named and not flags & os.O_CREAT and os.path.isdir(path):  # noqa: PTH112
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real_open(path, flags, *rest, **more)

    os.open = open_  # type: ignore[assignment]
    for name in ("replace", "rename", "unlink", "remove", "rmdir"):
        setattr(os, name, _refusing(getattr(os, name)))


def _remove_tree(path: Any, ignore_errors: bool = False) -> None:
    """As `shutil.rmtree` does by names."""
    try:
        for folder, folders, files in os.walk(path, topdown=False):
            for name in files:
                os.unlink(f"{folder}/{name}")  # noqa: PTH108
            for name in folders:
                os.rmdir(f"{folder}/{name}")  # noqa: PTH106
        os.rmdir(path)  # noqa: PTH106
    except OSError:
        if not ignore_errors:
            raise


def _lock_by_size() -> None:
    """filelock chooses its kind by the system; its soft one, a file that is there or not, stands for it."""
    import filelock

    filelock.FileLock = filelock.SoftFileLock  # type: ignore[misc, assignment]


def _refusing(real: Callable[..., Any]) -> Callable[..., Any]:
    def refuse(*paths: Any, **more: Any) -> Any:
        held = _held()
        for path in paths:
            if isinstance(path, str | os.PathLike):
                absolute = os.path.realpath(path)
                inside = absolute + os.sep
                # A file below a folder forbids to rename the folder.
                if any(each == absolute or each.startswith(inside) for each in held):
                    raise PermissionError(errno.EACCES, "The process cannot access the file", str(path))
        return real(*paths, **more)

    return refuse


def _held() -> set[str]:
    """Files that this process has open or mapped."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):  # noqa: PTH208 - Path uses what was taken away
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")  # noqa: PTH115
            if stat.S_ISREG(os.fstat(int(descriptor)).st_mode):
                found.add(target)
        except OSError:
            continue
    with open("/proc/self/maps", encoding="utf-8", errors="surrogateescape") as maps:  # noqa: PTH123
        lines = [line.rstrip("\n").split(maxsplit=5) for line in maps]
    return found | {line[5] for line in lines if len(line) == 6}

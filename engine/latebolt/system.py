"""What this operating system can do: the one place that knows that systems differ.

Linux and macOS have all of it. Windows has no fork, no SIGHUP, no owners of files in our sense, no locks that
go with a file's handle, opens no folders, and lets nobody replace or remove a file that is open. Everything
here works everywhere, or says by its value that it does nothing.
"""

from __future__ import annotations

import contextlib
import os
import platform
import select
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, Final

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]
try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

# What programs of others that are looked for are called depends on it.
IS_WINDOWS: Final = sys.platform == "win32"
# Whether files belong to users by number, with rights for others: elsewhere a user's folders are that user's.
HAS_OWNERS: Final = hasattr(os, "geteuid")
# Whether a lock can be held on an open file, so that a dead maker is told from a living one.
HAS_FILE_LOCKS: Final = fcntl is not None
# Whether a folder can be opened: to make its names durable, or to hold on to it.
OPENS_FOLDERS: Final = hasattr(os, "O_DIRECTORY")
# For os.open of a folder, where one can be opened.
FOLDER_FLAGS: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0)
# For os.open of a file that is read as it is, where a pipe in its place must not keep us waiting.
READ_FLAGS: Final = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)

# Linux on x86-64: a process asks once for what is large to keep (asm/prctl.h; the tiles' data is feature 18).
_ARCH_PRCTL: Final = 158
_ARCH_REQ_XCOMP_PERM: Final = 0x1023
_TILE_DATA: Final = 18
_M_MMAP_THRESHOLD: Final = -3  # of mallopt(3)
_M_ARENA_MAX: Final = -8
_HELD: Final = 0.05  # seconds between two tries to replace a file that somebody reads
_TRIES: Final = 40
# Names that are devices on Windows whatever stands behind a dot, in every folder.
_DEVICES: Final = frozenset(
    {"con", "prn", "aux", "nul", "conin$", "conout$"}
    | {f"{kind}{number}" for kind in ("com", "lpt") for number in "123456789¹²³"}
)


def user_id() -> int:
    """Number of the user that this process acts as; only where `HAS_OWNERS`."""
    return os.geteuid()


def restrict(descriptor: int, mode: int) -> None:
    """Set the rights of an open file or folder; only where `HAS_OWNERS`.

    Raises:
        OSError: the system refuses it.
    """
    os.fchmod(descriptor, mode)


def lock(file: BinaryIO, exclusive: bool = True, wait: bool = True) -> None:
    """Lock an open file until it is closed; nothing where there are no such locks.

    Raises:
        BlockingIOError: another process has it, and nobody waits.
        OSError: the disk has no locks.
    """
    if fcntl is not None:
        kind = fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)


def unlock(file: BinaryIO) -> None:
    """Give up a lock at once, though a child that was forked meanwhile has the file open, too."""
    if fcntl is not None:
        fcntl.flock(file, fcntl.LOCK_UN)


def after_fork(in_child: Callable[[], object]) -> None:
    """Have a function called in every forked child; where nobody can fork there are none."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=in_child)


def signal_number(name: str) -> signal.Signals | None:
    """A signal such as "SIGHUP"; None where there is none of that name."""
    return getattr(signal, name, None)


def block(number: signal.Signals, blocked: bool) -> bool:
    """Have a signal wait, or come again, in this thread; whether it waited before."""
    if not hasattr(signal, "pthread_sigmask"):
        return False
    how = signal.SIG_BLOCK if blocked else signal.SIG_UNBLOCK
    return number in signal.pthread_sigmask(how, {number})


def send(process: int, number: signal.Signals) -> None:
    """Send a signal to another process; one that has ended gets none.

    On Windows every signal but those of the console ends a process at once, so 0, the question whether it
    lives, must not come here.
    """
    if number <= 0:
        raise ValueError(f"{number} is no signal")
    with contextlib.suppress(ProcessLookupError):
        os.kill(process, number)


def end_this_process() -> None:
    """As SIGTERM from outside does: what this process has set up for it happens, whatever thread asks."""
    if sys.platform == "win32":  # where os.kill ends a process with nothing of that
        import _thread

        _thread.interrupt_main(signal.SIGTERM)
    else:
        os.kill(os.getpid(), signal.SIGTERM)


def alarm(seconds: float) -> None:
    """Have the system end this process after so many seconds, 0 for never; nothing where it cannot."""
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, seconds)


def limit(name: str, most: int) -> None:
    """Hold this process to a limit such as "RLIMIT_AS"; nothing without limits."""
    if resource is not None and hasattr(resource, name):
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(getattr(resource, name), (most, most))


def lowest_limit(*names: str) -> int | None:
    """The least of this process's limits such as "RLIMIT_AS", in their units; None where none is set."""
    if resource is None:
        return None
    known = [getattr(resource, name) for name in names if hasattr(resource, name)]
    limits = [resource.getrlimit(which)[0] for which in known]
    return min((most for most in limits if most != resource.RLIM_INFINITY), default=None)


def own_mapping(n_bytes: int) -> None:
    """Let every piece of memory of so many bytes and more be a mapping of its own, given back when freed.

    glibc raises the bound to what was freed last, up to 32 MB, and keeps such pieces; the holes between them
    stay resident. Nothing with other C libraries.
    """
    _glibc("mallopt", _M_MMAP_THRESHOLD, n_bytes)


def one_heap() -> None:
    """Have threads that begin later share one heap: glibc gives each its own, whose holes no other fills."""
    _glibc("mallopt", _M_ARENA_MAX, 1)


def give_back_memory() -> None:
    """Return to the system what was freed; glibc keeps it otherwise, as it may be asked for again."""
    _glibc("malloc_trim", 0)


def _glibc(function: str, *numbers: int) -> None:
    """Call a function of glibc's; nothing happens where there is another C library."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(OSError, AttributeError):
            getattr(ctypes.CDLL(None), function)(*numbers)


def limit_processor_time(seconds: int) -> None:
    """End this process after so many more seconds of processor time; nothing without limits."""
    if resource is not None:
        used = resource.getrusage(resource.RUSAGE_SELF)
        most = int(used.ru_utime + used.ru_stime) + 1 + seconds
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CPU, (most, hard))


def peak_memory() -> int | None:
    """Largest resident memory of this process so far, in bytes; None where the system does not tell."""
    # getrusage also counts the parent at the moment of the fork; Linux knows this program's own peak.
    with contextlib.suppress(OSError, ValueError):
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        [line] = [line for line in status.splitlines() if line.startswith("VmHWM")]
        return int(line.split()[1]) * 1024
    if resource is None:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def room_of(descriptor: int) -> Callable[[float], bool]:
    """Whether a line can be written, after so many seconds at most; always, where the system cannot say."""
    if not hasattr(select, "poll"):
        return lambda _: True
    poll = select.poll()
    poll.register(descriptor, select.POLLOUT)
    return lambda patience: bool(poll.poll(1e3 * patience))


def processors() -> int:
    """Processors that this process may run on, at least 1."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable. Where none can be opened the file system journals names by itself.

    Raises:
        OSError: the system refuses it.
    """
    if not OPENS_FOLDERS:
        return
    handle = os.open(path, FOLDER_FLAGS)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def replace(draft: Path, target: Path) -> None:
    """Put a file in the place of another in one step.

    Where a file that somebody reads cannot be replaced, its reader is waited for: two seconds at most, and
    ours read for milliseconds.

    Raises:
        OSError: the system refuses it.
    """
    for left in range(_TRIES, -1, -1):
        try:
            draft.replace(target)
            return
        except PermissionError:
            if OPENS_FOLDERS or not left:  # there it is a matter of rights, or it stays as it is
                raise
            time.sleep(_HELD)


def is_device(name: str) -> bool:
    """Whether Windows takes a file's or folder's name for a device's, or would drop its last character."""
    return name.partition(".")[0].rstrip(" ").lower() in _DEVICES or name.endswith((" ", "."))


def takes_name(name: str) -> bool:
    """Whether a file or folder of that name can be made on this system."""
    return OPENS_FOLDERS or not is_device(name)


def keep_tiles() -> bool:
    """Asks the system to keep AMX's tiles for this process; whether it does.

    It says no where it does not know them, where a sandbox forbids the call, and where a thread has set up a
    stack for signals that is too small for them. Without permission the first tile ends the process.
    """
    if sys.platform != "linux" or platform.machine() != "x86_64":
        return False
    import ctypes

    try:
        call = ctypes.CDLL(None).syscall
    except (AttributeError, OSError):
        return False
    call.argtypes, call.restype = [ctypes.c_long] * 3, ctypes.c_long
    return int(call(_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _TILE_DATA)) == 0

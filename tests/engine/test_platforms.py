"""Other systems, simulated: what Windows and macOS lack is asked for in `latebolt.system`, and is not needed.

Nothing here was run on Windows or macOS: docs/platforms.md says what was run where.
"""

from __future__ import annotations

import ast
import errno
import functools
import math
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import latebolt
from latebolt import system
from latebolt.cli.common import resident_mb

ENGINE = Path(latebolt.__file__).parent
HERE = Path(__file__).parent

# Names that some system has not, by the module that they are attributes of.
NOT_EVERYWHERE = {
    "os": {
        *("kill", "killpg", "fork", "forkpty", "wait", "waitpid", "waitstatus_to_exitcode", "nice", "setsid"),
        *("geteuid", "getuid", "getegid", "getgid", "getpgid", "getgroups", "setuid", "uname", "getloadavg"),
        *(
            "fchmod",
            "fchown",
            "chown",
            "lchown",
            "mkfifo",
            "mknod",
            "statvfs",
            "sysconf",
            "confstr",
            "pathconf",
        ),
        *(
            "register_at_fork",
            "sched_getaffinity",
            "sched_setaffinity",
            "pread",
            "pwrite",
            "sendfile",
            "pipe2",
        ),
        *("posix_fadvise", "posix_fallocate", "posix_spawn", "copy_file_range", "memfd_create", "fdatasync"),
        *("O_DIRECTORY", "O_NONBLOCK", "O_NOFOLLOW", "O_CLOEXEC", "O_SYNC", "O_BINARY"),
    },
    "signal": {
        *("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGSTOP", "SIGCONT"),
        *("alarm", "setitimer", "ITIMER_REAL", "pthread_sigmask", "pthread_kill", "sigwait", "pause"),
        *("SIG_BLOCK", "SIG_UNBLOCK", "SIG_SETMASK"),
    },
    "socket": {"AF_UNIX", "SO_REUSEPORT", "SO_PEERCRED", "SCM_RIGHTS", "send_fds", "recv_fds"},
    "select": {"poll", "epoll", "kqueue", "devpoll", "PIPE_BUF"},
    "time": {"clock_gettime", "clock_gettime_ns", "pthread_getcpuclockid", "tzset"},
    "mmap": {"PROT_READ", "MAP_SHARED", "MAP_PRIVATE", "MADV_WILLNEED"},
}
MODULES = {"fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog", "posix", "msvcrt", "winreg"}
# Asking which system it is, instead of what it can do; as a part of some name they decide nothing.
WHICH = {("os", "name"), ("sys", "platform")}
# What may know that systems differ.
ALLOWED = {"system.py"}


@functools.cache  # two tests look at the same files
def parsed(source: str) -> ast.Module:
    return ast.parse(source)


def uses(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of what not every system has, outside of a test whether it is there."""
    tree = parsed(source)
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}

    def is_guarded(node: ast.AST, name: str) -> bool:
        while (parent := parents.get(node)) is not None:
            if isinstance(parent, ast.If | ast.IfExp) and node is not parent.test:
                asked = ast.unparse(parent.test)
                if f"'{name}'" in asked or "SIGNAL is not None" in asked:
                    return True
            node = parent
        return False

    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = node.attr
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            found = name in NOT_EVERYWHERE.get(owner, ()) or name == "add_signal_handler"
            decides = (owner, name) in WHICH and isinstance(parents.get(node), ast.Compare | ast.Attribute)
            if (found or decides) and not is_guarded(node, name):
                yield node.lineno, f"{owner}.{name}"
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, each.name) for each in node.names if each.name in MODULES)
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            known = NOT_EVERYWHERE.get(node.module or "", set())
            names = {each.name for each in node.names}
            if node.module in MODULES or names & known:
                yield node.lineno, f"{node.module}: {', '.join(sorted(names & known))}"


def without_encoding(source: str) -> Iterator[int]:
    """Lines where text is read or written in whatever encoding a system takes for usual."""
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            given = {keyword.arg for keyword in node.keywords}
            n_before = {"read_text": 0, "write_text": 1}.get(node.func.attr)
            if n_before is not None and len(node.args) <= n_before and "encoding" not in given:
                yield node.lineno


def test_what_not_every_system_has_is_asked_for_in_one_place():
    found = []
    for path in ENGINE.rglob("*.py"):
        place = path.relative_to(ENGINE).as_posix()
        if place not in ALLOWED:
            found += [f"{place}:{line}: {name}" for line, name in uses(path.read_text(encoding="utf-8"))]
    assert found == [], "put it into latebolt/system.py, which says what there is elsewhere"


def test_text_files_name_their_encoding():
    found = []
    for path in ENGINE.rglob("*.py"):
        lines = without_encoding(path.read_text(encoding="utf-8"))
        # Of Ray's data sets, which have a function of that name.
        found += [f"{path.relative_to(ENGINE)}:{line}" for line in lines if path.name != "bulk.py"]
    assert found == []


@pytest.mark.parametrize(
    ("code", "names"),
    [
        ("import os\nos.kill(1, 0)", ["os.kill"]),
        ("import os\nif hasattr(os, 'fork'):\n    os.fork()\nelse:\n    os.kill(1, 9)", ["os.kill"]),
        ("import signal\nx = signal.SIGHUP if hasattr(signal, 'SIGHUP') else None", []),
        ("import fcntl", ["fcntl"]),
        ("from signal import SIGUSR1, SIGTERM", ["signal: SIGUSR1"]),
        ("if sys.platform == 'win32': pass", ["sys.platform"]),
        ("a = sys.platform.startswith('linux'), f'{sys.platform}-x'", ["sys.platform"]),
        ("loop.add_signal_handler(1, f)", ["loop.add_signal_handler"]),
        ("if hangup.SIGNAL is not None:\n    loop.add_signal_handler(1, f)", []),
        ("import os\nos.replace(a, b)\nos.getpid()", []),
    ],
)
def test_the_walk_sees_what_it_looks_for(code: str, names: list[str]):
    assert [name for _, name in uses(code)] == names
    assert list(
        without_encoding(
            "a.read_text()\nb.read_text('utf-8')\nc.write_text(x)\nd.write_text(x, encoding='a')"
        )
    ) == [1, 3]


def test_a_file_that_is_being_read_is_replaced_when_its_reader_is_done(tmp_path, monkeypatch):
    """Where open files cannot be replaced, as on Windows."""
    draft, target = tmp_path / "draft", tmp_path / "target"
    draft.write_bytes(b"new")
    target.write_bytes(b"old")
    refusals = [PermissionError(errno.EACCES, "in use")] * 3
    real = Path.replace

    def replace(self: Path, to: Path) -> Path:
        if refusals:
            raise refusals.pop()
        return real(self, to)

    monkeypatch.setattr(Path, "replace", replace)
    monkeypatch.setattr(system.time, "sleep", lambda _: None)
    with pytest.raises(PermissionError):  # here it is a matter of rights
        system.replace(draft, target)
    monkeypatch.setattr(system, "OPENS_FOLDERS", False)
    system.replace(draft, target)
    assert target.read_bytes() == b"new" and not refusals
    refusals += [PermissionError(errno.EACCES, "in use")] * 1000
    with pytest.raises(PermissionError):
        system.replace(target, draft)
    assert len(refusals) > 900


def test_a_system_without_locks_on_files(tmp_path, monkeypatch):
    with (tmp_path / "a").open("wb") as one, (tmp_path / "a").open("rb") as other:
        system.lock(one)
        with pytest.raises(BlockingIOError):
            system.lock(other, wait=False)
        monkeypatch.setattr(system, "fcntl", None)
        system.lock(other, wait=False)


def test_a_system_that_tells_no_memory(monkeypatch):
    assert system.peak_memory() > 10e6
    monkeypatch.setattr(system, "Path", lambda _: Path("/no/such/file"))
    assert system.peak_memory() > 10e6  # by getrusage
    monkeypatch.setattr(system, "resource", None)
    assert system.peak_memory() is None and math.isnan(resident_mb())
    system.limit("RLIMIT_AS", 1)
    system.limit_processor_time(0)


def test_processors_of_a_system_that_tells_no_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert system.processors() == 1


def test_no_process_is_asked_whether_it_lives_by_a_signal_that_would_end_it():
    with pytest.raises(ValueError, match="0 is no signal"):
        system.send(os.getpid(), 0)


def test_a_process_that_has_ended_gets_no_signal():
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    system.send(ended.pid, signal.SIGTERM)


@pytest.mark.parametrize("platform", ["linux", "win32"])
def test_ending_this_process_calls_what_it_has_set_up(platform, monkeypatch):
    """Also where os.kill would end it with nothing of that."""
    heard = []
    before = signal.signal(signal.SIGTERM, lambda number, _: heard.append(number))
    try:
        monkeypatch.setattr(sys, "platform", platform)
        if platform == "win32":
            monkeypatch.delattr(os, "kill")
        system.end_this_process()
        for _ in range(1000):  # between two lines of Python the handler comes
            if heard:
                break
        assert heard == [signal.SIGTERM]
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_system_without_signal_masks_poll_or_timers(monkeypatch):
    assert system.signal_number("SIGNONE") is None
    monkeypatch.delattr(signal, "pthread_sigmask")
    assert system.block(signal.SIGTERM, True) is False
    monkeypatch.delattr(system.select, "poll")
    assert system.room_of(1)(0.0) is True
    monkeypatch.delattr(signal, "setitimer")
    system.alarm(0.001)
    monkeypatch.delattr(os, "register_at_fork")
    system.after_fork(lambda: None)


@pytest.mark.parametrize(
    "name", ["con", "NUL", "aux.txt", "com1", "LPT9.tar.gz", "a.", "a ", "prn .x", "com¹"]
)
def test_names_that_windows_gives_to_devices(name, monkeypatch):
    assert system.is_device(name) and system.takes_name(name)
    monkeypatch.setattr(system, "OPENS_FOLDERS", False)
    assert not system.takes_name(name)


@pytest.mark.parametrize("name", ["cone", "com10", "com", "a.con", "nul-1", "notes", ".a"])
def test_names_that_are_only_like_those_of_devices(name):
    assert not system.is_device(name)


def test_the_engine_works_on_a_system_that_can_do_as_little_as_windows(tmp_path):
    """A new process, from which all that Windows lacks is taken before latebolt is imported; open
    files can be neither replaced nor removed there: see tests/engine/as_windows.py."""
    script = """
    import as_windows
    as_windows.take_away()
    import sys
    import latebolt
    from latebolt import system
    from latebolt.cli import run

    assert not (system.HAS_OWNERS or system.HAS_FILE_LOCKS or system.OPENS_FOLDERS)
    folder = sys.argv[1]
    def ran(*arguments):
        assert run(list(arguments)) == 0, arguments

    texts = {"a.txt": "a cat sleeps on the sofa\\n", "b.md": "# Bread\\n\\nfresh bread from the oven\\n"}
    for name, text in texts.items():
        with open(f"{folder}/files/{name}", "w") as file:
            file.write(text)
    ran("index", f"{folder}/i", f"{folder}/files")
    ran("search", f"{folder}/i", "bread", "--json")
    with latebolt.Index.open(f"{folder}/i") as index:
        reader = latebolt.Index.open(f"{folder}/i")
        assert len(reader.search("bread")) == 2
        for n in range(9):  # segments, merges, a manifest that is replaced while it is read
            index.add([f"document {n} {k} of cats and bread" for k in range(20)])
            assert reader.search("bread")
        ids = [hit.id for hit in index.search("document", k=20)]
        index.delete(ids)
        index.compact()
        assert not {hit.id for hit in reader.search("document", k=20)} & set(ids)
        index.backup(f"{folder}/backup")
        reader.close()
    ran("check", f"{folder}/i")
    ran("update", f"{folder}/i", "--where", "exists(id)", "--set", "seen=1")
    ran("copy", f"{folder}/i", f"{folder}/copy")
    ran("export-docs", f"{folder}/i", f"{folder}/out.jsonl")
    ran("encode", f"{folder}/files/a.txt", f"{folder}/v.npz")
    ran("restore", f"{folder}/backup", f"{folder}/again")
    ran("list", folder)
    ran("drop", f"{folder}/copy", "--yes")
    ran("doctor")
    import latebolt.aio, latebolt.client, latebolt.corpus.readers.child, latebolt.evaluate
    print("well")
    """
    (tmp_path / "files").mkdir()
    command = [sys.executable, "-c", textwrap.dedent(script), str(tmp_path)]
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.endswith("well\n")
    assert (tmp_path / "i/manifest.json").is_file() and not (tmp_path / "copy").exists()


def test_the_server_imports_on_such_a_system():
    pytest.importorskip("uvicorn")
    script = (
        "import as_windows; as_windows.take_away();"
        "import latebolt.serve.process, latebolt.agents.collections, latebolt.serve.hangup as h;"
        "from latebolt.serve.process import _RENEW; assert _RENEW is None and h.SIGNAL is None;"
        "h.HangUp(); h.hear(lambda: None)\nwith h.held_up(): pass"
    )
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr[-3000:]

"""The systemd units and the image: systemd reads the units and calls them closed, what they start exists, and
what their comments tell people to do works."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from latebolt.cli import cli
from latebolt.serve.settings import Settings, variable

DEPLOY = Path(__file__).parents[2] / "deploy"
UNITS = sorted(DEPLOY.glob("*.service"))
SERVER = DEPLOY / "latebolt.service"
IMAGE = (DEPLOY / "Dockerfile").read_text()
MOST_EXPOSED = 3.0
# What is said of who runs it and what that may touch.
CLOSED = (
    "AmbientCapabilities", "CapabilityBoundingSet", "DynamicUser", "Keyring", "Lock", "NoNewPrivileges",
    "Private", "Protect", "RemoveIPC", "RestrictN", "RestrictR", "RestrictS", "SystemCall", "UMask",
)  # fmt: skip

_WAITS_FOR_HANGUP = """
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGHUP])
print("up", flush=True)
print(signal.sigwait([signal.SIGHUP]).name)
"""

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd here")


def lines(unit: Path) -> list[str]:
    return [line for line in unit.read_text().splitlines() if line and not line.startswith("#")]


def values(unit: Path, name: str) -> list[str]:
    return [line.partition("=")[2] for line in lines(unit) if line.startswith(f"{name}=")]


def environment(unit: Path) -> dict[str, str]:
    return dict(value.split("=", 1) for value in values(unit, "Environment"))


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_systemd_reads_it(unit: Path, tmp_path: Path) -> None:
    copy = tmp_path / unit.name
    copy.write_text(unit.read_text().replace("/opt/latebolt/bin/latebolt", shutil.which("true") or ""))
    done = subprocess.run(["systemd-analyze", "verify", copy], capture_output=True, text=True)
    assert done.returncode == 0 and unit.name not in done.stderr, done.stderr


@needs_systemd
@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_is_closed_by_systemds_own_measure(unit: Path) -> None:
    command = ["systemd-analyze", "security", "--offline=true", "--no-pager", unit]
    done = subprocess.run(command, capture_output=True, text=True)
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", done.stdout)
    if found is None:
        pytest.skip(f"this systemd measures no files: {done.stderr}")
    assert float(found[1]) < MOST_EXPOSED, done.stdout


def test_every_unit_is_as_closed_as_the_server() -> None:
    server = {line for line in lines(SERVER) if line.startswith(CLOSED)}
    assert len(UNITS) == 2 and len(server) > 20
    for unit in UNITS:
        assert server <= set(lines(unit)), unit


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_it_starts_a_command_that_exists(unit: Path) -> None:
    [start] = values(unit, "ExecStart")
    program, command, *arguments = shlex.split(start)
    assert program == "/opt/latebolt/bin/latebolt" and command in cli.list_commands(None)
    assert {argument.strip("${}") for argument in arguments} <= set(environment(unit))


def test_the_server_is_reached_from_this_machine_unless_told_otherwise() -> None:
    assert Settings(host=environment(SERVER)[variable("host")]).is_loopback


@pytest.mark.parametrize("unit", UNITS, ids=lambda unit: unit.stem)
def test_its_own_words_install_it(unit: Path, tmp_path: Path) -> None:
    """The commands of its comment, on a machine that has nothing yet."""
    said = re.findall(r"^#   (install .*?)(?:\s+#.*)?$", unit.read_text(), re.MULTILINE)
    assert said[-1].split()[-2:] == [unit.name, f"/etc/systemd/system/{unit.name}"]
    shutil.copy(unit, tmp_path)
    (tmp_path / "keys.txt").write_text("a-key-of-a-test-1\n")
    for command in said:
        *words, target = shlex.split(command)
        subprocess.run([*words, f"{tmp_path}{target}"], cwd=tmp_path, check=True)
    assert (tmp_path / f"etc/systemd/system/{unit.name}").read_text() == unit.read_text()
    if unit == SERVER:
        assert (tmp_path / "etc/latebolt/keys.txt").stat().st_mode & 0o777 == 0o600


def test_keys_are_copied_where_the_server_reads_them_at_start_and_reload(tmp_path: Path) -> None:
    """The commands of the unit, with systemd's words put in by hand."""
    run, keys = tmp_path / "run", tmp_path / "keys.txt"
    (run / "latebolt").mkdir(parents=True)
    copy = run / "latebolt" / "keys"
    assert environment(SERVER)[variable("keys_file")] == "%t/latebolt/keys"
    listening = subprocess.Popen([sys.executable, "-c", _WAITS_FOR_HANGUP], stdout=subprocess.PIPE, text=True)
    assert listening.stdout is not None and listening.stdout.readline() == "up\n"

    def carry_out(name: str) -> None:
        for command in values(SERVER, name):
            assert command.startswith("+/")
            words = command[1:].replace("%t", str(run)).replace("/etc/latebolt/keys.txt", str(keys))
            subprocess.run(shlex.split(words.replace("$MAINPID", str(listening.pid))), check=True)

    keys.write_text("the first\n")
    carry_out("ExecStartPre")
    assert copy.read_text() == "the first\n" and copy.stat().st_mode & 0o777 == 0o444
    before = copy.stat().st_ino
    keys.write_text("the second\n")
    carry_out("ExecReload")
    assert copy.read_text() == "the second\n" and copy.stat().st_ino != before  # exchanged as a whole
    assert list(copy.parent.iterdir()) == [copy]
    assert "SIGHUP" in listening.communicate(timeout=30)[0]
    assert "0700" in values(SERVER, "RuntimeDirectoryMode")  # the copy is for this service alone


# The image


def set_in_image(name: str) -> str:
    found = re.search(rf"\b{variable(name)}=(\S+)", IMAGE[IMAGE.index("\nENV ") :])
    assert found is not None
    return found[1]


def test_stopping_takes_less_than_is_given() -> None:
    """Requests have so many seconds, and a job as many; systemd and Docker kill what is there then."""
    docker_stop = 10
    assert 2 * float(set_in_image("shutdown")) < docker_stop
    [timeout] = values(SERVER, "TimeoutStopSec")
    assert 2 * Settings().shutdown < int(timeout)


def test_the_user_of_the_image_is_a_number_that_stays() -> None:
    [user] = re.findall(r"^USER (\d+):(\d+)$", IMAGE, re.MULTILINE)
    assert f"useradd --system --uid {user[0]} --gid {user[1]} " in IMAGE
    assert f"install -d -o {user[0]} -g {user[1]} /data" in IMAGE


@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_image_is_healthy_when_the_configured_port_says_ready(status: int, code: int) -> None:
    [command] = re.findall(r"^HEALTHCHECK .*?CMD (\[.*?\])$", IMAGE, re.MULTILINE | re.DOTALL)
    asked = []

    class Ready(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.end_headers()

        def log_message(self, *_: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Ready) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        python, *arguments = json.loads(command)
        assert python == "python"
        done = subprocess.run(
            [sys.executable, *arguments],
            env={**os.environ, variable("port"): str(server.server_port)},
            capture_output=True,
        )
        thread.join()
    assert (done.returncode, asked) == (code, ["/ready"])


def test_systemd_reads_the_socket_that_outlives_the_server(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("no systemd here")
    for name in ("latebolt.socket", "latebolt.service"):
        text = (DEPLOY / name).read_text()
        (tmp_path / name).write_text(text.replace("/opt/latebolt/bin/latebolt", shutil.which("true") or ""))
    command = ["systemd-analyze", "verify", tmp_path / "latebolt.socket"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and "latebolt.socket" not in done.stderr, done.stderr


def test_the_socket_is_where_the_server_would_listen() -> None:
    given = dict(line.partition("=")[::2] for line in lines(DEPLOY / "latebolt.socket"))
    host, _, port = given["ListenStream"].rpartition(":")
    assert Settings(host=host).is_loopback and int(port) == Settings().port

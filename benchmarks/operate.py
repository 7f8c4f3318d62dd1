"""What does a day of a server's operator cost: requests refused, seconds until all is well, documents lost?

`latebolt serve` with two workers and a keys file, behind nginx where there is one, is asked by five clients
without a pause, some over a connection that they keep, some over a new one each time, one of which adds
documents. Meanwhile happens what a day brings, one thing after another: processes are killed, replaced and
upgraded, keys exchanged, backups made and restored, the disk fills, the data folder vanishes, an index comes
from a newer version, a large job and single additions meet, clients are slow. Each is a row: the requests
answered while it lasted, those that were refused (an answer that is no success) or lost (no answer), and what
else is to be seen. Refusals that are meant, such as writes on a full disk, have a column of their own.

A full disk needs a file system of its own, which only root may mount (Linux); elsewhere that row says so. A
document counts as lost when it was acknowledged and is not there at the end.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx

from harness import arguments, read_stdlib, record

HOST = "127.0.0.1"
PATIENCE = 120.0  # of a client, and of whoever waits for a state
INDEX, BIG = "notes", "archive"
SLOWEST = {"search": "search", "add": "addition"}
NGINX = """
{user}worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 512; }}
http {{
    access_log off; client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/f; uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
    upstream latebolt {{ server 127.0.0.1:{upstream}; keepalive 16; }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://latebolt; proxy_http_version 1.1; proxy_set_header Connection "";
            proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; proxy_read_timeout 65s;
            client_max_body_size 32m;
        }}
    }}
}}
"""


def free_port() -> int:
    """A port that nobody has."""
    with socket.socket() as some:
        some.bind((HOST, 0))
        return int(some.getsockname()[1])


def wait_until(holds: Callable[[], bool], what: str) -> float:
    """Seconds until it holds."""
    start = time.perf_counter()
    while not holds():
        if time.perf_counter() - start > PATIENCE:
            raise SystemExit(f"waited {PATIENCE:.0f} s for: {what}")
        time.sleep(0.02)
    return time.perf_counter() - start


class Proxy:
    """nginx before the servers, which can be turned to another port; without nginx the port itself."""

    def __init__(self, folder: Path) -> None:
        self._folder, self.port = folder, free_port()
        self.program = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
        self.upstream = 0

    @property
    def url(self) -> str:
        """Where clients ask."""
        return f"http://{HOST}:{self.port if self.program else self.upstream}"

    def turn_to(self, port: int) -> None:
        """Send requests to this port from now on."""
        begun, self.upstream = self.upstream > 0, port
        if self.program is None:
            return
        file = self._folder / "nginx.conf"
        user = "user root; " if os.geteuid() == 0 else ""  # who may write below the temporary folder
        named = {"user": user, "folder": self._folder, "port": self.port, "upstream": port}
        file.write_text(NGINX.format(**named))
        command = [self.program, "-c", str(file), "-e", str(self._folder / "error.log")]
        before = self._workers() if begun else set()
        subprocess.run([*command, "-s", "reload"] if begun else command, check=True)
        wait_until(lambda: not before & self._workers(), "nginx, whose old workers still ask the old server")

    def _workers(self) -> set[int]:
        first = int((self._folder / "nginx.pid").read_text())
        return {int(each) for each in Path(f"/proc/{first}/task/{first}/children").read_text().split()}

    def stop(self) -> None:
        """End nginx."""
        if self.program and self.upstream:
            file = self._folder / "nginx.conf"
            subprocess.run([self.program, "-c", str(file), "-s", "stop"], stderr=subprocess.DEVNULL)


class Clients:
    """Four that ask and one that adds, until they are stopped.

    pause: seconds of each between its requests.
    outcomes: how many of each, (what was asked, status or "lost"). acknowledged: ids of documents.
    """

    def __init__(
        self, url: Callable[[], str], key: Callable[[], str], texts: list[str], pause: float
    ) -> None:
        self._url, self._key, self._texts, self._pause = url, key, texts, pause
        self._end, self._lock = threading.Event(), threading.Lock()
        self.outcomes: Counter[tuple[str, str]] = Counter()
        self.acknowledged: set[str] = set()
        self.slowest = {"search": 0.0, "add": 0.0}
        kinds = [(True, False), (True, False), (False, False), (False, False), (True, True)]
        self._threads = [threading.Thread(target=self._ask, args=each, daemon=True) for each in kinds]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()

    def _ask(self, keeps: bool, adds: bool) -> None:
        n, kept = 0, httpx.Client(timeout=PATIENCE, verify=False)
        while not self._end.is_set():
            client = kept if keeps else httpx.Client(timeout=PATIENCE, verify=False)
            n += 1
            name = f"{threading.get_ident()}-{n}"
            text = self._texts[n % len(self._texts)]
            body: dict[str, Any] = {"query": " ".join(text.split()[:8]), "k": 5}
            what, path = "search", f"/v1/indexes/{INDEX}/search"
            if adds:
                what, path = "add", f"/v1/indexes/{INDEX}/documents"
                body = {"documents": [{"id": name, "text": text}]}
            start = time.perf_counter()
            try:
                headers = {"Authorization": f"Bearer {self._key()}"}
                answer = client.post(f"{self._url()}{path}", json=body, headers=headers)
                outcome = str(answer.status_code)
                if answer.status_code >= 400:
                    outcome += f" {answer.json().get('code', '')}".rstrip() if answer.content else ""
            except (httpx.TransportError, ValueError):
                outcome = "lost"
            took = time.perf_counter() - start
            with self._lock:
                self.outcomes[what, outcome] += 1
                self.slowest[what] = max(self.slowest[what], took)
                if adds and outcome == "200":
                    self.acknowledged.add(name)
            if client is not kept:
                client.close()
            time.sleep(self._pause if outcome == "200" else 0.05)  # as clients do that are refused
        kept.close()


class Day:
    """The servers of a day, their clients, and the rows so far."""

    def __init__(self, root: Path, threads: int, pause: float) -> None:
        self.root, self.threads, self.pause = root, threads, pause
        self.data, self.keys_file = root / "data", root / "keys.txt"
        self.key, self.other = secrets.token_hex(16), secrets.token_hex(16)
        self.keys_file.write_text(f"# label: clients\n{self.key} write\n")
        self.texts = [each.text for each in read_stdlib() if 20 < len(each.text.split()) < 60]
        self.rows: list[dict[str, Any]] = []
        (root / "nginx").mkdir()
        self.proxy = Proxy(root / "nginx")
        self.acknowledged: set[str] = set()

    def start(
        self, *more: str, data: Path | None = None, workers: int = 2
    ) -> tuple[subprocess.Popen[bytes], int]:
        """A server that accepts connections, and its port."""
        port = free_port()
        command = [
            sys.executable,
            "-m",
            "latebolt",
            "serve",
            "--data",
            str(data or self.data),
            "--port",
            str(port),
        ]
        command += [
            "--workers",
            str(workers),
            "--threads",
            str(self.threads),
            "--keys-file",
            str(self.keys_file),
        ]
        with (self.root / f"{port}.log").open("wb") as log:
            server = subprocess.Popen([*command, *more], stderr=log, stdout=subprocess.DEVNULL)
        wait_until(lambda: self.status("/ready", port) == 200, "a server that is ready")
        return server, port

    def ask(
        self, method: str, path: str, port: int | None = None, key: str = "", **named: Any
    ) -> httpx.Response:
        """One request, past the proxy where there is a port."""
        url = self.proxy.url if port is None else f"http://{HOST}:{port}"
        headers = {"Authorization": f"Bearer {key or self.key}"}
        return httpx.request(method, url + path, headers=headers, timeout=PATIENCE, verify=False, **named)

    def status(self, path: str, port: int | None = None) -> int:
        """Of an answer; 0 for none."""
        with contextlib.suppress(httpx.TransportError):
            return self.ask("GET", path, port).status_code
        return 0

    @contextlib.contextmanager
    def happening(self, what: str, meant: tuple[str, ...] = ()) -> Iterator[dict[str, Any]]:
        """A row: what clients saw while the block ran. `meant`: codes of refusals that are right then."""
        row: dict[str, Any] = {"what happens": what}
        with Clients(lambda: self.proxy.url, lambda: self.key, self.texts, self.pause) as clients:
            wait_until(lambda: sum(clients.outcomes.values()) > 20, "clients that are answered")
            yield row
            before = sum(clients.outcomes.values())
            wait_until(lambda: sum(clients.outcomes.values()) > before + 20, "clients that are answered")
        self.acknowledged |= clients.acknowledged
        seen, bad = Counter[str](), Counter[str]()
        for (_, outcome), n in clients.outcomes.items():
            seen[outcome] += n
            bad[outcome] += n * (outcome != "200")
        right = {e: n for e, n in bad.items() if n and e != "lost" and e.partition(" ")[2] in meant}
        wrong = {each: n for each, n in bad.items() if n and each not in right}
        row |= {"answered": sum(n for each, n in seen.items() if each != "lost")}
        row |= {
            "refused": sum(n for each, n in wrong.items() if each != "lost"),
            "lost": wrong.get("lost", 0),
        }
        row["refused as meant"] = sum(right.values())
        row |= {f"slowest {of}, s": clients.slowest[kind] for kind, of in SLOWEST.items()}
        if wrong:
            row["refusals"] = ", ".join(f"{n} {each}" for each, n in sorted(wrong.items()))
        self.rows.append(row)
        print(what, file=sys.stderr, flush=True)


def children(server: subprocess.Popen[bytes]) -> set[int]:
    """Workers of a server."""
    found = set()
    for each in Path(f"/proc/{server.pid}/task/{server.pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # it has gone
            if b"spawn_main" in Path(f"/proc/{each}/cmdline").read_bytes():
                found.add(int(each))
    return found


def processes(day: Day, server: subprocess.Popen[bytes], port: int, quick: bool) -> None:
    """Workers that are killed and renewed, and keys that are exchanged."""

    def both() -> bool:
        with contextlib.suppress(httpx.TransportError):  # one that was just killed held the request
            return "latebolt_ready 2.0" in day.ask("GET", "/metrics", port).text
        return False

    wait_until(both, "two workers")
    with day.happening("a worker is killed (SIGKILL)") as row:
        before = children(server)
        os.kill(min(before), signal.SIGKILL)
        row["seconds"] = wait_until(lambda: len(children(server) - before) == 1 and both(), "a new worker")
    if quick:
        return
    with day.happening("workers are renewed one by one (SIGUSR2)") as row:
        before = children(server)
        server.send_signal(signal.SIGUSR2)
        row["seconds"] = wait_until(
            lambda: len(children(server)) == 2 and not children(server) & before and both(), "new workers"
        )
    with day.happening("a key is exchanged: the new one beside the old, then the old one goes") as row:
        day.keys_file.write_text(f"# label: clients\n{day.key} write\n# label: new\n{day.other} write\n")
        server.send_signal(signal.SIGHUP)
        wait_until(lambda: day.ask("GET", "/v1/models", key=day.other).status_code == 200, "the new key")
        old, day.key = day.key, day.other
        time.sleep(0.5)  # requests with the old one are answered
        day.keys_file.write_text(f"# label: new\n{day.other} write\n")
        server.send_signal(signal.SIGHUP)
        row["seconds"] = wait_until(
            lambda: all(day.ask("GET", "/v1/models", key=old).status_code == 401 for _ in range(8)),
            "no old key",
        )


def slow_clients(day: Day, port: int) -> None:
    """A hundred connections that send a byte a second."""
    with day.happening("100 clients send a byte a second") as row:
        sockets = [socket.create_connection((HOST, port)) for _ in range(100)]
        for each in sockets:
            each.sendall(b"POST /v1/rerank HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 900\r\n\r\n")
        for _ in range(5):
            for each in sockets:
                with contextlib.suppress(OSError):
                    each.send(b"{")
            time.sleep(1)
        row["health_ms"] = _ms(lambda: day.status("/health", port))
        for each in sockets:
            each.close()


def jobs(day: Day, n: int) -> None:
    """A large job beside single additions; cancelled, and ended with its index."""
    day.ask("POST", "/v1/indexes", json={"name": BIG})
    path = f"/v1/indexes/{BIG}/documents?background=true"

    def begun(name: str) -> str:
        many = [*day.texts, *day.texts]
        documents = [{"id": f"{name}{i}", "text": " ".join(many[i : i + 6])} for i in range(n)]
        answer = day.ask("POST", path, json={"documents": documents})
        answer.raise_for_status()
        return str(answer.json()["id"])

    def state(job: str) -> str:
        return str(day.ask("GET", f"/v1/jobs/{job}").json()["state"])

    with day.happening(f"a job of {n} long documents, and single additions to the same index") as row:
        job, times = begun("job"), []
        while len(times) < 10:
            start = time.perf_counter()
            document = {"id": f"single{len(times)}", "text": day.texts[len(times)]}
            day.ask("POST", f"/v1/indexes/{BIG}/documents", json={"documents": [document]}).raise_for_status()
            times.append(time.perf_counter() - start)
        row |= {"a single addition took at most, s": max(times), "job afterwards": state(job)}
        row["cancelled, s"] = _ms(lambda: day.ask("DELETE", f"/v1/jobs/{job}").raise_for_status()) / 1e3
        wait_until(lambda: state(job) in ("cancelled", "done"), "the end of the job")
        row["job at the end"] = state(job)
    with day.happening("an index is deleted while a job adds to it") as row:
        job = begun("again")
        wait_until(lambda: state(job) != "queued", "the beginning of the job")
        row["seconds"] = _ms(lambda: day.ask("DELETE", f"/v1/indexes/{BIG}").raise_for_status()) / 1e3
        wait_until(lambda: state(job) in ("cancelled", "done"), "the end of the job")
        row["job at the end"] = state(job)
        text = day.ask("GET", "/metrics").text
        row["its series in /metrics"] = sum(f'index="{BIG}"' in line for line in text.splitlines())


def backups(day: Day) -> None:
    """A backup while documents are added, checked, and restored as another index."""
    with day.happening("a backup is made while documents are added, checked and restored") as row:
        start = time.perf_counter()
        day.ask("POST", f"/v1/indexes/{INDEX}/snapshot?snapshot=night").raise_for_status()
        row["seconds"] = time.perf_counter() - start
        backup, restored = day.data / "snapshots" / INDEX / "night", day.data / "indexes" / "restored"
        command = [sys.executable, "-m", "latebolt"]
        checked = subprocess.run([*command, "check", str(backup)], capture_output=True, text=True)
        subprocess.run([*command, "restore", str(backup), str(restored)], check=True, capture_output=True)
        found = day.ask("GET", "/v1/indexes/restored").json()
        row |= {
            "check": "ok" if checked.returncode == 0 else "damaged",
            "documents restored": found["documents"],
        }


def newer(day: Day) -> None:
    """An index that a newer version wrote."""
    folder = day.data / "indexes" / "newer"
    shutil.copytree(day.data / "snapshots" / INDEX / "night", folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(manifest | {"format_version": 99}))
    with day.happening("an index of a newer version lies in the data folder") as row:
        answer = day.ask("POST", "/v1/indexes/newer/search", json={"query": "text"})
        row["answer of the index"] = f"{answer.status_code} {answer.json()['code']}"
        states = {each["name"]: each["state"] for each in day.ask("GET", "/v1/indexes").json()["data"]}
        row["its state in the list"] = states["newer"]
    shutil.rmtree(folder)


def vanishing(day: Day, port: int) -> None:
    """The data folder goes, and comes back; then it is away for moments."""
    away = day.data.with_name("away")
    with day.happening("the data folder vanishes and comes back", ("data_missing", "index_not_found")) as row:
        day.data.rename(away)
        row["/ready is red after, s"] = wait_until(lambda: day.status("/ready", port) == 503, "no readiness")
        made_anew = day.data.exists()
        away.rename(day.data)
        row["seconds"] = wait_until(lambda: day.status("/ready", port) == 200, "readiness")
        row["made anew"] = made_anew
        for n in range(20):  # requests are under way at every moment of some of these
            day.data.rename(away)
            time.sleep(n / 2000)
            away.rename(day.data)
            time.sleep(0.02)
    day.rows[-1]["documents lost"] = len(missing_documents(day, port))


def full_disk(day: Day) -> None:
    """Writes are refused, searches go on, and after room is made all is well."""
    what = "the disk is full, then has room again"
    place = day.root / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(place)]
    if subprocess.run(mount, capture_output=True).returncode:
        day.rows.append({"what happens": what, "note": "not run: only root can mount a small file system"})
        return
    upstream = day.proxy.upstream
    day.acknowledged.clear()  # those were counted, and are elsewhere
    try:
        server, port = day.start(data=place / "data", workers=1)
        try:
            day.ask("POST", "/v1/indexes", port, json={"name": INDEX}).raise_for_status()
            day.proxy.turn_to(port)
            with day.happening(what, ("storage_full",)) as row:
                ballast = place / "ballast"
                with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
                    while True:
                        file.write(bytes(1 << 16))
                body = {"documents": [{"id": "late", "text": day.texts[0]}]}
                path = f"/v1/indexes/{INDEX}/documents"
                wait_until(lambda: day.ask("POST", path, port, json=body).status_code == 503, "a refusal")
                ballast.unlink()
                row["seconds"] = wait_until(
                    lambda: day.ask("POST", path, port, json=body).status_code == 200, "an addition"
                )
            day.rows[-1]["documents lost"] = len(missing_documents(day, port))
        finally:
            day.proxy.turn_to(upstream)
            server.terminate()
            server.wait()
    finally:
        subprocess.run(["umount", str(place)], check=True)


def upgrade(day: Day, server: subprocess.Popen[bytes]) -> tuple[subprocess.Popen[bytes], int]:
    """Another server beside the first, to which the proxy is turned, and the first one leaves."""
    with day.happening("an upgrade: a second server overlaps, and the first one leaves") as row:
        start = time.perf_counter()
        second, port = day.start("--overlap")
        day.proxy.turn_to(port)
        server.terminate()
        row["exit"] = server.wait(PATIENCE)
        body = {"documents": [{"id": "upgraded", "text": day.texts[0]}]}
        path = f"/v1/indexes/{INDEX}/documents"
        wait_until(lambda: day.ask("POST", path, port, json=body).status_code == 200, "the first addition")
        row["seconds"] = time.perf_counter() - start
    return second, port


def killed(day: Day, server: subprocess.Popen[bytes], port: int) -> subprocess.Popen[bytes]:
    """All processes at once, and a new start at the same port."""
    meant = ("",)  # a proxy without a server behind it says 502 of its own
    with day.happening(
        "the server is killed with all its workers (SIGKILL), and started again", meant
    ) as row:
        for each in (*children(server), server.pid):
            os.kill(each, signal.SIGKILL)
        server.wait()
        start = time.perf_counter()
        again, new = day.start()
        day.proxy.turn_to(new)
        row["seconds"] = time.perf_counter() - start
    day.rows[-1]["documents lost"] = len(missing_documents(day, new))
    return again


def missing_documents(day: Day, port: int) -> list[str]:
    """Of those that were acknowledged."""
    wanted, missing = sorted(day.acknowledged), []
    for start in range(0, len(wanted), 500):
        some = wanted[start : start + 500]
        found = day.ask("POST", f"/v1/indexes/{INDEX}/documents/get", port, json={"ids": some}).json()
        missing += [id for id, each in zip(some, found["documents"], strict=True) if each is None]
    return missing


def prometheus(day: Day) -> None:
    """What promtool says of the metrics, where there is one."""
    program = shutil.which("promtool")
    row: dict[str, Any] = {"what happens": "Prometheus reads /metrics"}
    if program is None:
        row["note"] = "no promtool here"
    else:
        text = day.ask("GET", "/metrics").content
        done = subprocess.run([program, "check", "metrics"], input=text, capture_output=True)
        row["promtool"] = "ok" if done.returncode == 0 else done.stderr.decode().strip()[:200]
    day.rows.append(row)


def _ms(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - start)


def main() -> None:
    """One thing after another; the last row counts what was lost over all."""
    given = arguments(__doc__)
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="latebolt-operate-") as temporary:
        day = Day(Path(temporary), given.threads, 0.1 if given.quick else 0.0)
        start = time.perf_counter()
        server, port = day.start()
        first = time.perf_counter() - start
        day.proxy.turn_to(port)
        day.ask("POST", "/v1/indexes", json={"name": INDEX}).raise_for_status()
        documents = [
            {"id": f"first{i}", "text": text}
            for i, text in enumerate(day.texts[: 60 if given.quick else 200])
        ]
        day.ask("POST", f"/v1/indexes/{INDEX}/documents", json={"documents": documents}).raise_for_status()
        day.rows.append({"what happens": "the first start, until it answers", "seconds": first})
        try:
            processes(day, server, port, given.quick)
            jobs(day, 20 if given.quick else 900)
            backups(day)
            newer(day)
            vanishing(day, port)
            if not given.quick:
                slow_clients(day, port)
                server, port = upgrade(day, server)
                server = killed(day, server, port)
                prometheus(day)
                full_disk(day)
        finally:
            day.proxy.stop()
            server.terminate()
            server.wait(PATIENCE)
        day.rows.append({"what happens": "all of it", "seconds": time.perf_counter() - begun,
                         "proxy": "nginx" if day.proxy.program else "none"})  # fmt: skip
    for row in day.rows:
        print(row)
    record("operate", day.rows, (), given.quick)


if __name__ == "__main__":
    main()

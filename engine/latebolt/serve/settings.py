"""Every setting of the server in one table: the command's options and the environment variables come from it.

A setting `queue_requests` is the option --queue-requests and the variable LATEBOLT_SERVE_QUEUE_REQUESTS.
"""

from __future__ import annotations

import dataclasses
import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from latebolt.errors import InvalidInput
from latebolt.index.places import is_uri, masked

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

PREFIX: Final = "LATEBOLT_SERVE_"
NAME_PATTERN: Final = "^[a-z0-9][a-z0-9_-]{0,63}$"
INDEX_NAME: Final = re.compile(NAME_PATTERN.removesuffix("$") + r"\Z")
_NEXT_INDEX: Final = re.compile(r"\s+(?=[a-z0-9][a-z0-9_-]{0,63}=)|[\r\n]+")
_ROOT_PATH: Final = re.compile(r"(?:/[A-Za-z0-9._~-]+)+/?")
# First parts of the server's own paths.
_OWN_PATHS: Final = ("v1", "health", "ready", "metrics", "metrics.json", "openapi.json", "page")


def _setting(default: Any, help: str, least: float | None = None, most: float | None = None) -> Any:
    return dataclasses.field(default=default, metadata={"help": help, "least": least, "most": most})


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How a server runs; its fields are the table.

    Raises:
        InvalidInput: a number is out of range.
    """

    host: str = _setting("127.0.0.1", "Address to listen at.")
    port: int = _setting(8080, "Port to listen at; 0 for a free one.", 0, 65535)
    workers: int = _setting(1, "Processes, each with a model of its own.", 1)
    data: str = _setting("latebolt-data", "Folder of the indexes and jobs; made if it is missing.")
    snapshots: str = _setting("", "Folder of snapshots of indexes; in the data folder by default.")

    overlap: bool = _setting(
        False,
        "Start although another server has the data folder: answer searches, and write when that has left.",
    )

    index: tuple[str, ...] = _setting(
        (),
        "NAME=FOLDER or NAME=URI: an index that lies elsewhere. May be given again; in the variable, one "
        "after the other with a space or a line between them.",
    )

    model: str = _setting("starter", "starter (English), multilingual, a folder, or a hub id.")
    precision: str = _setting("", "Of the encoder: fp32, fp16 or int8; the fastest by default.")
    device: str = _setting("cpu", "cpu, cuda, cuda:N, cuda:0,cuda:1 or auto.")
    threads: int = _setting(0, "CPU threads of a process; 0 for its share of all.", 0)
    aliases: str = _setting(
        "",
        "Other names of the model in requests, with commas, such as jina-colbert-v2; NAME=MODEL makes sure "
        "of which. Requests for any other name are refused.",
    )
    any_model: bool = _setting(
        False, "Answer requests for every model's name with the model there is; answers say which."
    )

    keys: str = _setting("", "Keys in place of a file, one a line as there. Use the variable.")
    keys_file: str = _setting(
        "", "File of keys, one a line, 'read' or 'write' (the default) after it; # begins a comment's line."
    )
    without_keys: bool = _setting(False, "Listen beyond this machine although there is no key.")
    cors: str = _setting("", "Origins whose pages may call the server, with commas; none by default.")
    trusted_proxies: str = _setting(
        "",
        "Addresses or networks of proxies whose X-Forwarded-For, -Proto and -Host count, with commas; none "
        "by default.",
    )
    root_path: str = _setting(
        "", "Path below which a proxy shows the server, such as /search; the proxy takes it off."
    )
    root_path_kept: bool = _setting(False, "The proxy leaves the root path on what it hands on.")

    max_body_bytes: int = _setting(32_000_000, "Bytes of a request's body, unpacked.", 1)
    held_bytes: int = _setting(
        256_000_000,
        "Bytes of all bodies at once, at least one's; what goes beyond is refused with 429.",
        1,
    )
    max_depth: int = _setting(32, "Levels of nesting of a request's JSON.", 1)
    max_items: int = _setting(2048, "Texts of a request.", 1)
    max_documents: int = _setting(50_000, "Documents of one addition to an index.", 1)
    max_vectors: int = _setting(131_072, "Token vectors in one answer.", 1)
    timeout: float = _setting(60.0, "Seconds until a request is given up with 504.", 0.001)
    body_timeout: float = _setting(
        30.0, "Seconds that a client may take to send a head, or a body, or to read an answer.", 0.001
    )
    queue_requests: int = _setting(512, "Requests worked on or waiting; more are refused with 429.", 1)
    queue_tokens: int = _setting(4_000_000, "Tokens waiting for the encoder; more are refused with 429.", 1)
    batch_tokens: int = _setting(512, "Tokens a thread of the encoder takes from the queue at a time.", 1)
    gpu_batch_tokens: int = _setting(
        0,
        "On a GPU: tokens of a run, and of what is taken from the queue at a time; 0 for runs as long as "
        "free memory allows.",
        0,
    )
    gpu_streams: int = _setting(
        2, "On a GPU: takes from the queue that are under way at a time, each on its own stream.", 1, 16
    )
    search_threads: int = _setting(
        0, "Runs of searches side by side; 0 for one more than CPU threads. More wait for one another.", 0
    )
    cache_mb: int = _setting(64, "Memory for token vectors of texts seen before; 0 for none.", 0)
    shutdown: float = _setting(30.0, "Seconds that running requests and jobs have after SIGTERM.", 0)
    log_level: str = _setting("info", "debug, info, warning or error.")

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            least, most = field.metadata["least"], field.metadata["most"]
            value = getattr(self, field.name)
            if least is not None and not value >= least:
                raise InvalidInput(f"{option(field.name)} should be at least {least}, got {value}.")
            if most is not None and value > most:
                raise InvalidInput(f"{option(field.name)} should be at most {most}, got {value}.")
        if len(self.given_indexes) < len(self.index):
            raise InvalidInput("--index: a name is given twice. Every index needs a name of its own.")
        self._check_root_path()
        _ = self.proxies  # read once, so that a wrong one is told at the start

    @property
    def given_indexes(self) -> dict[str, Path | str]:
        """Name -> folder, or URI, of the indexes that lie elsewhere.

        Raises:
            InvalidInput: one is neither NAME=FOLDER nor NAME=URI.
        """
        found: dict[str, Path | str] = {}
        for each in self.index:
            name, _, folder = each.partition("=")
            if not INDEX_NAME.match(name) or not folder:
                raise InvalidInput(
                    f'--index should be NAME=FOLDER or NAME=URI, got "{masked(each)}". A name has up to 64 '
                    "of a-z, 0-9, _ and -."
                )
            found[name] = folder if is_uri(folder) else Path(folder).expanduser().absolute()
        return found

    @property
    def proxies(self) -> tuple[Network, ...]:
        """The networks of trusted proxies.

        Raises:
            InvalidInput: one is no address and no network.
        """
        return tuple(_network(each) for each in names(self.trusted_proxies))

    @property
    def root(self) -> str:
        """The root path without a slash at its end; empty where there is none."""
        return self.root_path.rstrip("/")

    def _check_root_path(self) -> None:
        if not self.root:
            return
        if not _ROOT_PATH.fullmatch(self.root_path):
            raise InvalidInput(f'--root-path should be like /search, got "{self.root_path}".')
        first = self.root.split("/")[1]
        if first in _OWN_PATHS:
            raise InvalidInput(
                f"--root-path {self.root}: /{first} is a path of the server's own. Give another one."
            )

    @property
    def process_threads(self) -> int:
        """CPU threads of one process."""
        from latebolt.cpus import available_cpus

        return self.threads or max(1, available_cpus() // self.workers)

    @property
    def searches(self) -> int:
        """Runs of searches of one process that go on side by side; see `Coalescer`."""
        return self.search_threads or self.process_threads + 1

    @property
    def data_folder(self) -> Path:
        """The data folder, absolute."""
        return Path(self.data).expanduser().absolute()

    @property
    def snapshots_folder(self) -> Path:
        """The folder of snapshots, absolute."""
        if not self.snapshots:
            return self.data_folder / "snapshots"
        return Path(self.snapshots).expanduser().absolute()

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)


def indexes_of(text: str) -> list[str]:
    """The NAME=FOLDER of a variable; a space belongs to a folder unless NAME= comes behind it."""
    return [part.strip() for part in _NEXT_INDEX.split(text) if part.strip()]


def names(text: str) -> list[str]:
    """The parts of a list with commas."""
    return [part.strip() for part in text.split(",") if part.strip()]


def _network(text: str) -> Network:
    try:
        return ipaddress.ip_network(text)
    except ValueError as error:
        raise InvalidInput(
            f'--trusted-proxies should be addresses or networks, such as 10.0.0.0/8, got "{text}" ({error}).'
        ) from error


def aliases_of(text: str, model: str) -> list[str]:
    """The other names of a model.

    Args:
        text: names with commas, each alone or as NAME=MODEL.
        model: what is served.
    Raises:
        InvalidInput: a name stands for another model.
    """
    found = []
    for each in names(text):
        alias, _, meant = (part.strip() for part in each.partition("="))
        if meant not in ("", model):
            raise InvalidInput(
                f'--aliases {each}: the model that is served is "{model}". Give its name, or another --model.'
            )
        if alias and alias != model:
            found.append(alias)
    return found


def is_loopback(host: str) -> bool:
    """Whether an address is this machine's own."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def option(name: str) -> str:
    """The option of a setting."""
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()

"""The contract of a model folder: what `latebolt.json` says, as checked values.

Written once by the exporter, or derived from a folder that others made (`latebolt.formats`), and read by the
runtime, so that nothing about a model is hard-coded or guessed here. Knows nothing of ONNX Runtime,
tokenizers or checkpoints.
"""

from __future__ import annotations

import hashlib
import shlex
from pathlib import Path
from typing import Any, Final

import msgspec

from latebolt.errors import ModelError

FILE_NAME = "latebolt.json"
# 1: no strip, swaps, kept and length in the rules. 2: no graphs for GPUs. What they say means the same in 3.
FORMAT_VERSION, OLDEST_VERSION = 3, 1
PLAIN_VERSION: Final = 2  # of a contract without graphs for GPUs, which older runtimes read, too
PRECISIONS = ("fp32", "fp16", "int8")
TOKENS_IN_WINDOWS: Final = 8192  # of a document that is read in windows, where nobody says more
MOST_IN_WINDOWS: Final = 65_536  # tokens of a document that is read in windows: 32 MB of 128 dimensions


class Head(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One projection of the encoder: an output of the graph."""

    dim: int
    output: str  # name of the graph's output, float32 or float16 [batch, tokens, dim]; "" = the one so wide
    source: str = ""  # where its weights come from, in words


class Frame(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Token ids the tokenizer's own template puts around a text, e.g. [CLS] ... [SEP]."""

    prefix: tuple[int, ...]
    suffix: tuple[int, ...]
    pad: int


class Expansion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Queries that are too short are filled up with this token; the filled ones' vectors are kept too."""

    token: int
    attend: bool  # whether other tokens attend to the filled ones
    length: int | None = None  # tokens a query is filled up to; None = the rules' max_tokens


class TextRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How one kind of text (query or document) becomes token ids.

    ids = frame.prefix + [marker] + tokens(prompt + text) + frame.suffix, truncated to max_tokens in all. Of
    the vectors, those of `skiplist` are dropped, expansion's too, with `kept` all but those of `kept`, and
    without `prompt_kept` those of the prompt.

    A document of more tokens of its own than a `window` is read in several, each with prompt, marker and
    frame of its own, and has the vectors of all. max_tokens then counts prompt, marker and frame once, and
    may be more than the encoder takes at once.
    """

    max_tokens: int
    prompt: str = ""  # text put in front, tokenised with it
    marker: int | None = None  # token inserted behind frame.prefix
    expansion: Expansion | None = None
    skiplist: tuple[int, ...] = ()  # ids whose vectors are dropped
    strip: bool = False  # white space around prompt + text is removed before it is tokenised
    swaps: tuple[tuple[int, int], ...] = ()  # (id a text's token has, id that is put in its place)
    kept: tuple[int, ...] | None = None  # the only ids whose vectors are kept; None = all
    prompt_kept: bool = True  # whether the vectors of the prompt's tokens are kept
    window: int | None = None  # most tokens of a document's own that are read at once; None = all

    def as_version_1(self, positions: int) -> dict[str, Any]:
        """What version 1 wrote for these rules, and of the fields after it those that are in use.

        Fingerprints are made of this, so that they outlive the fields that come after. The prompt's vectors
        change none of the others, and what is read in windows compares with what is not, as other lengths
        do: an index made without either stays of use.
        """
        said: dict[str, Any] = self.as_written()
        said.pop("prompt_kept", None)
        said.pop("window", None)
        said["max_tokens"] = min(self.max_tokens, positions)
        for name, default in (("strip", False), ("swaps", ()), ("kept", None)):
            if said[name] == default:
                del said[name]
        if self.expansion is not None and self.expansion.length is None:
            del said["expansion"]["length"]
        return said

    def as_written(self) -> dict[str, Any]:
        """What latebolt.json says; not what older runtimes do not know, where it is as with them."""
        said: dict[str, Any] = msgspec.to_builtins(self)
        if self.prompt_kept:
            del said["prompt_kept"]
        if self.window is None:
            del said["window"]
        return said


def added_tokens(frame: Frame, rules: TextRules) -> int:
    """Tokens that are put around a text, its prompt not among them."""
    return len(frame.prefix) + len(frame.suffix) + (rules.marker is not None)


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file beside an ONNX file, with the weights that are too large for it."""

    file: str  # relative to the model folder
    bytes: int  # 0 = not recorded
    sha256: str  # "" = not recorded


class Graph(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model at one precision: an ONNX file, and the files beside it that it needs."""

    file: str  # relative to the model folder
    bytes: int  # of that file; 0 = not recorded
    sha256: str  # of that file; "" = not recorded
    isa: str = ""  # instruction set an int8 graph was made for; "" = any
    data: tuple[Part, ...] = ()
    normalised: bool = True  # its outputs have unit length; others are given it after the run

    @property
    def parts(self) -> tuple[Part, ...]:
        """Every file of the graph, the ONNX file first."""
        return (Part(self.file, self.bytes, self.sha256), *self.data)


class Provenance(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Where the weights come from and what made the folder."""

    name: str  # hub id, package or folder name
    revision: str = ""
    licence: str = ""
    weights_sha256: str = ""  # over encoder and head weights; equal for every precision
    tools: dict[str, str] = {}


class Contract(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """All that the runtime needs to know of a model. See the field comments of the parts."""

    name: str
    architecture: str
    hidden_size: int
    max_tokens: int  # most positions the encoder takes
    heads: tuple[Head, ...]  # widest first; the first is the default
    frame: Frame
    query: TextRules
    document: TextRules
    graphs: dict[str, Graph]  # precision -> graph
    source: Provenance
    parity: dict[str, Any] = {}  # summary of report.json
    lowercase: bool = False  # prompt + text is lowercased before the tokenizer sees it
    notes: tuple[str, ...] = ()  # what a user should know: settings of the source that could not be kept
    format: str = "latebolt-model"
    format_version: int = PLAIN_VERSION
    # Forms of shared runs on a GPU -> graph, float16; take `kept` as well, see `encoder.session`.
    gpu_graphs: dict[str, Graph] = {}

    def most_tokens(self, rules: TextRules) -> int:
        """Most tokens that a text of these rules may be given: as many as the encoder takes, or, in windows,
        as many as one text's vectors should take memory for."""
        return self.max_tokens if rules.window is None else MOST_IN_WINDOWS

    def head(self, dim: int | None) -> Head:
        """The head of that width; the widest for None.

        Raises:
            ModelError: there is none.
        """
        for head in self.heads:
            if dim is None or head.dim == dim:
                return head
        widths = ", ".join(str(head.dim) for head in self.heads)
        raise ModelError(f'model "{self.name}" has no head of dim {dim}. Choose one of: {widths}.')

    def graph(self, precision: str) -> Graph:
        """The graph of that precision.

        Raises:
            ModelError: there is none.
        """
        if precision in self.graphs:
            return self.graphs[precision]
        raise ModelError(
            f'model "{self.name}" has no {precision} graph. Choose one of: {", ".join(self.graphs)}, '
            f"or export it again with --precisions {precision}."
        )

    def fingerprint(self, dim: int) -> str:
        """16 hex digits, equal for two models whose token vectors may be compared with each other.

        Precisions of one model share it; weights, head or text rules that differ do not.
        """
        parts: tuple[object, ...] = (
            self.source.weights_sha256,
            dim,
            self.frame,
            self.query.as_version_1(self.max_tokens),
            self.document.as_version_1(self.max_tokens),
        )
        if self.lowercase:  # only then, so that what was made before this field existed keeps its print
            parts += ("lowercase",)
        return hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:16]

    def beside_print(self) -> list[str]:
        """What else decides the vectors of a text: rules that `fingerprint` leaves out, since vectors of both
        compare; words such as "document-window-160", none for rules as they were before there were these."""
        kinds = {"query": self.query, "document": self.document}
        dropped = [f"{kind}-prompt-dropped" for kind, rules in kinds.items() if not rules.prompt_kept]
        cut = [f"{kind}-window-{rules.window}" for kind, rules in kinds.items() if rules.window is not None]
        return dropped + cut

    def problems(self) -> list[str]:
        """What contradicts itself, as `field: should be ..., got ...` lines; empty when sound."""
        found = []
        if self.format != "latebolt-model":
            found.append(f'format: should be "latebolt-model", got "{self.format}"')
        if not OLDEST_VERSION <= self.format_version <= FORMAT_VERSION:
            found.append(
                f"format_version: should be in {OLDEST_VERSION}..{FORMAT_VERSION}, got {self.format_version}"
            )
        if not self.heads:
            found.append("heads: should name at least one head, got none")
        if any(head.dim % 4 or head.dim <= 0 for head in self.heads):
            found.append(f"heads: dims should be multiples of 4, got {[head.dim for head in self.heads]}")
        if not self.graphs:
            found.append("graphs: should name at least one graph, got none")
        for precision in self.graphs.keys() - set(PRECISIONS):
            found.append(f'graphs: precision should be one of {PRECISIONS}, got "{precision}"')
        for field, graphs in (("graphs", self.graphs), ("gpu_graphs", self.gpu_graphs)):
            for name, graph in graphs.items():
                for file in (part.file for part in graph.parts):
                    if Path(file).is_absolute() or ".." in Path(file).parts:
                        found.append(f'{field}.{name}.file: should stay in the model folder, got "{file}"')
        for kind, rules in (("query", self.query), ("document", self.document)):
            if not rules.prompt_kept and not rules.prompt:
                found.append(f"{kind}.prompt_kept: should be true without a prompt, got false")
            least = added_tokens(self.frame, rules) + 1
            most = self.most_tokens(rules)
            if not least <= rules.max_tokens <= most:
                found.append(f"{kind}.max_tokens: should be in {least}..{most}, got {rules.max_tokens}")
            if rules.window is not None:
                room = self.max_tokens - least + 1
                if kind == "query" or rules.expansion is not None:
                    found.append(
                        f"{kind}.window: should be null for queries and with expansion, got {rules.window}"
                    )
                elif not 1 <= rules.window <= room:
                    found.append(f"{kind}.window: should be in 1..{room}, got {rules.window}")
            length = rules.expansion.length if rules.expansion else None
            if length is not None and not 1 <= length <= rules.max_tokens:
                found.append(
                    f"{kind}.expansion.length: should be in 1..{rules.max_tokens} ({kind}.max_tokens), "
                    f"got {length}"
                )
        return found


# Made here, under the import's lock: msgspec (0.22) describes a type at its first use, and a second thread
# that comes meanwhile takes half a description and crashes the process.
_DECODER: Final = msgspec.json.Decoder(Contract)


def read(folder: Path) -> Contract:
    """The checked contract of a model folder.

    Raises:
        ModelError: the folder or its latebolt.json is missing, unreadable or contradicts itself.
    """
    path = folder / FILE_NAME
    try:
        contract = _DECODER.decode(path.read_bytes())
    except FileNotFoundError as error:
        if not folder.is_dir():
            raise ModelError(
                f'{folder}: there is no such model folder. Use "starter", an exported '
                f"folder, or a hub id such as org/name."
            ) from error
        raise ModelError(
            f"{folder}: has no {FILE_NAME}, so it is not an exported model. "
            f'Make one with "latebolt export {shlex.quote(str(folder))} OUT".'
        ) from error
    except (msgspec.DecodeError, UnicodeDecodeError, OSError) as error:
        raise ModelError(f"{path}: {error}. Export the model again.") from error
    if problems := contract.problems():
        raise ModelError(f"{path}: {'; '.join(problems)}. Export the model again.")
    return contract


def write(contract: Contract, folder: Path) -> Path:
    """Write latebolt.json, human-readable; returns its path.

    Raises:
        ModelError: the contract contradicts itself.
    """
    if problems := contract.problems():
        raise ModelError(f"{contract.name}: {'; '.join(problems)}.")
    said: dict[str, Any] = msgspec.to_builtins(contract)
    if not contract.gpu_graphs:
        del said["gpu_graphs"]
    said |= {"query": contract.query.as_written(), "document": contract.document.as_written()}
    path = folder / FILE_NAME
    path.write_bytes(msgspec.json.format(msgspec.json.encode(said), indent=2) + b"\n")
    return path

"""`latebolt.json`: round trip, and one clear error for each way it can be wrong."""

from __future__ import annotations

import hashlib
import json

import msgspec
import pytest

from latebolt import contract
from latebolt.encoder.model_folder import BUILT_IN
from latebolt.errors import ModelError


@pytest.fixture
def starter() -> contract.Contract:
    return contract.read(BUILT_IN / "starter")


def test_round_trip(starter, tmp_path):
    contract.write(starter, tmp_path)
    assert contract.read(tmp_path) == starter


def test_starter_promises_its_heads(starter):
    assert [head.dim for head in starter.heads] == [128, 96, 64]
    assert starter.head(None).dim == 128
    assert "int8" in starter.graphs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "format"),
        ({"format_version": 99}, "format_version"),
        ({"heads": []}, "heads"),
        ({"graphs": {}}, "graphs"),
        ({"surprise": 1}, "surprise"),
        ({"max_tokens": 4}, "max_tokens"),
        ({"graphs": {"int8": {"file": "../x.onnx", "bytes": 1, "sha256": ""}}}, "stay in the model folder"),
        ({"graphs": {"int3": {"file": "x.onnx", "bytes": 1, "sha256": ""}}}, "int3"),
    ],
)
def test_a_wrong_field_is_named(starter, tmp_path, change, message):
    record = json.loads(msgspec.json.encode(starter)) | change
    (tmp_path / "latebolt.json").write_text(json.dumps(record))
    with pytest.raises(ModelError, match=message) as caught:
        contract.read(tmp_path)
    assert str(tmp_path) in str(caught.value)


@pytest.mark.parametrize("kind", ("query", "document"))
def test_texts_need_room_for_one_token_beside_the_markers(starter, kind):
    rules, frame = getattr(starter, kind), starter.frame
    least = len(frame.prefix) + len(frame.suffix) + (rules.marker is not None) + 1

    def problems(max_tokens):
        changed = {kind: msgspec.structs.replace(rules, max_tokens=max_tokens, expansion=None)}
        return msgspec.structs.replace(starter, **changed).problems()

    assert problems(least) == problems(starter.max_tokens) == []
    for wrong in (least - 1, starter.max_tokens + 1):
        [problem] = problems(wrong)
        assert problem == f"{kind}.max_tokens: should be in {least}..{starter.max_tokens}, got {wrong}"


NEW_RULES = [
    {"strip": True},
    {"swaps": ((0, 103),)},
    {"kept": ()},
    {"expansion": contract.Expansion(103, attend=False, length=8)},
]


@pytest.mark.parametrize("new", NEW_RULES)
def test_what_version_2_adds_makes_the_round_trip_and_the_print(starter, tmp_path, new):
    query = msgspec.structs.replace(
        starter.query, **{"expansion": contract.Expansion(103, attend=False)} | new
    )
    made = msgspec.structs.replace(starter, query=query)
    contract.write(made, tmp_path)
    assert contract.read(tmp_path) == made
    assert made.fingerprint(128) != starter.fingerprint(128)


def test_the_prints_of_version_1_stay(starter):
    """As it was made before there were fields that could be left out."""
    expansion = contract.Expansion(103, attend=False)
    query = contract.TextRules(32, prompt="q: ", marker=1, expansion=expansion, skiplist=(5, 6))
    rules = [
        {
            "max_tokens": 32,
            "prompt": "q: ",
            "marker": 1,
            "expansion": {"token": 103, "attend": False},
            "skiplist": [5, 6],
        },
        {"max_tokens": 512, "prompt": "", "marker": None, "expansion": None, "skiplist": []},
    ]
    parts = [starter.source.weights_sha256, 96, msgspec.to_builtins(starter.frame), *rules]
    expected = hashlib.sha256(json.dumps(parts, separators=(",", ":")).encode()).hexdigest()[:16]
    made = msgspec.structs.replace(starter, query=query, document=contract.TextRules(512), format_version=1)
    assert made.fingerprint(96) == expected


def test_a_prompt_without_vectors_makes_the_round_trip_and_leaves_the_print(starter, tmp_path):
    """Older runtimes read what is written without it, and older indexes are searched with it."""
    contract.write(starter, tmp_path)
    assert "prompt_kept" not in (tmp_path / "latebolt.json").read_text()
    query = msgspec.structs.replace(starter.query, prompt="q: ")
    with_it = msgspec.structs.replace(starter, query=query)
    made = msgspec.structs.replace(starter, query=msgspec.structs.replace(query, prompt_kept=False))
    contract.write(made, tmp_path)
    assert contract.read(tmp_path) == made != with_it
    assert made.fingerprint(128) == with_it.fingerprint(128) != starter.fingerprint(128)
    without = msgspec.structs.replace(query, prompt="", prompt_kept=False)
    with pytest.raises(ModelError, match=r"query\.prompt_kept: should be true without a prompt"):
        contract.write(msgspec.structs.replace(starter, query=without), tmp_path)


def test_windows_make_the_round_trip_and_leave_the_print(starter, tmp_path):
    """What was read at once is compared with what is read in windows; other contracts say nothing of it."""
    contract.write(starter, tmp_path)
    assert "window" not in (tmp_path / "latebolt.json").read_text()
    document = msgspec.structs.replace(starter.document, window=160, max_tokens=8192)
    made = msgspec.structs.replace(starter, document=document)
    contract.write(made, tmp_path)
    assert contract.read(tmp_path) == made
    assert starter.document.max_tokens == starter.max_tokens and made.fingerprint(128) == starter.fingerprint(
        128
    )
    assert starter.beside_print() == [] and made.beside_print() == ["document-window-160"]
    for wrong, says in (
        (
            {"document": msgspec.structs.replace(document, window=511)},
            r"document\.window: should be in 1\.\.510",
        ),
        ({"document": msgspec.structs.replace(document, window=0)}, r"document\.window: .*, got 0"),
        (
            {"document": msgspec.structs.replace(document, window=None)},
            r"document\.max_tokens: .*\.512, got 8192",
        ),
        (
            {"query": msgspec.structs.replace(starter.query, window=9)},
            r"query\.window: should be null for queries",
        ),
    ):
        with pytest.raises(ModelError, match=says):
            contract.write(msgspec.structs.replace(made, **wrong), tmp_path)


def test_an_expansion_beyond_the_limit_is_refused(starter, tmp_path):
    expansion = contract.Expansion(103, attend=False, length=33)
    made = msgspec.structs.replace(starter, query=contract.TextRules(32, expansion=expansion))
    with pytest.raises(ModelError, match=r"query\.expansion\.length: should be in 1\.\.32 .*, got 33"):
        contract.write(made, tmp_path)


def test_missing_files_are_told_apart(tmp_path):
    with pytest.raises(ModelError, match="no such model folder"):
        contract.read(tmp_path / "nothing")
    with pytest.raises(ModelError, match="latebolt export"):
        contract.read(tmp_path)
    (tmp_path / "latebolt.json").write_text("{not json")
    with pytest.raises(ModelError, match=r"latebolt\.json"):
        contract.read(tmp_path)


def test_the_fingerprint_follows_what_vectors_depend_on(starter):
    print_128 = starter.fingerprint(128)
    assert print_128 != starter.fingerprint(64)
    assert print_128 == msgspec.structs.replace(starter, name="other", graphs={}).fingerprint(128)
    source = msgspec.structs.replace(starter.source, weights_sha256="0")
    assert print_128 != msgspec.structs.replace(starter, source=source).fingerprint(128)
    query = msgspec.structs.replace(starter.query, max_tokens=16)
    assert print_128 != msgspec.structs.replace(starter, query=query).fingerprint(128)


def test_graphs_for_gpus_are_a_version_of_their_own(starter, tmp_path):
    """Without any, what is written is what runtimes of before read."""
    contract.write(starter, tmp_path)
    said = json.loads((tmp_path / contract.FILE_NAME).read_text())
    assert said["format_version"] == starter.format_version < 3 and "gpu_graphs" not in said
    graph = contract.Graph("onnx/model_fp16_ragged.onnx", 1, "")
    forms = msgspec.structs.replace(starter, gpu_graphs={"ragged": graph}, format_version=3)
    contract.write(forms, tmp_path)
    assert contract.read(tmp_path) == forms
    assert forms.fingerprint(128) == starter.fingerprint(128)
    outside = msgspec.structs.replace(starter, gpu_graphs={"ragged": contract.Graph("../x.onnx", 1, "")})
    assert outside.problems() == ['gpu_graphs.ragged.file: should stay in the model folder, got "../x.onnx"']

"""Whatever a JSON file of a source says, it is read, or one error names the file: never Python's own."""

from __future__ import annotations

import json

import pytest
import test_tokenizer_files as tokenizers_
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from latebolt.errors import ModelError
from latebolt.formats.vocabulary import Vocabulary
from latebolt_export.graph import onnx_source
from latebolt_export.source import checkpoint, tokenizer_files, weights
from latebolt_export.source.find import Place

ODD = [
    5,
    -1,
    0,
    1.5,
    float("nan"),
    True,
    "yes",
    "",
    None,
    [],
    [5],
    [[1]],
    {},
    {"a": 5},
    {"content": 5},
    "\ud800",
]
TOKEN_FILES = {
    "tokenizer_config": [
        "tokenizer_class",
        "auto_map",
        "added_tokens_decoder",
        "additional_special_tokens",
        "do_lower_case",
        "strip_accents",
        "tokenize_chinese_chars",
        "model_max_length",
        "truncation_side",
        "split_special_tokens",
        "unk_token",
        "cls_token",
        "mask_token",
        "bos_token",
    ],
    "special_tokens_map": ["unk_token", "pad_token", "additional_special_tokens"],
    "added_tokens": ["[Q]", "", "query:"],
}
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["[CLS]", "5"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["content", "special", "lstrip", "3", "99", "a", "AutoTokenizer"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=6,
)


def read_tokenizer(folder):
    made = Vocabulary(folder, tokenizer_files.convert(folder))
    made.load_as_transformers_does()
    made.frame()


def fails_by_name(call, file):
    """The message of a ModelError that names the file; "" where the call goes through."""
    try:
        call()
    except ModelError as error:
        assert file in str(error), error
        assert "\n" not in str(error)
        return str(error)
    return ""


MALFORMED = {
    "a class that is a number": (
        {"tokenizer_config": {"tokenizer_class": 5}},
        "tokenizer_class = 5 should be a string",
    ),
    "added tokens as a list": ({"added_tokens": ["[Q]"]}, "should hold a JSON object, got list"),
    "an added token without an id": (
        {"added_tokens": {"[Q]": "x"}},
        r"\[Q\] should be a whole number, got 'x'",
    ),
    "an added token at null": ({"added_tokens": {"[Q]": None}}, r"\[Q\] = None should be a whole number"),
    "a decoder's key": (
        {"tokenizer_config": {"added_tokens_decoder": {"a": {"content": "x"}}}},
        'has the key "a"',
    ),
    "a decoder's entry": (
        {"tokenizer_config": {"added_tokens_decoder": {"3": {}}}},
        "a token at 3: a string",
    ),
    "a decoder's entry as text": (
        {"tokenizer_config": {"added_tokens_decoder": {"3": "x"}}},
        "no object with a content at 3",
    ),
    "a role without content": (
        {"tokenizer_config": {"mask_token": {"special": True}}},
        "mask_token = .* should name a token",
    ),
    "a role as a list": (
        {"special_tokens_map": {"unk_token": ["x"]}},
        r"unk_token = \['x'\] should name a token",
    ),
    "a flag as a word": (
        {"tokenizer_config": {"mask_token": {"content": "[MASK]", "lstrip": "yes"}}},
        "true or false for lstrip",
    ),
    "own code as a number": ({"tokenizer_config": {"auto_map": 5}}, "auto_map = 5 should be an object"),
    "further tokens as numbers": (
        {"tokenizer_config": {"additional_special_tokens": [5]}},
        r"additional_special_tokens = \[5\] should name a token",
    ),
    "a rule as a word": (
        {"tokenizer_config": {"do_lower_case": "yes"}},
        "do_lower_case = 'yes' should be true or false",
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_a_malformed_tokenizer_setting_is_named_with_its_file_key_and_value(tmp_path, case):
    files, message = MALFORMED[case]
    tokenizers_.write(tmp_path, tokenizers_.VOCABULARY, **files)
    with pytest.raises(ModelError, match=message) as caught:
        read_tokenizer(tmp_path)
    assert str(tmp_path / next(iter(files))) in str(caught.value)


@pytest.mark.parametrize("form", ["own.Own", ["own.Own", None]])
def test_own_code_in_the_form_that_came_first_is_known_too(tmp_path, form):
    given = {"auto_map": form if isinstance(form, list) else {"AutoTokenizer": form}}
    tokenizers_.write(tmp_path, tokenizers_.VOCABULARY, tokenizer_config=given)
    with pytest.raises(ModelError, match=r"its tokenizer BertTokenizer is code of its own"):
        read_tokenizer(tmp_path)


@pytest.mark.parametrize(
    "content", ["[" * 100_000, "9" * 5000, "\ud800", '{"cls_token": "\\ud800"}', '{"a": 1']
)
def test_a_file_that_json_chokes_on_is_named(tmp_path, content):
    tokenizers_.write(tmp_path, tokenizers_.VOCABULARY)
    (tmp_path / "tokenizer_config.json").write_bytes(content.encode("utf-8", "surrogatepass"))
    with pytest.raises(ModelError, match=r"tokenizer_config\.json: cannot be read as JSON"):
        read_tokenizer(tmp_path)


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.data())
def test_any_value_at_any_key_of_a_tokenizer_is_read_or_named(tmp_path, data):
    file = data.draw(st.sampled_from(sorted(TOKEN_FILES)))
    content = data.draw(
        st.dictionaries(st.sampled_from(TOKEN_FILES[file]), JSON | st.sampled_from(ODD), max_size=3)
    )
    for name in TOKEN_FILES:
        (tmp_path / f"{name}.json").write_text(json.dumps(content if name == file else {}))
    tokenizers_.write(tmp_path, tokenizers_.VOCABULARY)
    fails_by_name(lambda: read_tokenizer(tmp_path), str(tmp_path))


def variations(path):
    """The file's keys, one at a time, with every odd value; and the whole file as each."""
    content = json.loads(path.read_text())
    for odd in ODD:
        yield odd
        if isinstance(content, dict):
            yield from (content | {key: odd} for key in content)
        else:
            yield from ([item | {key: odd}, *content[1:]] for item in content[:1] for key in item)


@pytest.mark.parametrize("layout", ["stanford", "pylate", "plain"])
def test_any_value_in_a_file_of_a_checkpoint_is_read_or_named(make, head, tmp_path, layout):
    from safetensors.torch import save_file

    save_file({"linear.weight": head}, tmp_path / "head.safetensors")
    folder = make(layout)
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix in (".json", ".metadata") and path.name != "tokenizer.json"
    )
    assert len(files) >= 2
    own = tmp_path / "head.safetensors" if layout == "plain" else None
    refused = 0
    for path in files:
        before = path.read_text()
        for content in variations(path):
            path.write_text(json.dumps(content))
            refused += fails_by_name(lambda: checkpoint.load(folder, own), str(folder)) != ""
        path.write_text(before)
    assert refused > 30
    checkpoint.load(folder, own)


@pytest.mark.parametrize("layout", ["artifact.metadata", "onnx_config.json"])
def test_any_value_in_a_file_around_a_graph_is_read_or_named(foreign, layout):
    if layout != "artifact.metadata":
        (foreign / "artifact.metadata").unlink()
        (foreign / layout).write_text(
            json.dumps(
                {
                    "query_prefix": "[Q] ",
                    "query_prefix_id": 5,
                    "document_prefix_id": 6,
                    "query_length": 9,
                    "do_lower_case": False,
                    "skiplist_words": ["a"],
                    "embedding_dim": 16,
                    "pad_token_id": 0,
                }
            )
        )
    onnx_source.load(Place(foreign, "name"), foreign / "model.onnx")
    for path in (foreign / layout, foreign / "config.json"):
        before = path.read_text()
        for content in variations(path):
            path.write_text(json.dumps(content))
            fails_by_name(
                lambda: onnx_source.load(Place(foreign, "name"), foreign / "model.onnx"), str(foreign)
            )
        path.write_text(before)


@pytest.mark.parametrize("index", [5, [], {"weight_map": 5}, {"weight_map": {"a": 5}}])
def test_an_index_of_weights_that_is_none_is_named(tmp_path, index):
    (tmp_path / weights.SAFE_INDEX).write_text(json.dumps(index))
    with pytest.raises(ModelError, match=weights.SAFE_INDEX):
        weights.read_state(tmp_path)

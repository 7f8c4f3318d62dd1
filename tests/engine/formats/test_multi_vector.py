"""The layout of sentence-transformers' MultiVectorEncoder: every setting read, or refused by its name.

That the rules are the library's own is shown beside the library (tests/differential).
"""

from __future__ import annotations

import json
import shutil

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from latebolt.contract import Expansion, TextRules
from latebolt.encoder.model_folder import find
from latebolt.errors import ModelError
from latebolt.formats import graphs
from latebolt.formats.folder import derive

MASK, UNUSED0, POINT, UNK, CLS = 103, 1, 1012, 100, 101  # bert-base-uncased
PARTS = "sentence_transformers.multi_vector_encoder.modules."
BASE = "sentence_transformers.base.modules."


def write(path, settings):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(settings))


@pytest.fixture
def folder(tmp_path):
    """What save_pretrained writes, around a graph that is never opened."""
    shutil.copy(find("starter").tokenizer_file, tmp_path / "tokenizer.json")
    (tmp_path / "model.onnx").touch()
    write(
        tmp_path / "config.json", {"model_type": "bert", "hidden_size": 384, "max_position_embeddings": 512}
    )
    write(tmp_path / "tokenizer_config.json", {"tokenizer_class": "BertTokenizer", "model_max_length": 256})
    write(
        tmp_path / "config_sentence_transformers.json",
        {
            "__version__": {"sentence_transformers": "6.2.0"},
            "model_type": "MultiVectorEncoder",
            "prompts": {"query": "", "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "maxsim",
        },
    )
    write(
        tmp_path / "sentence_bert_config.json",
        {
            "transformer_task": "feature-extraction",
            "modality_config": {"text": {"method": "forward", "method_output_name": "last_hidden_state"}},
            "module_output_name": "token_embeddings",
        },
    )
    features = {"module_input_name": "token_embeddings", "module_output_name": "token_embeddings"}
    write(tmp_path / "1_Dense" / "config.json", {"in_features": 384, "out_features": 96, **features})
    write(
        tmp_path / "2_MultiVectorMask" / "config.json", {"skiplist_words": [], "skiplist_tasks": ["document"]}
    )
    write(tmp_path / "3_Normalize" / "config.json", features)
    modules(
        tmp_path,
        ("", f"{BASE}transformer.Transformer"),
        ("1_Dense", f"{BASE}dense.Dense"),
        ("2_MultiVectorMask", f"{PARTS}multi_vector_mask.MultiVectorMask"),
        ("3_Normalize", f"{BASE}normalize.Normalize"),
    )
    return tmp_path


def modules(folder, *listed):
    found = [{"idx": i, "name": str(i), "path": path, "type": kind} for i, (path, kind) in enumerate(listed)]
    (folder / "modules.json").write_text(json.dumps(found))


def change(folder, file, **settings):
    path = folder / file
    path.write_text(json.dumps(json.loads(path.read_text()) | settings))


def derived(folder):
    return derive(folder, graphs.listing(folder), "model")


TOP, INNER = "config_sentence_transformers.json", "sentence_bert_config.json"
MASKING, TOKENIZER = "2_MultiVectorMask/config.json", "tokenizer_config.json"


def test_nothing_is_another_layouts_default(folder):
    found = derived(folder)
    assert found.query == found.document == TextRules(256)  # no marker, no expansion, nothing skipped
    assert not found.lowercase and found.heads[0].dim == 96


def test_the_encoders_positions_bound_a_text_without_a_length(folder):
    (folder / TOKENIZER).unlink()
    assert derived(folder).document == TextRules(512)
    change(folder, INNER, max_seq_length=100)
    assert derived(folder).document == TextRules(100)


def test_prompts_are_text(folder):
    change(folder, TOP, prompts={"query": "[unused0] ", "passage": "p: "}, default_prompt_name="query")
    assert (derived(folder).query, derived(folder).document) == (TextRules(256, "[unused0] "), TextRules(256))


@pytest.mark.parametrize(
    ("asked", "query"),
    [
        ({"strategy": "fixed", "length": 32}, TextRules(32, expansion=Expansion(MASK, attend=False))),
        (
            {"strategy": "fixed", "length": 300, "attend": True, "token": "[unused0]"},
            TextRules(300, expansion=Expansion(UNUSED0, attend=True)),
        ),
        (
            {"strategy": "min", "length": 32, "token": None},
            TextRules(256, expansion=Expansion(MASK, attend=False, length=32)),
        ),
    ],
)
def test_expansion(folder, asked, query):
    change(folder, INNER, query_expansion=asked)
    assert derived(folder).query == query


def test_expansion_that_no_module_keeps_is_none(folder):
    change(folder, INNER, query_expansion={"strategy": "fixed", "length": 32, "attend": False})
    modules(folder, ("", f"{BASE}transformer.Transformer"), ("3_Normalize", f"{BASE}normalize.Normalize"))
    found = derived(folder)
    assert found.query == TextRules(32)
    assert found.heads[0].dim == 384  # no Dense: the encoder's own vectors
    change(folder, INNER, query_expansion={"strategy": "fixed", "length": 32, "attend": True})
    assert derived(folder).query.expansion == Expansion(MASK, attend=True)


def test_lengths_of_their_own(folder):
    change(folder, INNER, query_length=48, document_length=300)
    assert (derived(folder).query.max_tokens, derived(folder).document.max_tokens) == (48, 300)


def test_what_is_skipped_and_where(folder):
    change(folder, MASKING, skiplist_words=[".", "[CLS]", "nonsuch"], skiplist_tasks="query")
    found = derived(folder)
    assert (found.query.skiplist, found.document.skiplist) == ((CLS, POINT), ())
    change(folder, MASKING, skiplist_words=[".", "[UNK]"], skiplist_tasks=["query", "document"])
    found = derived(folder)
    assert found.query.skiplist == found.document.skiplist == (UNK, POINT)


def test_what_alone_is_kept(folder):
    change(folder, MASKING, keep_only_token_ids=[POINT, CLS])
    assert (derived(folder).query.kept, derived(folder).document.kept) == (None, (CLS, POINT))


def test_a_transformer_in_a_folder_of_its_own(folder):
    for name in ("tokenizer.json", "config.json", TOKENIZER, INNER):
        (folder / "0_Transformer").mkdir(exist_ok=True)
        (folder / name).rename(folder / "0_Transformer" / name)
    change(folder, f"0_Transformer/{INNER}", query_length=20)
    modules(
        folder,
        ("0_Transformer", f"{BASE}transformer.Transformer"),
        ("3_Normalize", f"{BASE}normalize.Normalize"),
    )
    assert derived(folder).query == TextRules(20)
    assert find(folder).tokenizer_file == folder / "0_Transformer" / "tokenizer.json"


REFUSED = {
    "similarity": (TOP, {"similarity_fn_name": "meanmaxsim"}, "similarity_fn_name = 'meanmaxsim' is not"),
    "prompts": (TOP, {"prompts": {"query": 3}}, "prompts = .* should hold strings"),
    "an unknown top setting": (
        TOP,
        {"query_prefix": "[Q] "},
        r"query_prefix = '\[Q\] ' is a setting that is",
    ),
    "task": (INNER, {"transformer_task": "fill-mask"}, "transformer_task = 'fill-mask' is not supported"),
    "modality": (INNER, {"modality_config": {"message": {}}}, "modality_config = .* only texts"),
    "output": (INNER, {"module_output_name": "scores"}, "module_output_name = 'scores' is not supported"),
    "processing": (
        INNER,
        {"processing_kwargs": {"text": {"max_length": 9}}},
        "processing_kwargs = .*'max_length'",
    ),
    "processor": (
        INNER,
        {"processor_kwargs": {"padding_side": "left"}},
        "processor_kwargs = .*only model_max_length",
    ),
    "config": (INNER, {"config_kwargs": {"num_hidden_layers": 1}}, "config_kwargs = .* is not supported"),
    "lower case": (INNER, {"do_lower_case": True}, "do_lower_case = True is not supported"),
    "an unknown setting": (INNER, {"window": 3}, "window = 3 is a setting that is not known"),
    "strategy": (INNER, {"query_expansion": {"strategy": "max", "length": 3}}, "query_expansion = .*'max'"),
    "token": (
        INNER,
        {"query_expansion": {"strategy": "min", "length": 9, "token": "[x]"}},
        r"fills with '\[x\]', which is no",
    ),
    "an unknown key": (
        INNER,
        {"query_expansion": {"strategy": "min", "length": 9, "side": "left"}},
        "has other settings than",
    ),
    "beyond the positions": (
        INNER,
        {"query_expansion": {"strategy": "fixed", "length": 600}},
        "beyond the 512 tokens the encoder takes",
    ),
    "beyond the tokenizer": (
        INNER,
        {"query_expansion": {"strategy": "min", "length": 300}},
        "beyond the 256 tokens they are cut to",
    ),
    "a floor below": (
        INNER,
        {"query_length": 8, "query_expansion": {"strategy": "min", "length": 9}},
        "query_length = 8 is below",
    ),
    "mask": (MASKING, {"keep_only_token_ids": ["a"]}, r"keep_only_token_ids = \['a'\] should be"),
    "an unknown mask": (MASKING, {"skip_first": 1}, "skip_first = 1 is a setting"),
    "truncation": (TOKENIZER, {"truncation_side": "left"}, 'truncation_side = "left" is not supported'),
    "padding": (TOKENIZER, {"padding_side": "left"}, 'padding_side = "left" is not supported'),
    "specials": (TOKENIZER, {"split_special_tokens": True}, "split_special_tokens = True is not supported"),
    "added": (TOKENIZER, {"added_tokens_decoder": {"9": {"content": "[new]"}}}, r'adds the token "\[new\]"'),
    "normalize": (
        "3_Normalize/config.json",
        {"module_input_name": "sentence_embedding"},
        "module_output_name",
    ),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_what_no_contract_can_say_is_refused_by_name(folder, fault):
    file, settings, message = REFUSED[fault]
    change(folder, file, **settings)
    with pytest.raises(ModelError, match=message) as caught:
        derived(folder)
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


TRANSFORMER, NORMALIZE = ("", f"{BASE}transformer.Transformer"), ("3_Normalize", f"{BASE}normalize.Normalize")
DENSE, MASKED = (
    ("1_Dense", f"{BASE}dense.Dense"),
    ("2_MultiVectorMask", f"{PARTS}multi_vector_mask.MultiVectorMask"),
)
POOLING = ("4_HierarchicalTokenPooling", f"{PARTS}token_pooling.HierarchicalTokenPooling")
ORDERS = {
    "a router": ([("", f"{BASE}router.Router"), NORMALIZE], r"router\.Router is not supported"),
    "somebody's own": ([TRANSFORMER, ("x", "custom.Dense"), NORMALIZE], r"custom\.Dense is not supported"),
    "no unit length": ([TRANSFORMER, DENSE, MASKED], "has no Normalize for token_embeddings"),
    "normalised too early": ([TRANSFORMER, NORMALIZE, DENSE], "a Dense behind a Normalize"),
    "two masks": ([TRANSFORMER, MASKED, MASKED, NORMALIZE], "names 2 modules MultiVectorMask"),
    "no transformer": ([("", DENSE[1]), NORMALIZE], "should begin with a Transformer"),
    "pooling": ([TRANSFORMER, NORMALIZE, POOLING], "pool_factor = 2.0 is not supported"),
}


@pytest.mark.parametrize("fault", ORDERS)
def test_modules_that_no_contract_can_say_are_refused_by_name(folder, fault):
    listed, message = ORDERS[fault]
    write(folder / POOLING[0] / "config.json", {"pool_factor": 2.0})
    modules(folder, *listed)
    with pytest.raises(ModelError, match=message):
        derived(folder)


def test_a_pooling_that_keeps_every_vector_is_none(folder):
    settings = {
        "pool_factor": 1.0,
        "num_protected_tokens": 1,
        "normalize_embeddings": True,
        "tasks": ["document"],
    }
    write(folder / POOLING[0] / "config.json", settings)
    modules(folder, TRANSFORMER, DENSE, NORMALIZE, POOLING)
    assert derived(folder).document == TextRules(256)


def test_the_tokenizers_own_settings_come_before_its_file(folder):
    """As transformers loads it: tokenizer_config.json decides about case."""
    from latebolt.formats.settings import tokenizer

    assert tokenizer(folder).encode("BERLIN").tokens[1] == "berlin"
    change(folder, TOKENIZER, do_lower_case=False)
    assert tokenizer(folder).encode("BERLIN").tokens[1] != "berlin"


OTHERS = {
    "stanford": (
        "artifact.metadata",
        {"dim": 96},
        {"similarity": "l2"},
        "similarity = 'l2' is not supported",
    ),
    "stanford, unknown": (
        "artifact.metadata",
        {"dim": 96},
        {"mask_stopwords": True},
        "mask_stopwords = True is a",
    ),
    "stanford, long": (
        "artifact.metadata",
        {"dim": 96},
        {"query_maxlen": 600},
        "fills queries beyond the 512",
    ),
    "pylate, unknown": (TOP, {"query_prefix": "[unused0]"}, {"stopwords": []}, "stopwords = .* is a setting"),
    "pylate, which version": (
        TOP,
        {"query_prefix": "[unused0]"},
        {"skiplist_words": []},
        "is the default to PyLate 1.2",
    ),
    "pylate, a new token": (
        TOP,
        {"document_prefix": "[unused0]"},
        {"query_prefix": "no such"},
        "untrained weights",
    ),
    "next-plaid, unknown": (
        "onnx_config.json",
        {"query_prefix_id": 1, "document_prefix_id": 2},
        {"stride": 2},
        "stride = 2",
    ),
}


@pytest.mark.parametrize("fault", OTHERS)
def test_the_other_layouts_are_as_strict(folder, fault):
    for path in (folder / TOP, folder / "modules.json", folder / INNER):
        path.unlink()
    file, sound, faulty, message = OTHERS[fault]
    prefix = {"document_prefix": "[unused1]"} if file == TOP and "document_prefix" not in sound else {}
    write(folder / file, sound | prefix | ({"embedding_dim": 96} if "plaid" in fault else {}))
    if file == TOP:
        (folder / "modules.json").write_text(json.dumps([
            {"path": "", "type": "sentence_transformers.models.Transformer"},
            {"path": "1_Dense", "type": "pylate.models.Dense.Dense"},
        ]))  # fmt: skip
    if "new token" not in fault:
        derived(folder)
    change(folder, file, **faulty)
    with pytest.raises(ModelError, match=message):
        derived(folder)


SMALL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a")
ODD = (5, -1, 0, 1.5, float("nan"), float("inf"), True, "yes", "", "a\0b", None, [], [5], [[1]], {}, {"a": 5})


def test_any_value_in_any_file_is_read_or_named(folder):
    """Whatever stands there, the error is one of ours and says where: never Python's own."""
    small = Tokenizer(models.WordPiece({t: i for i, t in enumerate(SMALL)}, unk_token="[UNK]"))
    small.normalizer, small.pre_tokenizer = normalizers.BertNormalizer(), pre_tokenizers.BertPreTokenizer()
    small.save(str(folder / "tokenizer.json"))  # hundreds of readings
    for name, more in {
        "sentence_bert_config.json": {
            "max_seq_length": 99, "query_length": 64, "document_length": 99, "processor_kwargs": {},
            "tokenizer_args": {}, "query_expansion": {"strategy": "min", "attend": True, "length": 32},
        },
        "tokenizer_config.json": {
            "mask_token": "[MASK]", "added_tokens_decoder": {}, "do_lower_case": True,
        },
        "config.json": {"num_attention_heads": 12, "pad_token_id": 0, "dim": 5},
    }.items():  # fmt: skip
        write(folder / name, json.loads((folder / name).read_text()) | more)
    derived(folder)
    refused = 0
    for path in [path for path in sorted(folder.rglob("*.json")) if path.name != "tokenizer.json"]:
        before = path.read_text()
        content = json.loads(before)
        for odd in ODD:
            variations = [odd, *({**content, key: odd} for key in content if isinstance(content, dict))]
            if isinstance(content, list):
                variations += [[{**content[0], key: odd}, *content[1:]] for key in content[0]]
            for variation in variations:
                path.write_text(json.dumps(variation))
                try:
                    derived(folder)
                except ModelError as error:
                    assert str(folder) in str(error) and "\n" not in str(error)
                    refused += 1
        path.write_text(before)
    assert refused > 100

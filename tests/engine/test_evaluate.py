"""Retrieval on real text: the quality that the README promises, and the reading of collections."""

from __future__ import annotations

import gzip
import html.parser
import json
import re
import xml.etree.ElementTree

import numpy as np
import pytest

from latebolt import Encoder, TokenVectors, maxsim
from latebolt.codec.residual_codec import ResidualCodec
from latebolt.corpus.stdlib import read_stdlib
from latebolt.errors import InvalidInput, ModelError
from latebolt.evaluate import (
    MEASURES,
    Collection,
    Grid,
    bm25_run,
    cache,
    evaluate,
    evaluate_collection,
    measure,
    measure_queries,
    read_collection,
    read_files,
    rows_of,
)
from latebolt.evaluate.cache import Encodings, encoder_digest
from latebolt.evaluate.compare import cases, compare
from latebolt.evaluate.passages import encoded
from latebolt.evaluate.report import escape_markdown, summary, write_report
from latebolt.evaluate.run import Evaluation, Scored, Variant
from latebolt.evaluate.tables import TABLES, by_dimension, by_language, by_model, by_variant
from latebolt.index.documents.passages import check_cutting

# The least nDCG@10 by dim, at 2 bits, over 1,500 questions spread over the collection.
SQUAD = {128: 0.90, 64: 0.88}


@pytest.mark.data
@pytest.mark.slow
@pytest.mark.parametrize("dim", SQUAD)
def test_squad(collections, dim):
    pytest.importorskip("ir_measures")
    *_, row = evaluate(collections / "squad", dims=[dim], bits=[2], max_queries=1500)
    assert row["bits"] == 2 and row["nDCG@10"] >= SQUAD[dim], row


def test_a_docstring_is_found_by_its_summary(encoder):
    """Real text on every machine: the first sentence of a docstring finds the docstring's rest."""
    documents = [d for d in read_stdlib() if d.text.count("\n\n") >= 1 and d.metadata["kind"] == "function"]
    documents = documents[:: max(1, len(documents) // 250)][:250]
    summaries = [d.text.split("\n", 1)[1].split("\n\n")[0] for d in documents]
    bodies = [d.text.split("\n\n", 1)[1] for d in documents]
    vectors = encoder.encode_documents(bodies)
    codec = ResidualCodec.train(vectors.values, 2)
    columns = codec.encode(vectors.values)
    queries = encoder.encode_queries(summaries)

    def reciprocal_rank(score) -> float:
        scored = [score(query) for query in queries]
        return float(np.mean([1 / (1 + (scores > scores[i]).sum()) for i, scores in enumerate(scored)]))

    exact = reciprocal_rank(lambda query: maxsim(query, vectors))
    assert exact > 0.6, exact  # 0.03 by chance
    coded = reciprocal_rank(lambda query: codec.scorer(query).exact(columns, vectors.offsets))
    assert coded > exact - 0.015, (coded, exact)


def write(folder, name, *lines):
    (folder / name).write_text(
        "\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines)
    )


def test_reading_a_collection(tmp_path):
    write(tmp_path, "corpus.jsonl", {"_id": "d", "title": "T", "text": "body"})
    write(tmp_path, "queries.jsonl", {"_id": "q", "text": "?"}, {"_id": "unjudged", "text": "?"})
    write(tmp_path, "qrels.tsv", "query-id\tcorpus-id\tscore", "q\td\t2")
    found = read_collection(tmp_path)
    assert (
        found.documents == {"d": "T body"} and found.queries == {"q": "?"} and found.qrels == {"q": {"d": 2}}
    )


def broken(folder, name="", *lines):
    """A sound collection, one file of it replaced."""
    write(folder, "corpus.jsonl", {"_id": "d", "text": "body"}, {"_id": "e", "text": ""})
    write(folder, "queries.jsonl", {"_id": "q", "text": "?"})
    write(folder, "qrels.tsv", "query-id\tcorpus-id\tscore", "q\td\t1")
    if name:
        write(folder, name, *lines)
    return folder


@pytest.mark.parametrize(
    ("name", "lines", "message"),
    [
        ("corpus.jsonl", ["{"], r"corpus\.jsonl:1: is not JSON"),
        ("corpus.jsonl", ['{"text": "a"}'], r'corpus\.jsonl:1: should be an object with "_id" and "text"'),
        ("corpus.jsonl", ["[1]"], r"corpus\.jsonl:1: should be an object"),
        ("corpus.jsonl", [{"_id": "d", "text": "a", "title": 7}], r"corpus\.jsonl:1: should be"),
        ("corpus.jsonl", [{"_id": "d", "text": "a"}] * 2, r'corpus\.jsonl:2: has the _id "d" of an earlier'),
        ("corpus.jsonl", [""], r"corpus\.jsonl: has no documents"),
        (
            "queries.jsonl",
            [{"_id": "x", "text": "?"}, {"_id": "q", "text": " "}],
            r'jsonl:2: query "q" is empty',
        ),
        ("qrels.tsv", ["q d 1"], r"qrels\.tsv:1: should be query, document and grade"),
        ("qrels.tsv", ["q\td\t1", "q\td"], r"qrels\.tsv:2: should be query"),
        ("qrels.tsv", ["q\td\thigh"], r'qrels\.tsv:1: the grade should be a whole number, got "high"'),
        ("qrels.tsv", ["q\td\t0.5"], r'qrels\.tsv:1: the grade should be a whole number, got "0.5"'),
        ("qrels.tsv", ["q\td\t1", "q\tnone\t1"], r'qrels\.tsv:2: judges document "none", which .*corpus'),
        (
            "qrels.tsv",
            ["q\td\t1", "q\td\t2"],
            r'qrels\.tsv:2: grades document "d" of query "q" 2, an earlier',
        ),
        ("qrels.tsv", ["other\td\t1"], "judges none"),
    ],
)
def test_a_broken_collection_is_named(tmp_path, name, lines, message):
    with pytest.raises(InvalidInput, match=message):
        read_collection(broken(tmp_path, name, *lines))


def test_what_is_not_gzip_or_utf8_is_named(tmp_path):
    broken(tmp_path)
    (tmp_path / "corpus.jsonl").rename(tmp_path / "corpus.jsonl.gz")
    with pytest.raises(InvalidInput, match=r"corpus\.jsonl\.gz: is not a sound gzip file"):
        read_collection(tmp_path)
    whole = gzip.compress(b'{"_id": "d", "text": "body"}\n')
    (tmp_path / "corpus.jsonl.gz").write_bytes(whole[:-9])
    with pytest.raises(InvalidInput, match=r"corpus\.jsonl\.gz: is not a sound gzip file"):
        read_collection(tmp_path)
    (tmp_path / "corpus.jsonl.gz").write_bytes(whole)
    assert read_collection(tmp_path).documents == {"d": "body"}
    (tmp_path / "qrels.tsv").write_bytes(b"q\td\t1\nq\xff\td\t1\n")
    with pytest.raises(InvalidInput, match=r"qrels\.tsv:2: is not UTF-8"):
        read_collection(tmp_path)


def test_layouts_of_judgements(tmp_path):
    broken(tmp_path, "qrels.tsv", "q 0 d 2", "q 0 e 0")
    named = read_files(
        *(tmp_path / name for name in ("corpus.jsonl", "queries.jsonl", "qrels.tsv")), "n", "en"
    )
    assert named.qrels == {"q": {"d": 2, "e": 0}} and (named.name, named.label) == ("n", "en")
    (tmp_path / "qrels").mkdir()
    (tmp_path / "qrels.tsv").unlink()
    with pytest.raises(InvalidInput, match=r"should have qrels\.tsv or qrels/test\.tsv"):
        read_collection(tmp_path)
    (tmp_path / "qrels" / "test.tsv.gz").write_bytes(gzip.compress(b"query-id\tcorpus-id\tscore\nq\td\t1\n"))
    assert read_collection(tmp_path).qrels == {"q": {"d": 1}}


def test_missing_files_are_named(tmp_path):
    with pytest.raises(InvalidInput, match="no such folder"):
        read_collection(tmp_path / "x")
    with pytest.raises(InvalidInput, match="corpus"):
        read_collection(tmp_path)


ANIMALS = [
    "cat",
    "dog",
    "horse",
    "whale",
    "eagle",
    "snake",
    "spider",
    "shark",
    "tiger",
    "mouse",
    "goat",
    "bee",
]


@pytest.fixture(scope="module")
def collection() -> Collection:
    documents = {
        f"d{i}": f"The {name} is an animal. Somebody saw a {name}." for i, name in enumerate(ANIMALS)
    }
    queries = {f"q{i}": f"who saw the {name}" for i, name in enumerate(ANIMALS)}
    return Collection("zoo", documents, queries, {f"q{i}": {f"d{i}": 1} for i in range(len(ANIMALS))}, "en")


def test_measures_by_hand():
    qrels = {"q": {"a": 1, "b": 1, "c": 0}, "none": {"a": 1}}
    run = {"q": {"c": 3.0, "a": 2.0, "b": 1.0}, "none": {}}
    found = measure_queries(run, qrels)
    dcg, best = 1 / np.log2(3) + 1 / np.log2(4), 1 + 1 / np.log2(3)
    assert found["nDCG@10"] == {"q": pytest.approx(dcg / best), "none": 0}
    assert found["RR@10"] == {"q": 0.5, "none": 0} and found["R@10"] == {"q": 1, "none": 0}
    assert found["AP@100"]["q"] == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert measure(run, qrels)["RR@10"] == 0.25 and measure({"none": {}}, qrels)["RR@10"] == 0
    assert tuple(found) == MEASURES


def test_bm25_finds_words_and_nothing_else(collection):
    run = bm25_run(collection)
    assert all(next(iter(run[f"q{i}"])) == f"d{i}" for i in range(len(ANIMALS)))
    silent = Collection(
        "c", {"d": "cat", "e": "dog"}, {"q": "zebra", "r": "!"}, {"q": {"d": 1}, "r": {"d": 1}}
    )
    assert bm25_run(silent) == {"q": {}, "r": {}}
    empty = Collection("c", {"d": "", "e": "?"}, {"q": "zebra"}, {"q": {"d": 1}})
    assert bm25_run(empty) == {"q": {}}


def test_bm25_cuts_text_without_spaces(collection):
    documents = {
        "a": "\u6771\u4eac\u306f\u65e5\u672c\u306e\u9996\u90fd\u3067\u3059",
        "b": "\u732b\u304c\u5bdd\u3066\u3044\u308b",
    }
    asked = Collection(
        "ja", documents, {"q": "\u65e5\u672c\u306e\u9996\u90fd\u306f\u3069\u3053"}, {"q": {"a": 1}}
    )
    assert next(iter(bm25_run(asked)["q"])) == "a"


def test_equal_texts_and_any_order_get_the_vectors_of_a_plain_call(tmp_path, encoder):
    texts = [f"{name} number {i % 40}" for i, name in enumerate(ANIMALS * 60)]
    plain = encoder.encode_documents(texts)
    for folder in (None, tmp_path, tmp_path):  # the third reads what the second wrote
        found = Encodings(folder).encode(encoder, texts, "document")
        np.testing.assert_array_equal(found.values, plain.values)
        np.testing.assert_array_equal(found.offsets, plain.offsets)


def count_encoded(encoder, monkeypatch) -> list[int]:
    counts: list[int] = []
    real = Encoder.encode_documents

    def counted(self, texts, *arguments, **named):
        counts.append(len(texts))
        return real(self, texts, *arguments, **named)

    monkeypatch.setattr(Encoder, "encode_documents", counted)
    return counts


def test_an_interrupted_run_goes_on(tmp_path, encoder, monkeypatch):
    texts = [f"text {i}" for i in range(600)]
    counts = count_encoded(encoder, monkeypatch)
    real = Encoder.encode_documents

    def interrupted(self, *arguments):
        if len(counts) == 2:
            raise KeyboardInterrupt
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Encoder, "encode_documents", interrupted)
        with pytest.raises(KeyboardInterrupt):
            Encodings(tmp_path).encode(encoder, texts, "document")
    done = sum(counts)
    counts.clear()
    Encodings(tmp_path).encode(encoder, texts, "document")
    assert 0 < done < 600 and sum(counts) == 600 - done
    counts.clear()
    Encodings(tmp_path).encode(encoder, [*texts, "one more"], "document")
    assert 0 < sum(counts) < 400  # the file the new text falls into, not all
    assert not list(tmp_path.rglob("*.draft"))


def test_damaged_encodings_are_made_again(tmp_path, encoder, caplog):
    good = Encodings(tmp_path).encode(encoder, ["a cat"], "document")
    [file] = tmp_path.rglob("*.npz")
    content = bytearray(file.read_bytes())
    for damaged in (content[:-20], content[:200] + bytes(100) + content[300:], b"", b"PK"):
        file.write_bytes(damaged)
        found = Encodings(tmp_path).encode(encoder, ["a cat"], "document")
        np.testing.assert_array_equal(found.values, good.values)
        assert bytes(content) == file.read_bytes()
    assert "encoded again" in caplog.text


def test_any_damage_of_encodings_is_found_or_does_no_harm(tmp_path, rng):
    """Flags and versions of the archive too, for each of which its reader has an error of another type."""
    kept = TokenVectors(rng.unit(40, 8), np.array([0, 10, 40]))
    file = tmp_path / "kept.npz"
    cache._write(file, kept)
    content = file.read_bytes()
    for place in [
        *range(content.index(b"\x93NUMPY") + 128),
        *range(content.rindex(b"PK\1\2") - 80, len(content)),
    ]:
        for value in (0, 1, 99, 255, content[place] ^ 4):
            damaged = bytearray(content)
            damaged[place] = value
            file.write_bytes(damaged)
            found = cache._read(file, 2, 8)
            assert found is None or np.array_equal(found.values, kept.values)


def test_encodings_of_what_differs_are_never_mixed(tmp_path, encoder):
    from types import SimpleNamespace

    import msgspec

    encodings, texts = Encodings(tmp_path), ["a cat", "a dog"]
    encodings.encode(encoder, texts, "document")
    assert len(list(tmp_path.rglob("*.npz"))) == 1
    encodings.encode(encoder, texts, "query")
    assert encodings.encode(encoder.with_dim(64), texts, "document").dim == 64
    assert len(list(tmp_path.rglob("*.npz"))) == 3
    assert encoder_digest(encoder.with_lengths(document=99)) != encoder_digest(encoder)
    # Even one and the same file under two names: the digest holds all that was asked for.
    graphs = {"fp32": encoder.contract.graphs["int8"], **encoder.contract.graphs}
    same = {name: getattr(encoder, name) for name in ("folder", "device", "dim")}
    same["contract"] = msgspec.structs.replace(encoder.contract, graphs=graphs)
    int8, fp32 = (encoder_digest(SimpleNamespace(precision=p, **same)) for p in ("int8", "fp32"))
    assert int8 != fp32


def test_a_graph_or_tokenizer_with_other_bytes_is_another_model(tmp_path, encoder):
    import shutil

    copy = tmp_path / "model"
    shutil.copytree(encoder.folder.path, copy)
    first = encoder_digest(Encoder.load(copy, threads=1))
    assert first == encoder_digest(encoder)  # where a model lies says nothing about it
    tokenizer = copy / "tokenizer.json"
    tokenizer.write_text(tokenizer.read_text() + " ")
    assert encoder_digest(Encoder.load(copy, threads=1)) != first


def test_every_combination_is_a_row(collection, tmp_path):
    grid = Grid(dims=(128, 64), bits=(32, 8, 2), pools=(1, 2))
    evaluation = evaluate_collection(collection, grid, tmp_path / "cache", threads=2)
    rows = rows_of(evaluation)
    assert [row["model"] for row in rows] == ["BM25"] + ["starter"] * 12
    assert {(row["dim"], row["bits"], row["pool"]) for row in rows[1:]} == {
        (dim, bits, pool) for dim in (128, 64) for bits in (32, 8, 2) for pool in (1, 2)
    }
    exact = {(row["dim"], row["pool"]): row for row in rows[1:] if row["bits"] == 32}
    assert exact[128, 1]["bytes_per_token"] == exact[128, 1]["bytes_per_text_token"] == 512
    assert exact[128, 2]["bytes_per_text_token"] < 0.7 * 512
    assert all(row["nDCG@10"] > 0.9 and row["score_ms"] > 0 and row["encode_ms"] > 0 for row in rows[1:])
    again = rows_of(evaluate_collection(collection, grid, tmp_path / "cache", threads=2))
    for mine, other in zip(rows, again, strict=True):
        assert {k: v for k, v in mine.items() if "_ms" not in k} == {
            k: v for k, v in other.items() if "_ms" not in k
        }


LONG_FILLER = "The committee met and read the minutes of the previous meeting. "


@pytest.fixture
def long_documents() -> Collection:
    """The answers lie behind what the model reads of a document at once."""
    answers = {
        "v": "A volcano erupted in Iceland.",
        "b": "The baker sells fresh bread.",
        "n": "Nobody spoke.",
    }
    documents = {id: LONG_FILLER * 60 + answer + " " + LONG_FILLER * 9 for id, answer in answers.items()}
    queries = {"q0": "volcano in Iceland", "q1": "fresh bread"}
    return Collection("long", documents, queries, {"q0": {"v": 1}, "q1": {"b": 1}}, "long")


def test_passages_by_themselves_and_late_chunking_stand_beside_each_other(long_documents, tmp_path):
    grid = Grid(dims=(64,), bits=(32, 2), pools=(1, 2), passage_tokens=60, late_chunking=True)
    evaluation = evaluate_collection(long_documents, grid, tmp_path / "cache", threads=2)
    rows = rows_of(evaluation)
    assert [row["passages"] for row in rows[1:]] == ["60"] * 4 + ["60, late"] * 4
    assert all(row["RR@10"] == 1 for row in rows[1:])
    kept = sorted(tmp_path.rglob("*.npz"))
    times = [path.stat().st_mtime_ns for path in kept]
    again = rows_of(evaluate_collection(long_documents, grid, tmp_path / "cache", threads=2))
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*.npz"))] == times
    for one, other in zip(rows, again, strict=True):
        assert one["nDCG@10"] == other["nDCG@10"]
    plain, late = evaluation.scored[1], evaluation.scored[5]
    assert late.name == plain.name + ", late" and plain.name.endswith("passages of 60")
    assert TABLES["dims"]([evaluation], "nDCG@10")[-1]["passages"] == "60, late"
    assert {row["passages"] for row in summary([evaluation], "nDCG@10")[1:]} == {"60", "60, late"}


def test_documents_count_by_their_best_passage(long_documents, encoder):
    found = encoded(long_documents, encoder, Encodings(None), check_cutting(60, None, 510, True))
    assert found.firsts is not None and len(found.vectors) > 3 * len(long_documents.documents)
    scores = np.zeros(len(found.vectors), np.float32)
    scores[found.firsts[1] - 1], scores[found.firsts[2]] = 3, 2  # the first's last, and the third's first
    assert found.of_documents(scores).tolist() == [3, 0, 2]
    plain = encoded(long_documents, encoder, Encodings(None), check_cutting(60, None, 510))
    assert plain.firsts.tolist() == found.firsts.tolist()
    assert plain.vectors.lengths.tolist() == found.vectors.lengths.tolist()


def test_the_same_text_with_other_parts_is_another_encoding(encoder, tmp_path):
    encodings = Encodings(tmp_path)
    text = "a cat sleeps. the dog barks."
    one = encodings.encode_parts(encoder, [text], [[(0, 13), (14, 28)]])
    other = encodings.encode_parts(encoder, [text, text], [[(0, 28)], [(14, 28)]])
    assert len(one) == 2 and len(other) == 2 and len(list(tmp_path.rglob("*.npz"))) == 2
    np.testing.assert_array_equal(one[1], other[1])
    np.testing.assert_array_equal(other[0], encoder.encode_documents([text])[0])


def test_pooling_afterwards_equals_pooling_while_encoding(encoder):
    texts = ["a long text about a cat that sleeps all day", "short"]
    for factor in (1, 2, 3):
        found, expected = (
            encoder.pooled(encoder.encode_documents(texts), factor),
            encoder.encode_documents(texts, pool_factor=factor),
        )
        np.testing.assert_array_equal(found.values, expected.values)
    with pytest.raises(InvalidInput, match="pool_factor"):
        encoder.pooled(encoder.encode_documents(texts), 0)


def scored(variant: Variant | None, values: list[float], best: str = "d0") -> Scored:
    per_query = {f"q{i}": value for i, value in enumerate(values)}
    size = 4.0 * variant.dim if variant else None
    sizes = (size, size, size, 1.0, 1.0) if variant else ()
    return Scored(variant, {"nDCG@10": per_query}, {query: [best] for query in per_query}, *sizes)


def evaluation_of(
    name: str, label: str, *values: list[float], text: str = "text", model: str = "m"
) -> Evaluation:
    """BM25 and then model "m" at 128 and 64, model "n" at 128, as far as there are values."""
    kinds = [None, (model, 128), (model, 64), ("n", 128)]
    variants = [kind and Variant(kind[0], "int8", kind[1], 2, 1) for kind in kinds]
    queries = {f"q{i}": f"{text} {i}" for i in range(len(values[0]))}
    collection = Collection(name, {"d0": text}, queries, {query: {"d0": 1} for query in queries}, label)
    return Evaluation(collection, [scored(*pair) for pair in zip(variants, values, strict=False)])


def test_tables_by_hand():
    one = evaluation_of("one", "en", [0.2] * 20, [0.6] * 20, [0.5] * 20, [0.4] * 20)
    two = evaluation_of("two", "ja", [0.4] * 20, [0.2] * 20, [0.1] * 20, [0.4] * 20)
    widths = {row["collection"]: row for row in by_dimension([one, two], "nDCG@10") if row["model"] == "m"}
    assert widths["one"]["dim 128"] == pytest.approx(0.6) and widths["one"]["dim 64"] == pytest.approx(0.5)
    assert widths["average"]["dim 128"] == pytest.approx(0.4)
    assert widths["average"]["dim 64"] == pytest.approx(0.3)
    average = by_model([one, two], "nDCG@10")[-1]
    assert [average[k] for k in average if k != "collection"] == pytest.approx([0.3, 0.4, 0.4])
    languages = {(r["language"], r["model"][0]): r for r in by_language([one, two], "nDCG@10")}
    assert languages["en", "m"]["difference"] == pytest.approx(0.4)
    assert languages["en", "m"]["low"] == pytest.approx(0.4) and languages["ja", "m"]["p"] < 0.05
    assert languages["average", "m"]["difference"] == pytest.approx(0.1)
    narrow = evaluation_of("three", "ja", [0.4] * 20, [0.3] * 20)
    assert by_model([two, narrow], "nDCG@10")[-1]["n int8, dim 128, 2 bit"] is None
    pooled = by_language([two, narrow], "nDCG@10")[0]
    assert pooled["collections"] == 2 and pooled["nDCG@10"] == pytest.approx(0.25) and pooled["low"] is None


def test_differences_wins_and_losses():
    bm25 = [0.5] * 20
    found = evaluation_of("c", "en", bm25, [1.0] + [0.5] * 17 + [0.25, 0.0], [0.75] * 20)
    against_bm25, second, against_first = compare(found, "nDCG@10")
    assert against_bm25.counts() == (1, 17, 2) and not against_bm25.difference.significant
    assert second.difference.mark == "+" and second.against == "BM25"
    assert against_first.against == "m int8, dim 128, 2 bit"
    won, lost = cases(found, against_bm25)
    assert [case.query_id for case in won] == ["q0"] and [case.change for case in lost] == [-0.5, -0.25]
    [_, row, other] = by_variant([found], "nDCG@10")
    assert [vs["against"] for vs in row["vs"]] == ["BM25"] and len(other["vs"]) == 2


class Tags(html.parser.HTMLParser):
    """Every tag of a page, and its text."""

    def __init__(self) -> None:
        super().__init__()
        self.tags, self.text = set(), ""

    def handle_starttag(self, tag, attributes) -> None:
        self.tags.add(tag)
        for name, value in attributes:
            assert not name.startswith("on")
            if name in ("src", "href", "xlink:href", "data", "action"):
                assert value.startswith("#"), value  # nothing is loaded from elsewhere

    def handle_data(self, data) -> None:
        self.text += data


EVIL = '<script>alert("1")</script> | `code` [a](javascript:x) $\\frac{$ <img src=x onerror=y> *b* </td>'


def test_texts_in_a_report_are_never_markup(tmp_path):
    values = [[0.5] * 12, [0.0, 1.0] * 6, [0.25] * 12]
    found = evaluation_of(f"evil {EVIL}", EVIL, *values, text=EVIL, model=EVIL)
    paths = write_report([found], tmp_path / "report", "nDCG@10")
    assert [path.name for path in paths] == ["report.json", "report.md", "report.html"]
    page = paths[2].read_text()
    tags = Tags()
    tags.feed(page)
    assert EVIL in tags.text and not tags.tags & {"script", "img", "a", "link", "iframe"}
    drawings = re.findall(r"<svg.*?</svg>", page, re.DOTALL)
    assert len(drawings) == 2
    for drawing in drawings:
        xml.etree.ElementTree.fromstring(drawing)
    plain = paths[1].read_text()
    assert "<" not in plain and "`" not in plain.replace("\\`", "") and "](" not in plain
    for line in plain.splitlines():
        if re.match(r"\| [+-]\d", line):  # a query won or lost
            assert len(re.findall(r"(?<!\\)\|", line)) == 6  # five cells
    kept = json.loads(paths[0].read_text())
    assert kept["cases"][0]["wins"][0]["relevant"] == EVIL
    assert kept["tables"].keys() == {"variants", "dims", "models", "languages"}


def test_a_report_replaces_only_its_own_files(tmp_path):
    found = evaluation_of("c", "en", [0.5] * 3, [0.5] * 3)
    (tmp_path / "mine.txt").write_text("kept")
    write_report([found], tmp_path, "nDCG@10")
    write_report([found], tmp_path, "nDCG@10")
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mine.txt",
        "report.html",
        "report.json",
        "report.md",
    ]
    with pytest.raises(InvalidInput, match="is not a folder"):
        write_report([found], tmp_path / "mine.txt", "nDCG@10")


def test_markdown_is_escaped_on_one_line():
    assert escape_markdown("a\n| b") == r"a \| b" and escape_markdown("<b>&") == "&lt;b&gt;&amp;"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"bits": (3,)}, "bits should be some of 32"),
        ({"bits": ()}, "bits should not be empty"),
        ({"pools": (0,)}, "pools should be at least 1"),
        ({"precisions": ()}, "precisions should not be empty"),
        ({"late_chunking": True}, "late_chunking needs passage_tokens"),
        ({"passage_tokens": 0}, "passage_tokens should be"),
    ],
)
def test_combinations_that_there_are_not(given, message):
    with pytest.raises(InvalidInput, match=message):
        Grid(**given)


def test_models_and_widths_are_checked_before_any_work():
    for grid, message in (
        (Grid(dims=(128, 100)), "no head of dim 100"),
        (Grid(precisions=("fp16",)), "no fp16 graph"),
        (Grid(models=("starter", "./nowhere")), "nowhere"),
    ):
        with pytest.raises(ModelError, match=message):
            grid.encoders()

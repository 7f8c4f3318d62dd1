"""The filter language: what it accepts, what it means, and that the database agrees with the definition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from store_samples import documents, make_store

from latebolt.errors import InvalidInput
from latebolt.index.filters import evaluate
from latebolt.index.filters.evaluate import Selector
from latebolt.index.filters.parse_dict import matches, parse_where
from latebolt.index.store.store import Segment
from quick_folders import quick_folder

DOCUMENT: dict[str, Any] = {
    "year": 2020,
    "score": 0.5,
    "lang": "en",
    "draft": False,
    "gone": None,
    "tags": ["a", "b", 3],
    "author": {"name": "Ada", "born": {"year": 1815}},
    "people": [{"name": "x"}, {"name": "y", "age": 7}],
    "empty": {},
    "none": [],
    "two words": 1,
    "a.b": "dotted",
    "in": "keyword",
    "\u00fcber": "\u00e9t\u00e9",
    "long": "x" * 300,
    "id": "shadowed",
    "big": 10**30,
}

MEANING = [
    # (string form, dict form, whether DOCUMENT, whose id is "d1", passes)
    ("year = 2020", {"year": 2020}, True),
    ("year == 2020.0", {"year": {"==": 2020.0}}, True),
    ("year = 2021", {"year": 2021}, False),
    ('year = "2020"', {"year": "2020"}, False),
    ("year != 2021", {"year": {"!=": 2021}}, True),
    ("year != 2020", {"year": {"!=": 2020}}, False),
    ('year != "2020"', {"year": {"!=": "2020"}}, True),
    ("missing != 1", {"missing": {"!=": 1}}, False),
    ("missing = null", {"missing": None}, False),
    ("not missing = 1", {"not": {"missing": 1}}, True),
    ("year>=2020 and year<=2020", {"year": {">=": 2020, "<=": 2020}}, True),
    ("year > 2020 or year < 2020", {"or": [{"year": {">": 2020}}, {"year": {"<": 2020}}]}, False),
    ("year > 2019.5", {"year": {">": 2019.5}}, True),
    ('year > "a"', {"year": {">": "a"}}, False),
    ('lang > "eh" and lang < "eo"', {"lang": {">": "eh", "<": "eo"}}, True),
    ("lang >= 1", {"lang": {">=": 1}}, False),
    ("score = 5e-1", {"score": 0.5}, True),
    ("score > -1", {"score": {">": -1}}, True),
    ("draft = false", {"draft": False}, True),
    ("draft = 0", {"draft": 0}, False),
    ("year = true", {"year": True}, False),
    ("gone = null", {"gone": None}, True),
    ("gone != 1", {"gone": {"!=": 1}}, True),
    ("gone < 1", {"gone": {"<": 1}}, False),
    ("exists(gone)", {"gone": {"exists": True}}, True),
    ("not exists(missing)", {"missing": {"exists": False}}, True),
    ("exists(author)", {"author": {"exists": True}}, True),
    ("exists(empty) and exists(none)", {"empty": {"exists": True}, "none": {"exists": True}}, True),
    ("author = null", {"author": None}, False),
    ('tags = "a"', {"tags": "a"}, True),
    ("tags = 3", {"tags": 3}, True),
    ('tags = "c"', {"tags": "c"}, False),
    ('tags != "a"', {"tags": {"!=": "a"}}, False),
    ('tags != "c"', {"tags": {"!=": "c"}}, True),
    ('tags in ("z", "b")', {"tags": {"in": ["z", "b"]}}, True),
    ('tags not in ("z", "b")', {"tags": {"not in": ["z", "b"]}}, False),
    ('tags not in ("z")', {"tags": {"not in": ("z",)}}, True),
    ('missing not in ("z")', {"missing": {"not in": ["z"]}}, False),
    ("year in ()", {"year": {"in": []}}, False),
    ("year in (1, 2020, null)", {"year": {"in": {1, 2020, None}}}, True),
    ('author.name = "Ada"', {"author.name": "Ada"}, True),
    ("author.born.year < 1900", {"author.born.year": {"<": 1900}}, True),
    ('people.name = "y"', {"people.name": "y"}, True),
    ("people.age = 7", {"people.age": 7}, True),
    ('people.name = "z"', {"people.name": "z"}, False),
    ("`two words` = 1", {"two words": 1}, True),
    ('`a.b` = "dotted" and a.b = "dotted"', {"a.b": "dotted"}, True),
    ('`in` = "keyword"', {"in": "keyword"}, True),
    ('\u00fcber = "\u00e9t\u00e9"', {"\u00fcber": "\u00e9t\u00e9"}, True),
    ('id = "d1"', {"id": "d1"}, True),
    ('id = "shadowed"', {"id": "shadowed"}, False),
    ('id in ("d0", "d1") and exists(id)', {"id": {"in": ["d0", "d1"], "exists": True}}, True),
    ('id > "d0" and id < "d2"', {"id": {">": "d0", "<": "d2"}}, True),
    ("id = 1", {"id": 1}, False),
    (f'long = "{"x" * 300}"', {"long": "x" * 300}, True),
    (f'long = "{"x" * 200}"', {"long": "x" * 200}, False),
    (f'long > "{"x" * 200}"', {"long": {">": "x" * 200}}, True),
    (f'long <= "{"x" * 299}"', {"long": {"<=": "x" * 299}}, False),
    (f'long < "{"x" * 301}" and long != "{"x" * 301}"', {"long": {"<": "x" * 301, "!=": "x" * 301}}, True),
    ('long < "y"', {"long": {"<": "y"}}, True),
    ("big = 1000000000000000000000000000000", {"big": 10**30}, True),
    ("big > 9223372036854775807", {"big": {">": (1 << 63) - 1}}, True),
    ("not (year = 2020 and lang = 'de')", {"not": {"year": 2020, "lang": "de"}}, True),
    (
        "year = 1 and year = 2 or year = 2020",
        {"or": [{"and": [{"year": 1}, {"year": 2}]}, {"year": 2020}]},
        True,
    ),
    (
        "year = 2020 or year = 1 and year = 2",
        {"or": [{"year": 2020}, {"and": [{"year": 1}, {"year": 2}]}]},
        True,
    ),
    ("NOT year = 1 AND Exists(year)", {"not": {"year": 1}, "year": {"exists": True}}, True),
    ("not not year = 2020", {"not": {"not": {"year": 2020}}}, True),
    ("((year = 2020))", {"and": [{"year": 2020}]}, True),
    (
        r"""lang = 'e\u006e' and lang != "\"\\\n\t\r\'\/" """,
        {"lang": {"=": "en", "!=": "\"\\\n\t\r'/"}},
        True,
    ),
]


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Segment:
    return store_documents(tmp_path_factory.mktemp("filters") / "i", [DOCUMENT, None, {}])


def store_documents(path: Path, metadata: list[dict[str, Any] | None]) -> Segment:
    store = make_store(path)
    with store.writer() as writer:
        n = len(metadata)
        draft = writer.new_segment(())
        draft.append(documents([f"d{i + 1}" for i in range(n)], None, metadata), [0] * n, {})
        writer.commit()
    return store.snapshot().segments[0]


@pytest.mark.parametrize(("text", "tree", "wanted"), MEANING, ids=[text[:40] for text, _, _ in MEANING])
def test_meaning(segment: Segment, text: str, tree: dict[str, Any], wanted: bool) -> None:
    assert matches(parse_where(text), DOCUMENT, "d1") is wanted
    assert matches(parse_where(tree), DOCUMENT, "d1") is wanted
    for where in (text, tree, parse_where(text)):
        assert segment.select(where)[0] == wanted
        assert segment.select(where)[0] == wanted, "the remembered answer is the same"


def test_the_latest_answers_are_remembered_however_many_came_before(
    segment: Segment, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    real = Selector._ask
    monkeypatch.setattr(Selector, "_ask", lambda self, expr: (asked.append(expr), real(self, expr))[1])
    monkeypatch.setattr(evaluate, "_KEPT_BYTES", 5_000)
    selector = Selector(segment.texts, segment.n_documents)
    several = [parse_where(f"year = {n}") for n in range(100)]
    for expr in several:
        selector.select(expr)
    assert asked == several
    for expr in several[-10:]:
        selector.select(expr)
    assert asked == several, "the last ten are in memory"
    selector.select(several[0])
    assert len(asked) == 101, "and the first is not, which bounds it"


def test_an_empty_dict_keeps_all_and_deleted_documents_never_pass(segment: Segment) -> None:
    assert segment.select({}).tolist() == segment.select(None).tolist() == [True, True, True]
    without = segment.view(segment.record, np.array([True, False, True]))
    assert without.select("not exists(year)").tolist() == [False, False, True]
    assert without.select(None).tolist() == [True, False, True]


ERRORS = [
    ("", "a field name", 0),
    ("   ", "a field name", 0),
    ("year", "an operator", 4),
    ("year =", "a value", 6),
    ("year = en", "a value", 7),
    ("year 2020", "an operator", 5),
    ("= 3", "a field name", 0),
    ("year = 1 year = 2", '"and", "or" or the end', 9),
    ("year = 1 and", "a field name", 12),
    ("(year = 1", '"\\)"', 9),
    ("year = 1)", '"and", "or" or the end', 8),
    ("year in 1", '"\\("', 8),
    ("year in (1 2)", '"," or "\\)"', 11),
    ("year in (1,)", "a value", 11),
    ("year not 3", '"in"', 9),
    ("exists year", '"\\("', 7),
    ('lang = "en', "closing quote", 7),
    ("year = 20x", "a field, a value", 7),
    ("year = 1.2.3", "a field, a value", 7),
    ("year = 1; drop table documents", "a field, a value", 8),
    ("year = 1 -- x", "a field, a value", 9),
    (r'lang = "a\q"', r"one of \\n", 9),
    ("in = 3", "a field name", 0),
    ("lang like 'x'", "an operator", 5),
    ("(" * 200 + "a = 1" + ")" * 200, "at most 100 nested", 100),
    ("not " * 200 + "a = 1", "at most 100 nested", 400),
]


@pytest.mark.parametrize(("text", "wanted", "position"), ERRORS)
def test_errors_name_position_and_expectation(text: str, wanted: str, position: int) -> None:
    with pytest.raises(InvalidInput, match=f"expected .*{wanted}.* at character {position},"):
        parse_where(text)


@pytest.mark.parametrize(
    ("where", "wanted"),
    [
        (3, "string or a dict, got int"),
        ({"year": [1]}, r"where\['year'\] is a list"),
        ({"year": {">": None}}, "needs a number or a string, got null"),
        ({"year": {">": [1]}}, r"where\['year'\]\['>'\] should be a string"),
        ({"year": {"~": 1}}, "expected one of"),
        ({"year": {"exists": 1}}, "True or False"),
        ({"year": {"in": "abc"}}, "should be a list"),
        ({"year": {"in": [{}]}}, r"\['in'\]\[0\] should be"),
        ({"year": float("nan")}, "finite"),
        ({"or": {"a": 1}}, "list of dicts"),
        ({"or": [3]}, r"where\['or'\]\[0\] should be a dict"),
        ({"not": [{"a": 1}]}, r"where\['not'\] should be a dict"),
        ({3: 4}, "field names"),
        ({"id": 1.5}, r"where\['id'\]: ids are strings"),
        ({"id": {">": 1}}, "ids are strings"),
        ("id in (1, true)", "character 3: ids are strings"),
        ({"a": {"in": list(range(100_001))}}, r"where\['a'\]\['in'\]: .* at most 100000 values, got 100001"),
        ("a in [1, 2)", r'"," or "\]"'),
        ("a < true", "needs a number or a string, got boolean"),
        ("a = 1e999", "finite"),
    ],
)
def test_other_errors(where: Any, wanted: str) -> None:
    with pytest.raises(InvalidInput, match=wanted):
        parse_where(where)


def test_a_dict_nested_too_deep() -> None:
    where: dict[str, Any] = {"a": 1}
    for _ in range(500):
        where = {"not": where}
    with pytest.raises(InvalidInput, match="nested more than"):
        parse_where(where)


def test_long_chains_are_no_problem(segment: Segment) -> None:
    assert segment.select(" or ".join(f"year = {year}" for year in range(3000)))[0]
    assert segment.select({"year": {"in": list(range(3000))}})[0]
    assert segment.select(" and ".join(["year = 2020"] * 3000))[0]


def test_escaped_pairs_are_one_character() -> None:
    assert parse_where(r'a = "\ud83d\ude00"') == parse_where({"a": "\U0001f600"})


HOSTILE = (
    "x'); DROP TABLE documents; --",
    "' OR '1'='1",
    '" OR 1=1 --',
    "$.a[0]",
    "a\x00b",
    "%",
    "_",
    "?1",
    ":x",
    "\\",
    "`",
    "NULL",
    "1",
    "\U0001f600",
)


def test_hostile_strings_are_data(tmp_path: Path) -> None:
    segment = store_documents(tmp_path / "i", [{"f": text, text: "v"} for text in HOSTILE])
    for i, text in enumerate(HOSTILE):
        alone = [j == i for j in range(len(HOSTILE))]
        assert segment.select({"f": text}).tolist() == alone
        assert segment.select({text: "v"}).tolist() == alone
        assert segment.select({text: {"exists": True}}).tolist() == alone
        assert segment.select(f"f = {json.dumps(text)}").tolist() == alone
        assert not segment.select({"id": text}).any()


# Few names and values, so that documents and filters meet; both sides of every border of the storage.
NAMES = st.sampled_from(["a", "b", "a.b", "b.a", "id", "", "not a name"])
NUMBERS = st.one_of(
    st.sampled_from(
        [0, 1, -1, 0.5, 1.0, 2**53, 2**53 + 1, float(2**53), 2**63 - 1, 2**63, -(2**63), 10**400, 1e300]
    ),
    st.sampled_from([0.1, 0.1 + 2**-56, 1 / 3, 5e-324, -0.0, 123456789.123456789]),
    st.floats(allow_nan=False, allow_infinity=False),
    st.integers(),
)
STRINGS = st.one_of(
    st.sampled_from(["", "a", "b", "1", "d1", "\x00", "a\x00b", "\uffff", "\U00010000", "x" * 199]),
    st.builds(
        lambda n, tail: "x" * n + tail,
        st.sampled_from([199, 200, 201, 300]),
        st.sampled_from(["", "y", "\x00"]),
    ),
    st.text(max_size=3),
)
SCALARS = st.one_of(st.none(), st.booleans(), NUMBERS, STRINGS)
METADATA = st.one_of(
    st.none(),
    st.dictionaries(
        NAMES,
        st.recursive(
            SCALARS,
            lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
            max_leaves=6,
        ),
        max_size=4,
    ),
)
TESTS = st.one_of(
    SCALARS,
    st.fixed_dictionaries({}, optional={"=": SCALARS, "!=": SCALARS, "in": st.lists(SCALARS, max_size=3)}),
    st.fixed_dictionaries({}, optional={op: st.one_of(NUMBERS, STRINGS) for op in ("<", "<=", ">", ">=")}),
    st.builds(lambda value: {"exists": value}, st.booleans()),
    st.builds(lambda values: {"not in": values}, st.lists(SCALARS, max_size=3)),
)


def fits_ids(where: dict[str, Any]) -> bool:
    """Whether `id` is compared with strings only, as it has to be."""
    tests = where.get("id", "")
    compared = (
        [operand for op, operand in tests.items() if op != "exists"] if isinstance(tests, dict) else [tests]
    )
    values = [each for operand in compared for each in (operand if isinstance(operand, list) else [operand])]
    return all(isinstance(value, str) for value in values)


WHERE = st.recursive(
    st.dictionaries(NAMES, TESTS, max_size=2).filter(fits_ids),
    lambda inner: st.one_of(
        st.builds(lambda parts: {"or": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda parts: {"and": parts}, st.lists(inner, max_size=3)),
        st.builds(lambda part: {"not": part}, inner),
    ),
    max_leaves=5,
)


def plainly_matches(where: dict[str, Any], metadata: dict[str, Any] | None, id: str) -> bool:
    """A second evaluator that shares nothing with the first: straight from the wording of the rules."""

    def values_at(value: Any, prefix: str, field: str) -> list[Any]:
        found = []
        if isinstance(value, list):
            for element in value:
                found += [element] if prefix == field and not isinstance(element, list) else []
                found += values_at(element, prefix, field)
        elif isinstance(value, dict):
            for key, inner in value.items():
                path = f"{prefix}.{key}" if prefix is not None else key
                found += [inner] if path == field else []
                found += values_at(inner, path, field)
        return found

    def same_type(a: Any, b: Any) -> bool:
        def of(x: Any) -> str:
            return "number" if type(x) in (int, float) else type(x).__name__

        return of(a) == of(b)

    def exact(x: Any) -> Any:
        if type(x) is int and not -(2**63) <= x < 2**63:
            return float(x) if abs(x) < 10**309 else float("inf") * (1 if x > 0 else -1)
        return x

    def passes(found: list[Any], op: str, operand: Any) -> bool:
        if op == "exists":
            return bool(found) == operand
        if op == "in":
            return any(passes(found, "=", value) for value in operand)
        if op in ("not in", "!="):
            return bool(found) and not passes(found, "in" if op == "not in" else "=", operand)
        pairs = [(exact(value), exact(operand)) for value in found if same_type(value, operand)]
        return any(
            {"=": x == y, "<": op == "<" and x < y, "<=": op == "<=" and x <= y, ">": op == ">" and x > y,
             ">=": op == ">=" and x >= y}[op]
            for x, y in pairs
        )  # fmt: skip

    for key, value in where.items():
        if key == "or":
            good = any(plainly_matches(part, metadata, id) for part in value)
        elif key == "and":
            good = all(plainly_matches(part, metadata, id) for part in value)
        elif key == "not":
            good = not plainly_matches(value, metadata, id)
        else:
            found = [id] if key == "id" else values_at(metadata or {}, None, key)  # type: ignore[arg-type]
            tests = value.items() if isinstance(value, dict) else [("=", value)]
            good = all(passes(found, op, operand) for op, operand in tests)
        if not good:
            return False
    return True


@settings(max_examples=150, deadline=None)
@given(metadata=st.lists(METADATA, min_size=1, max_size=6), wheres=st.lists(WHERE, min_size=1, max_size=6))
def test_database_python_and_rules_agree(metadata: list[Any], wheres: list[dict[str, Any]]) -> None:
    with quick_folder() as folder:
        segment = store_documents(folder / "i", metadata)
        for where in wheres:
            expr = parse_where(where)
            wanted = [plainly_matches(where, document, f"d{i + 1}") for i, document in enumerate(metadata)]
            assert [matches(expr, document, f"d{i + 1}") for i, document in enumerate(metadata)] == wanted
            assert segment.select(expr).tolist() == wanted, where
        stored = [document for _, _, document, _ in segment.documents(range(len(metadata)))]
        assert stored == metadata


@settings(max_examples=200, deadline=None)
@given(st.text(alphabet="ab=!<>()'\"`.,- \n\\1e0inotandrexs", max_size=30))
def test_any_string_parses_or_is_refused(text: str) -> None:
    try:
        expr = parse_where(text)
    except InvalidInput as error:
        assert "where" in str(error)
    else:
        matches(expr, {"a": 1})

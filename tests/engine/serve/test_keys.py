"""Keys: what a line is, what is refused, labels, and files that are read again."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from latebolt.errors import InvalidInput
from latebolt.serve import log
from latebolt.serve.keys import LEAST_CHARACTERS, Keys, parse

READER, WRITER, PLAIN = "a-reader-of-a-test", "a-writer-of-a-test", "a-key-without-right"


def right(keys: Keys, header: str) -> str | None:
    holder = keys.holder_of(header)
    return None if holder is None else holder.right


def test_keys_of_a_text():
    keys = Keys("", None)
    assert not keys.required
    keys = Keys(f"{READER} read\r\n {WRITER}\twrite \n# a comment\n\n  # another\n{PLAIN}", None)
    assert keys.required
    for header, expected in [
        (f"Bearer {READER}", "read"),
        (f"bearer {WRITER}", "write"),
        (f"Bearer {PLAIN}", "write"),
        (f"Bearer {READER}x", None),
        (f"Basic {WRITER}", None),
        ("Bearer", None),
        ("", None),
    ]:
        assert right(keys, header) == expected


@pytest.mark.parametrize(
    "line",
    [
        "secret-of-a-tëst read",
        "secret-of\x0ba-test",
        "secret-of\x7fa-test",
        "secret-of\u2028a-test",
        "secret-of\ta-test",
        "secret-of-a-tes",
        "secret read",
        "read",
        "write",
    ],
)
def test_a_line_that_does_not_fit_is_told_without_the_key(line: str):
    with pytest.raises(InvalidInput, match=r"keys\.txt, line 3: ") as refused:
        parse(f"# a comment\n{PLAIN}\n{line}\nmore", "keys.txt")
    assert "secret" not in str(refused.value)


def test_a_key_that_may_be_guessed_is_refused():
    parse("x" * LEAST_CHARACTERS, "keys")
    for right_ in ("", " read", "\twrite", " " * 20):
        with pytest.raises(
            InvalidInput, match="fewer than 16 characters, which earlier versions took"
        ) as told:
            parse("x" * (LEAST_CHARACTERS - 1) + right_, "keys")
        assert "openssl rand" in str(told.value)


def test_a_key_with_two_rights_is_refused():
    with pytest.raises(InvalidInput, match="line 2"):
        parse(f"{PLAIN} read\n{PLAIN}", "keys.txt")
    assert len(parse(f"{PLAIN} read\n{PLAIN} read", "keys.txt")) == 1


PRINTABLE = "".join(map(chr, range(0x20, 0x7F)))
SECRETS = st.text(PRINTABLE, min_size=LEAST_CHARACTERS, max_size=80).filter(
    lambda key: key == key.strip() and key[0] != "#" and key.split(" ")[-1] not in ("read", "write")
)
LINES = st.lists(
    st.tuples(SECRETS, st.sampled_from(["", " read", " write", "\tread"])), min_size=1, max_size=5
)


@given(LINES)
@example([(PRINTABLE[1:].replace("#", "", 1) + "#", " read")])
@example([("Tr#4vW9,q!mZx82#", " read"), ("s3cr#t,s3cr#t,s3", ""), ("a, b # c, d # e, f", " write")])
def test_a_secret_of_any_printable_characters_is_one_key(lines: list[tuple[str, str]]):
    lines = list(dict(lines).items())
    text = "\ufeff# keys\n" + "\n".join(key + right_ for key, right_ in lines)
    keys = Keys(text, None)
    assert len(parse(text, "keys")) == len(lines)
    for key, right_ in lines:
        assert right(keys, f"Bearer {key}") == (right_.strip() or "write")
    known = {key for key, _ in lines}
    parts = {part for key in known for cut in ",#; " for part in key.split(cut) if part.strip() == part != ""}
    for part in parts - known:
        assert keys.holder_of(f"Bearer {part}") is None


# Labels


def labels(text: str) -> list[str]:
    return [holder.label for holder in parse(text, "keys").values()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{READER}\n{WRITER}", ["line 1", "line 2"]),
        (f"# label: import at night\n{READER} read", ["import at night"]),
        (f"#label:import\n{READER}", ["import"]),
        (f"# label: no. 1\n\n# since May\n{READER}\n{WRITER}", ["no. 1", "line 5"]),  # of the next key alone
        (
            f"# label: no. 1\n{READER}\n# label: no. 1\n{WRITER}",
            ["no. 1", "no. 1"],
        ),  # an old one and a new one
        (f"# label: a\n# label: b\n{READER}", ["b"]),
        # Comments of files that were written before there were labels are comments.
        (f"# the page's key\n{READER}", ["line 2"]),
        (f"# label\n# label:\n# label: {'x' * 65}\n# label: ünïcode\n# label: a\tb\n{READER}", ["line 6"]),
        # A label never gives away a part of a key.
        (f"# label: {READER}\n{READER}", ["line 2"]),
        (f"# label: {READER[:8]}\n{READER}", ["line 2"]),
        (f"# label: key {READER}\n{READER}", ["line 2"]),
    ],
)
def test_labels(text: str, expected: list[str]):
    assert labels(text) == expected


@given(LINES, st.lists(st.text(PRINTABLE + "\t", max_size=80), max_size=5))
def test_no_comment_changes_what_a_key_may(lines: list[tuple[str, str]], comments: list[str]):
    lines = list(dict(lines).items())
    plain = "\n".join(key + right_ for key, right_ in lines)
    told = "".join(f"#{comment}\n# label: {comment}\n" for comment in comments)
    expected, found = parse(plain, "keys"), parse(told + plain, "keys")
    assert {digest: each.right for digest, each in found.items()} == {d: e.right for d, e in expected.items()}
    for (key, _), holder in zip(lines, found.values(), strict=True):
        assert holder.label not in key and key not in holder.label


def test_keys_of_the_setting_are_told_from_those_of_the_file(tmp_path: Path):
    file = tmp_path / "keys"
    file.write_text(READER)
    keys = Keys(WRITER, file)
    assert [keys.holder_of(f"Bearer {key}").label for key in (READER, WRITER)] == [
        "line 1",
        "setting, line 1",
    ]


# A file that changes


def told(caplog: pytest.LogCaptureFixture) -> list[dict[str, object]]:
    """What the log says since it was asked for the last time."""
    lines = [json.loads(log._JsonLines().format(record)) for record in caplog.records]
    caplog.clear()
    return [{k: v for k, v in line.items() if k not in ("time", "process")} for line in lines]


def test_a_file_of_keys_is_read_again_when_it_changes(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "latebolt.serve")
    file = tmp_path / "keys"
    file.write_text(f"{PLAIN}\n")
    keys = Keys("", file)
    assert right(keys, f"Bearer {PLAIN}") == "write" and told(caplog) == []
    file.write_text(f"{READER} read\n")
    assert right(keys, f"Bearer {PLAIN}") is None
    assert right(keys, f"Bearer {READER}") == "read"
    assert told(caplog) == [{"level": "info", "event": "keys read again", "keys": 1}]
    for content, line in [("", None), (f"{READER}\nshort\n", 2), (f"{READER}\n\nread\n", 3)]:
        file.write_text(content)
        for _ in range(3):  # half written, or wrong: the keys in force stay, and that is told once
            assert right(keys, f"Bearer {READER}") == "read"
        [said] = told(caplog)
        assert (said["level"], said["event"], said.get("line")) == ("error", "keys not read", line)
        assert said["reason"] and str(tmp_path) not in str(said) and READER not in str(said)
    file.unlink()
    for _ in range(3):
        assert right(keys, f"Bearer {READER}") == "read"
    [said] = told(caplog)
    assert said["event"] == "keys not read" and "cannot be read" in said["reason"]
    file.write_text(f"{WRITER}\n")
    assert right(keys, f"Bearer {WRITER}") == "write" and right(keys, f"Bearer {READER}") is None
    with pytest.raises(InvalidInput, match="cannot be read"):
        Keys("", tmp_path / "none")


def test_reading_it_again_by_order_is_told_each_time(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO, "latebolt.serve")
    file = tmp_path / "keys"
    file.write_text(f"{PLAIN}\n")
    keys = Keys("", file)
    for _ in range(2):
        keys.reload()
        assert [each["event"] for each in told(caplog)] == ["keys read again"]
    file.write_text("short\n")
    for _ in range(2):
        keys.reload()
        [said] = told(caplog)
        assert (said["event"], said["line"]) == ("keys not read", 1) and "fewer than 16" in said["reason"]
    Keys(PLAIN, None).reload()
    assert [each["reason"] for each in told(caplog)] == ["there is no file of keys."]

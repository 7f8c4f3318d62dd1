"""Any order of additions, deletions, merges, commits and abandoned writers, against a plain dict."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from store_samples import add, append, content, expected, make_store, unnamed_files

from latebolt.index.store.check import check_index
from latebolt.index.store.store import Store
from quick_folders import quick_folder

IDS = st.lists(st.sampled_from("abcdefghij"), min_size=1, max_size=6)


class StoreAgainstDict(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.quick = quick_folder()
        self.folder = self.quick.__enter__()
        self.store = make_store(self.folder / "i")
        self.committed: dict[str, int] = {}
        self.pending: dict[str, int] = {}
        self.version = 0
        self.block: Any = None
        self.writer: Any = None

    @precondition(lambda self: self.writer is None)
    @rule()
    def begin(self) -> None:
        self.block = self.store.writer()
        self.writer = self.block.__enter__()
        self.pending = dict(self.committed)

    @precondition(lambda self: self.writer is not None)
    @rule()
    def leave(self) -> None:
        self.block.__exit__(None, None, None)
        self.writer = None
        assert not unnamed_files(self.folder / "i")

    @precondition(lambda self: self.writer is not None)
    @rule(ids=IDS, cut=st.integers(0, 6))
    def add(self, ids: list[str], cut: int) -> None:
        self.version += 1
        draft = self.writer.new_segment(add(self.writer, []).columns)
        append(draft, ids[:cut], self.version)
        append(draft, ids[cut:], self.version)
        draft.finish()
        self.pending.update(dict.fromkeys(ids, self.version))

    @precondition(lambda self: self.writer is not None)
    @rule(ids=IDS)
    def delete(self, ids: list[str]) -> None:
        assert self.writer.delete(ids) == len(set(ids) & set(self.pending))
        for id in ids:
            self.pending.pop(id, None)

    @precondition(lambda self: self.writer is not None)
    @rule(keep=st.integers(0, 3), block=st.integers(1, 5))
    def merge(self, keep: int, block: int) -> None:
        self.writer.merge([segment.name for segment in self.writer.segments][keep:], block)

    @precondition(lambda self: self.writer is not None)
    @rule()
    def tidy(self) -> None:
        self.writer.tidy()

    @precondition(lambda self: self.writer is not None)
    @rule()
    def commit(self) -> None:
        self.writer.commit()
        self.committed = dict(self.pending)

    @rule()
    def open_again(self) -> None:
        assert content(Store.open(self.folder / "i").snapshot()) == expected(self.committed)
        assert check_index(self.folder / "i") == []

    @invariant()
    def readers_see_the_last_commit(self) -> None:
        assert content(self.store.snapshot()) == expected(self.committed)

    def teardown(self) -> None:
        if self.writer is not None:
            self.block.__exit__(None, None, None)
        self.quick.__exit__(None, None, None)


TestStoreAgainstDict = StoreAgainstDict.TestCase
TestStoreAgainstDict.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)

"""Searches a set of shards: what they have to know of each other, their answers, and those joined."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from latebolt.arrays import Float32
from latebolt.hits import Stage
from latebolt.index.filters.parse_dict import Where
from latebolt.index.search.bm25 import WordCounts, check_words
from latebolt.index.search.known_fields import judge_fields
from latebolt.index.search.query import Cut, Request, hybrid_depth
from latebolt.sharding.gather import Round, Shards
from latebolt.sharding.merging import NO_CUT, Merged, cut_of, merge
from latebolt.sharding.protocol import CountRequest, Figures, SearchRequest, ShardAnswer, ShardCounts

_TRIES: Final = 3  # of a search that commits of shards overtake


class Counted(NamedTuple):
    """What all shards together say before a search: words of each query, tokens that the filter leaves, and
    figures by the number of the shard."""

    words: list[WordCounts]
    tokens: int
    figures: dict[int, Figures]


class Found(NamedTuple):
    """Of each query the hits, best first; what the shards answered, and what was counted before."""

    best: list[list[Merged]]
    answers: dict[int, ShardAnswer]
    counted: Counted


class Searcher:
    """Searches of one set. Threads may share it."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._figures: dict[int, Figures] = {}

    def of(self, shards: Shards) -> Searcher:
        """A searcher of the same shards, asked in another way, that knows what this one does."""
        other = Searcher(shards)
        other.learn(self._figures)
        return other

    def learn(self, figures: Mapping[int, Figures]) -> None:
        """Take what shards said of themselves."""
        self._figures = {**self._figures, **figures}

    def forget(self) -> None:
        """Ask the shards again: they may have changed."""
        self._figures = {}

    def find(
        self,
        queries: Sequence[tuple[str, Float32 | None]],
        request: Request,
        round_: Round,
        explain: bool = False,
    ) -> Found:
        """The answer to some queries, each a text and vectors, float32 [n_query, dim]."""
        for attempt in range(_TRIES):
            counted = self._count([text for text, _ in queries], request, round_, explain)
            wanted = SearchRequest(
                tuple(text for text, _ in queries),
                tuple(matrix for _, matrix in queries),
                request.k,
                request.where,
                request.exhaustive,
                request.mode,
                counted.tokens,
                sum(each.documents for each in counted.figures.values()),
                tuple(counted.words) if request.mode != "late" else (),
                explain=explain,
            )
            asked = dict.fromkeys(counted.figures, (wanted,))
            last = request.mode != "hybrid"  # else some may be asked again
            answers: dict[int, ShardAnswer] = self._shards.ask(round_, "search", asked, last=last)
            self.learn({number: answer.figures for number, answer in answers.items()})
            overtaken = any(answer.figures != counted.figures[n] for n, answer in answers.items())
            # What was counted is not what was searched. What there is when time is up, as where a shard hung,
            # is as true as what the last try has.
            if overtaken and attempt + 1 < _TRIES and not round_.is_over:
                continue
            return Found(self._merged(wanted, answers, round_), answers, counted)
        raise AssertionError("the last attempt returns")

    def _merged(
        self, wanted: SearchRequest, answers: dict[int, ShardAnswer], round_: Round
    ) -> list[list[Merged]]:
        by_query = [
            {number: answer.answers[i] for number, answer in answers.items()}
            for i in range(len(wanted.queries))
        ]
        depth = hybrid_depth(wanted.k, wanted.documents or 0, wanted.exhaustive)
        cuts = [cut_of(each.values(), depth) if wanted.mode == "hybrid" else NO_CUT for each in by_query]
        merged = [merge(each, wanted.k, cut) for each, cut in zip(by_query, cuts, strict=True)]
        again: dict[int, list[int]] = {}
        for i, each in enumerate(merged):
            for number in each.unsure:
                again.setdefault(number, []).append(i)
        if again:
            asked = {number: (_again(wanted, some, cuts),) for number, some in again.items()}
            for number, answer in self._shards.ask(round_, "search", asked).items():
                for i, each in zip(again[number], answer.answers, strict=True):
                    by_query[i][number] = each
            merged = [merge(each, wanted.k, cut) for each, cut in zip(by_query, cuts, strict=True)]
        return [each.best for each in merged]

    def _count(self, texts: Sequence[str], request: Request, round_: Round, explain: bool) -> Counted:
        """What the shards have to know of each other; asked for only where it is not known already."""
        with_words = request.mode != "late" or explain
        known = {n: each for n, each in self._figures.items() if n not in round_.failures}
        if (
            not with_words
            and request.where is None
            and len(known) + len(round_.failures) == len(self._shards)
        ):
            return Counted([], sum(each.tokens for each in known.values()), known)
        wanted = CountRequest(tuple(texts) if with_words else (), request.where)
        asked = self._shards.everyone(wanted)
        answers: dict[int, ShardCounts] = self._shards.ask(round_, "count", asked, last=False)
        self._judge(answers.values())
        words = [WordCounts() for _ in wanted.queries]
        for answer in answers.values():
            words = [each.plus(more) for each, more in zip(words, answer.words, strict=True)]
        if request.mode != "late":
            for each in words:
                check_words(each.without)
        figures = {number: answer.figures for number, answer in answers.items()}
        self.learn(figures)
        return Counted(words, sum(answer.tokens for answer in answers.values()), figures)

    def check_fields(self, where: Where | None) -> None:
        """See `known_fields.check_fields`, of all shards."""
        if where is not None:
            asked = self._shards.everyone(CountRequest((), where))
            self._judge(self._shards.ask(self._shards.begin(), "count", asked, partial=False).values())

    def _judge(self, answers: Iterable[ShardCounts]) -> None:
        answers = list(answers)
        missing = [name for name in answers[0].missing if all(name in each.missing for each in answers)]
        judge_fields(missing, sorted({name for each in answers for name in each.fields}), self._shards.name)


def _again(wanted: SearchRequest, some: Sequence[int], cuts: Sequence[Cut]) -> SearchRequest:
    """The search of some of the queries, with cuts."""
    return replace(
        wanted,
        queries=tuple(wanted.queries[i] for i in some),
        matrices=tuple(wanted.matrices[i] for i in some),
        words=tuple(wanted.words[i] for i in some),
        cuts=tuple(cuts[i] for i in some),
    )


def stages_of(own: Sequence[Stage], answers: Mapping[int, ShardAnswer]) -> tuple[Stage, ...]:
    """Stages of the whole: shards work side by side, so that the slowest one's time counts."""
    shards: dict[str, Stage] = {}
    for answer in answers.values():
        for stage in answer.stages:
            before = shards.get(stage.name, Stage(stage.name, 0.0, 0))
            shards[stage.name] = Stage(
                stage.name, max(before.ms, stage.ms), before.documents + stage.documents
            )
    names = [stage.name for stage in own]
    place = names.index("ask the shards") + 1
    return (*own[:place], *shards.values(), *own[place:])

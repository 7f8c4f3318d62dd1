"""Says a contract's text rules in words, for the parity report: what a graph's comparison cannot show.

A rule that this module does not know yet is named with its value, never left out.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
from tokenizers import Tokenizer

from latebolt.contract import Contract, TextRules

_SHOWN = 40  # tokens of a skip list that are named
_SPARE = 0.05  # share of a word table's rows that no token may have without a question


def rules(contract: Contract, tokenizer_json: str, rows: int | None = None) -> list[str]:
    """A line for queries, one for documents, one for casing, one for the vocabulary.

    Args:
        rows: of the word table; None where they are not known, and nothing is said of them.
    """
    said = _Tokens(tokenizer_json)
    return [
        *([] if rows is None else [f"Vocabulary: {said.vocabulary(rows)}"]),
        f"Queries: {_of(contract.query, contract, said)}",
        f"Documents: {_of(contract.document, contract, said)}",
        f"Casing: {said.casing(contract.lowercase)}",
    ]


class _Tokens:
    def __init__(self, tokenizer_json: str) -> None:
        self._tokenizer = Tokenizer.from_str(tokenizer_json)

    def name(self, id: int) -> str:
        token = self._tokenizer.id_to_token(id)
        return f"token {id}" if token is None else f"`{token}`" if "`" not in token else f'"{token}"'

    def names(self, ids: Sequence[int]) -> str:
        shown = " ".join(self.name(id) for id in ids[:_SHOWN])
        return shown + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")

    def vocabulary(self, rows: int) -> str:
        known = self._tokenizer.get_vocab_size(with_added_tokens=True)
        if known == rows:
            return f"the tokenizer knows as many tokens as the word table has rows, {rows}."
        if known > rows:
            return (
                f"the tokenizer knows {known} tokens, and the word table has {rows} rows: a text with one of "
                f"the others cannot be encoded."
            )
        line = f"the tokenizer knows {known} of the word table's {rows} rows"
        if rows - known <= _SPARE * rows:
            return line + "."  # tables are padded to sizes that processors like
        return line + "; are its files whole?"

    def casing(self, lowercase: bool) -> str:
        if lowercase:
            return "texts are lowercased before the tokenizer sees them."
        upper, lower = (self._tokenizer.encode(text).ids for text in ("TWO Words", "two words"))
        return (
            "the tokenizer ignores case." if upper == lower else "the tokenizer tells capitals from others."
        )


def _of(rules: TextRules, contract: Contract, said: _Tokens) -> str:
    frame = contract.frame
    marker = () if rules.marker is None else (rules.marker,)
    parts = [said.name(id) for id in (*frame.prefix, *marker)]
    parts += [*([f'"{rules.prompt}" +'] if rules.prompt else []), "text"]
    parts += [said.name(id) for id in frame.suffix]
    lines = [f"{' '.join(parts)}, at most {rules.max_tokens} tokens in all"]
    lines.append(_expansion(rules, said))
    if rules.skiplist:
        lines.append(f"no vector of {len(rules.skiplist)} tokens ({said.names(rules.skiplist)})")
    else:
        lines.append("no skip list")
    if rules.kept is not None:
        lines.append(f"only the vectors of {len(rules.kept)} tokens ({said.names(rules.kept)})")
    if not rules.prompt_kept:
        lines.append("no vector of the prompt's tokens")
    if rules.window is not None:
        lines.append(
            f"longer ones than {rules.window} tokens are read in windows of so many, each with all of this, "
            "and have the vectors of all"
        )
    if rules.strip:
        lines.append("white space around the text is removed")
    lines += [f"{said.name(old)} is replaced by {said.name(new)}" for old, new in rules.swaps]
    known = {
        "max_tokens",
        "prompt",
        "marker",
        "expansion",
        "skiplist",
        "strip",
        "swaps",
        "kept",
        "prompt_kept",
        "window",
    }
    for field in msgspec.structs.fields(rules):
        if field.name not in known:
            lines.append(f"{field.name} = {getattr(rules, field.name)!r}")
    return "; ".join(lines) + "."


def _expansion(rules: TextRules, said: _Tokens) -> str:
    expansion = rules.expansion
    if expansion is None:
        return "shorter ones are not filled up"
    length = expansion.length or rules.max_tokens
    attended = "which other tokens attend to" if expansion.attend else "which no token attends to"
    line = f"shorter ones are filled up to {length} with {said.name(expansion.token)}, {attended}"
    for field in msgspec.structs.fields(expansion):
        if field.name not in ("token", "attend", "length"):
            line += f", {field.name} = {getattr(expansion, field.name)!r}"
    return line

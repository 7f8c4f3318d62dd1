"""Reads a filter written as a string into its tree.

Grammar, keywords in any case:

    where    = all { "or" all }
    all      = unary { "and" unary }
    unary    = "not" unary | "(" where ")" | "exists" "(" field ")" | field test
    test     = ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) value | [ "not" ] "in" list
    list     = "(" [ value { "," value } ] ")" | "[" [ value { "," value } ] "]"
    field    = name { "." name } | "`" anything "`"
    value    = "string" | 'string' | number | true | false | null
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final, NoReturn

from latebolt.checks import clean_text
from latebolt.errors import InvalidInput
from latebolt.index.documents.documents import Value
from latebolt.index.filters.tree import (
    MAX_DEPTH,
    AllOf,
    AnyOf,
    Exists,
    Expr,
    Not,
    comparison,
    literal,
    membership,
)

_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<string>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')
      | (?P<number>[-+]?[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?(?![\w.]))
      | (?P<quoted>`[^`]*`)
      | (?P<word>[^\W\d][\w-]*(?:\.[\w-]+)*)
      | (?P<mark><=|>=|!=|==|[=<>(),\[\]])
    )""",
    re.VERBOSE | re.DOTALL,
)
_KEYWORDS: Final = frozenset({"and", "or", "not", "in", "exists", "true", "false", "null"})
_CONSTANTS: Final[dict[str, Any]] = {"true": True, "false": False, "null": None}
_ESCAPE: Final = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r", "\\": "\\", '"': '"', "'": "'", "/": "/"}


@dataclass(frozen=True, slots=True)
class _Token:
    """`kind` is a group of _TOKEN, "keyword" or "end"."""

    kind: str
    text: str
    position: int


def _tokens(text: str) -> list[_Token]:
    tokens, position = [], 0
    end = len(text.rstrip())
    while position < end:
        found = _TOKEN.match(text, position)
        if found is None:
            start = position + len(text[position:]) - len(text[position:].lstrip())
            _fail(text, start, "a field, a value or an operator (strings need a closing quote)", text[start])
        kind = str(found.lastgroup)
        content = found[kind]
        if kind == "word" and content.lower() in _KEYWORDS:
            kind, content = "keyword", content.lower()
        tokens.append(_Token(kind, content, found.start(str(found.lastgroup))))
        position = found.end()
    return [*tokens, _Token("end", "", end)]


def _fail(text: str, position: int, expected: str, got: str) -> NoReturn:
    raise InvalidInput(f"where: expected {expected} at character {position}, got {got!r} in {text[:200]!r}.")


def parse_text(text: str) -> Expr:
    """The tree of a filter string.

    Raises:
        InvalidInput: naming the character where it stopped making sense and what was expected there.
    """
    return _Parser(text).parse()


class _Parser:
    """Recursive descent over the grammar in the module's header."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens = _tokens(text)
        self._next = 0
        self._depth = 0

    def parse(self) -> Expr:
        expr = self._where()
        if self._token.kind != "end":
            self._expected('"and", "or" or the end')
        return expr

    @property
    def _token(self) -> _Token:
        return self._tokens[self._next]

    def _expected(self, what: str) -> NoReturn:
        _fail(self._text, self._token.position, what, self._token.text or "the end")

    def _take(self, *texts: str) -> bool:
        """Step over a keyword or mark if it is one of these."""
        if self._token.kind in ("keyword", "mark") and self._token.text in texts:
            self._next += 1
            return True
        return False

    def _require(self, text: str) -> None:
        if not self._take(text):
            self._expected(f'"{text}"')

    def _where(self) -> Expr:
        parts = [self._all()]
        while self._take("or"):
            parts.append(self._all())
        return parts[0] if len(parts) == 1 else AnyOf(tuple(parts))

    def _all(self) -> Expr:
        parts = [self._unary()]
        while self._take("and"):
            parts.append(self._unary())
        return parts[0] if len(parts) == 1 else AllOf(tuple(parts))

    def _unary(self) -> Expr:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            self._expected(f"at most {MAX_DEPTH} nested parentheses and nots")
        expr = self._condition()
        self._depth -= 1
        return expr

    def _condition(self) -> Expr:
        if self._take("not"):
            return Not(self._unary())
        if self._take("("):
            expr = self._where()
            self._require(")")
            return expr
        if self._take("exists"):
            self._require("(")
            field = self._field()
            self._require(")")
            return Exists(field)
        field = self._field()
        at, op = self._token.position, self._token.text
        if self._take("not"):
            self._require("in")
            return membership(field, self._list(), True, f"where, character {at}")
        if self._take("in"):
            return membership(field, self._list(), False, f"where, character {at}")
        if not self._take("=", "==", "!=", "<", "<=", ">", ">="):
            self._expected("an operator (= != < <= > >= in)")
        return comparison(field, "=" if op == "==" else op, self._value(), f"where, character {at}")

    def _field(self) -> str:
        token = self._token
        if token.kind not in ("word", "quoted"):
            self._expected("a field name (odd names go in `backticks`)")
        self._next += 1
        field = token.text.strip("`") if token.kind == "quoted" else token.text
        return clean_text(field)

    def _list(self) -> tuple[Value, ...]:
        closing = "]" if self._take("[") else ")"
        if closing == ")":
            self._require("(")
        values: list[Value] = []
        if self._take(closing):
            return ()
        while True:
            values.append(self._value())
            if self._take(closing):
                return tuple(values)
            if not self._take(","):
                self._expected(f'"," or "{closing}"')

    def _value(self) -> Value:
        token = self._token
        if token.kind == "string":
            value: Any = self._unescape(token)
        elif token.kind == "number":
            value = float(token.text) if re.search(r"[.eE]", token.text) else _integer(token.text)
        elif token.kind == "keyword" and token.text in _CONSTANTS:
            value = _CONSTANTS[token.text]
        else:
            self._expected('a value: "string", number, true, false or null')
        self._next += 1
        return literal(value, f"where, character {token.position}")

    def _unescape(self, token: _Token) -> str:
        def replace(found: re.Match[str]) -> str:
            code = found[1]
            if len(code) == 5:
                return chr(int(code[1:], 16))
            if code not in _ESCAPES:
                at = token.position + 1 + found.start()
                _fail(self._text, at, r"one of \n \t \r \\ \" \' \uXXXX", found[0])
            return _ESCAPES[code]

        # `literal` joins the halves that \\ud83d\\ude00 gives, as JSON spells one character beyond 65,536.
        return _ESCAPE.sub(replace, token.text[1:-1])


def _integer(text: str) -> int | float:
    # int() refuses thousands of digits; a float is what such a number is compared as anyway.
    return int(text) if len(text) <= 20 else float(text)

"""How definitions look in source code: patterns for families of languages, by the suffix of the file.

They are tried at the first character of a line, on its beginning alone, and know no language's grammar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Language:
    """Patterns of one family.

    definition: its groups that match, joined by dots, are the name. opaque: strings and comments, which may
    hold lines that look like code; one that nothing closes reaches to the end, so that none is sought twice.
    inside: lines at the margin of a definition that yet belong to it.
    """

    definition: re.Pattern[str]
    opaque: re.Pattern[str]
    inside: re.Pattern[str]


_BRACKETS: Final = re.compile(r"[{}()\[\]]")
_CLOSINGS: Final = re.compile(  # brackets, words that close, directives, labels
    r"""[{}()\[\]|&?:] | \#\s*(?:if|el|end|define|undef|pragma|line|error)
    | (?:end|fi|done|esac|else|elif|rescue|ensure|case|where)\b
    | (?:public|private|protected|internal|signals|slots|default)\b[\w\s]*: | \w+:$""",
    re.VERBOSE,
)


def _language(definition: str, *opaque: str, inside: re.Pattern[str] = _CLOSINGS) -> Language:
    return Language(re.compile(definition, re.VERBOSE), re.compile("|".join(opaque)), inside)


_STRINGS: Final = (r'"(?:\\.|[^"\\\n])*+"?', r"'(?:\\.|[^'\\\n])*+'?")
_COMMENTS: Final = (r"/\*[\s\S]*?(?:\*/|\Z)", r"//.*")
_STATEMENTS: Final = r"""(?!(?:await|case|catch|delete|do|else|for|foreach|goto|if|lock|new|return|sizeof|
    super|switch|synchronized|throw|try|typedef|typeof|using|while|with|yield)\b)"""

_PYTHON: Final = _language(
    r"(?:async\s+)?def\s+(\w+) | class\s+(\w+)",
    r'"""(?:\\[\s\S]|[^\\])*?(?:"""|\Z)',
    r"'''(?:\\[\s\S]|[^\\])*?(?:'''|\Z)",
    r"#.*",
    *_STRINGS,
    inside=_BRACKETS,
)
_JAVASCRIPT: Final = _language(
    rf"""(?:(?:export|default|declare|abstract)\s+)*(?:
      (?:async\s+)?function\s*\*?\s*([\w$]+)
    | (?:class|interface|namespace|module|(?:const\s+)?enum)\s+([\w$.]+)
    | type\s+([\w$]+)[^=;]{{0,100}}=
    | (?:const|let|var)\s+([\w$]+)[^=;]{{0,100}}=\s*(?:async\b\s*)?
        (?:function\b | \([^()]{{0,200}}\)[^=;]{{0,100}}=> | [\w$]+\s*=> | \($)
    | (?:(?:public|private|protected|static|readonly|override|async|get|set)\s+)*\*?
        {_STATEMENTS}(?!function\b)(\#?[\w$]+)\s*(?:<[^<>]{{0,100}}>)?\([^;]{{0,300}}\{{$
    )""",
    *_COMMENTS,
    r"`(?:\\[\s\S]|[^`\\])*+`?",
    *_STRINGS,
)
_GO: Final = _language(
    r"func\s+(?:\((?:\w+\s+)?\*?(\w+)[^)]{0,100}\)\s*)?(\w+) | type\s+(\w+)",
    *_COMMENTS,
    r"`[^`]*+`?",
    *_STRINGS,
)
_RUST: Final = _language(
    r"""(?:pub(?:\([^)]{0,60}\))?\s+)?(?:default\s+)?(?:
      (?:(?:const|async|unsafe|extern(?:\s+"[^"]{0,20}")?)\s+)*fn\s+(\w+)
    | (?:unsafe\s+)?(?:struct|enum|union|trait|mod|type)\s+(\w+)
    | macro_rules!\s*(\w+)
    | (?:unsafe\s+)?impl\b(?:<[^{]{0,100}?>\s+)?(?:[^{]{0,200}?\sfor\s+|\s*)&?(?:\w+::)*(\w+)
    )""",
    *_COMMENTS,
    r'"(?:\\[\s\S]|[^"\\])*+"?',
    r"'(?:\\.|[^'\\\n])'",  # a lifetime has no second quote
)
_OBJECTS: Final = _language(  # Java, Kotlin, Scala, C#, Swift, Dart, PHP, protocol buffers
    rf"""(?:(?:public|private|protected|internal|fileprivate|open|static|final|abstract|sealed|data|inline|
        override|virtual|async|unsafe|partial|readonly|suspend|operator|native|synchronized|default|implicit|case|
        mutating|convenience|required|inner|value|annotation|companion|indirect|extern|const)\s+)*(?:
      (?:class|interface|enum|record|struct|trait|object|protocol|extension|namespace|union|message|
        service|mixin)(?:\s+(?:class|interface|struct))?\s+(\w[\w.]*)
    | (?:fun|func|def|function|rpc)\s+(?:<[^>]{{0,100}}>\s*)?&?(?:\w+\.)?(\w+)
    | (init)[?!]?\s*\(
    | {_STATEMENTS}(?:\w[\w.<>,?\[\]]*\s+)?{_STATEMENTS}(\w+)\s*\([^;=]{{0,300}}[{{),(]$
    )""",
    *_COMMENTS,
    r'"""[\s\S]*?(?:"""|\Z)',
    *_STRINGS,
)
_C: Final = _language(
    rf"""(?:typedef\s+)?(?:class|struct|union|enum(?:\s+class)?|namespace)\s+(?:[A-Z_]{{3,40}}\s+)?(\w[\w:]*)
        [^;()=]{{0,200}}$
    | {_STATEMENTS}(?:[\w:<>,*&\[\]\s]{{1,200}}?[\s*&])?{_STATEMENTS}
        ((?:\w+::)*(?:~?\w+|operator[^\s(]{{1,3}}))\s*\([^;]{{0,300}}(?:[{{),(]|const|override|noexcept)$""",
    *_COMMENTS,
    *_STRINGS,
)
_SCRIPTS: Final = _language(  # Ruby, shells, Lua, Perl, Elixir, Julia, R, SQL
    r"""(?:local\s+)?function\s+([\w.:!]+)
    | (?:def|defp|defmacro|defmodule|sub|module|class|macro|(?:mutable\s+)?struct)\s+
        (?:self\.)?([\w.:]+[?!=]?)
    | ([\w.-]+)\s*\(\)\s*\{?$
    | ([\w.]+)\s*(?:<-|=)\s*function\b
    | (?i:create\s+(?:or\s+replace\s+)?(?:(?:temp|temporary|materialized|unique)\s+)?
        (?:table|view|function|procedure|trigger|index|type)\s+(?:if\s+not\s+exists\s+)?["`\[]?([\w.]+))""",
    *_STRINGS,
)
_FAMILIES: Final[tuple[tuple[Language, str], ...]] = (
    (_PYTHON, ".py .pyi"),
    (_JAVASCRIPT, ".js .mjs .cjs .jsx .ts .mts .cts .tsx"),
    (_GO, ".go"),
    (_RUST, ".rs"),
    (_OBJECTS, ".java .kt .kts .scala .cs .swift .dart .php .proto"),
    (_C, ".c .h .cc .cpp .cxx .hh .hpp .hxx .cu .cuh"),
    (_SCRIPTS, ".rb .sh .bash .zsh .lua .pl .pm .ex .exs .jl .r .sql"),
)
LANGUAGES: Final = {suffix: language for language, suffixes in _FAMILIES for suffix in suffixes.split()}

"""What .gitignore files leave out of a folder, as git reads them: each holds for its folder and below.

pathspec turns a pattern into a regular expression. Which pattern decides is settled here, since folders are
asked from the top down as git asks them: a path is held to the patterns itself, not for the folder around it.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_NAME: Final = ".gitignore"
# A regular expression of many stars takes time without end on a name made for it.
_LARGEST: Final = 1_000_000  # bytes
_MOST_PATTERNS: Final = 10_000
_MOST_STARS: Final = 4  # that stand beside other characters, in one pattern
_AMBIGUOUS: Final = re.compile(r"(?<![*\\])\*+(?=[^*/])|(?<=[^*/\\])\*+")


@dataclass(frozen=True)
class _Rule:
    """One pattern. path: matches whole paths, None all of them. leaves_out: or takes in again."""

    path: re.Pattern[str] | None
    leaves_out: bool
    of_folders: bool


class IgnoreRules:
    """The rules that hold in one folder: its own and those of the folders above it."""

    def __init__(self, folder: Path, above: IgnoreRules | None = None) -> None:
        self._folder = str(folder).rstrip(os.sep) + os.sep
        self._files: tuple[tuple[str, list[_Rule]], ...] = above._files if above is not None else ()
        if own := _rules_of(folder / _NAME):
            self._files = ((self._folder, own), *self._files)

    def leave_out(self, name: str, is_folder: bool = False) -> bool:
        """Whether what has this name in the folder is left out."""
        path = self._folder + name
        for base, rules in self._files:  # the last rule of the nearest file that has one
            inside = path[len(base) :].replace(os.sep, "/")
            for rule in rules:
                if rule.of_folders and not is_folder:
                    continue
                if rule.path is None or rule.path.fullmatch(inside):
                    return rule.leaves_out
        return False


def rules_above(root: Path) -> IgnoreRules | None:
    """The rules of the repository that an absolute folder lies in.

    None outside of one, and for a folder that they leave out: it was named, so it is wanted.
    """
    top = next((n for n, folder in enumerate((root, *root.parents)) if Path(folder, ".git").exists()), 0)
    if top == 0:
        return None
    rules: IgnoreRules | None = None
    way = [*reversed(root.parents[:top]), root]
    for folder, below in itertools.pairwise(way):
        rules = IgnoreRules(folder, rules)
        if rules.leave_out(below.name, is_folder=True):
            return None
    return rules


def _rules_of(path: Path) -> list[_Rule]:
    """The rules of a file, the last first; none of a link, which git does not follow either."""
    if not path.is_file() or path.is_symlink():
        return []
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST)
    except OSError:
        return []
    rules: list[_Rule] = []
    for line in os.fsdecode(content.removeprefix(b"\xef\xbb\xbf")).split("\n")[:_MOST_PATTERNS]:
        # What is no pattern matches nothing, as with git.
        with contextlib.suppress(ValueError):
            rules += _rule_of(line.removesuffix("\r"))
    return rules[::-1]


def _rule_of(line: str) -> list[_Rule]:
    from pathspec import GitIgnoreSpec

    if not line.endswith("\\ "):
        line = line.rstrip(" ")
    if len(_AMBIGUOUS.findall(line)) > _MOST_STARS or line.count("**") > _MOST_STARS:
        return []
    of_folders = line.endswith("/")
    pattern = line.removesuffix("/")
    if pattern.endswith("/**"):
        pattern += "/*"  # the same, said so that it matches whole paths
    return [
        _Rule(None if each.regex.pattern == "." else each.regex, each.include, of_folders)
        for each in GitIgnoreSpec.from_lines([pattern]).patterns
        if each.include is not None and each.regex is not None
    ]

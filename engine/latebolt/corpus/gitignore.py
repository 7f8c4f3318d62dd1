"""What .gitignore files leave out of a folder, as git reads them: each holds for its folder and below."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec

_NAME: Final = ".gitignore"
# Patterns become regular expressions, and one of many stars takes time without end on a name made for it.
_LARGEST: Final = 1_000_000  # bytes
_MOST_PATTERNS: Final = 10_000
_MOST_STARS: Final = 4  # that stand beside other characters, in one pattern
_AMBIGUOUS: Final = re.compile(r"(?<![*\\])\*+(?=[^*/])|(?<=[^*/\\])\*+")


class IgnoreRules:
    """The rules that hold in one folder: its own and those of the folders above it."""

    def __init__(self, folder: Path, above: IgnoreRules | None = None) -> None:
        own = _spec_of(Path(folder, _NAME))
        self._folder = str(folder).rstrip(os.sep) + os.sep
        self._rules: tuple[tuple[str, GitIgnoreSpec], ...] = above._rules if above is not None else ()
        if own is not None:
            self._rules = ((self._folder, own), *self._rules)

    def leave_out(self, name: str, is_folder: bool = False) -> bool:
        """Whether what has this name in the folder is left out."""
        path = self._folder + name
        for base, spec in self._rules:  # the nearest file that says anything decides
            inside = path[len(base) :].replace(os.sep, "/") + ("/" if is_folder else "")
            decision = spec.check_file(inside).include
            if decision is not None:
                return decision
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


def _spec_of(path: Path) -> GitIgnoreSpec | None:
    """The patterns of a file; None where there is none, or it is a link, which git does not follow either."""
    if not path.is_file() or path.is_symlink():
        return None
    try:
        with path.open("rb") as file:
            content = file.read(_LARGEST)
    except OSError:
        return None
    from pathspec import GitIgnoreSpec

    patterns: list[Any] = []
    for line in os.fsdecode(content.removeprefix(b"\xef\xbb\xbf")).split("\n")[:_MOST_PATTERNS]:
        if len(_AMBIGUOUS.findall(line)) > _MOST_STARS or line.count("**") > _MOST_STARS:
            continue
        # A line that is no pattern matches nothing, as with git.
        with contextlib.suppress(ValueError):
            patterns += GitIgnoreSpec.from_lines([line.removesuffix("\r")]).patterns
    return GitIgnoreSpec(patterns)

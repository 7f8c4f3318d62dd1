"""`latebolt watch`: an index that follows folders while they change."""

from __future__ import annotations

import os
import signal
from typing import NoReturn

import click

from latebolt.cli.common import is_terminal, json_option
from latebolt.cli.indexing import Target, index_options, made_by, run_line, run_record
from latebolt.cli.terminal import note, print_json_line
from latebolt.errors import InputNotFound, InvalidInput, RuntimeUnavailable


class _End:
    """What Ctrl-C and SIGTERM do: end the work where it is, and the command once."""

    def __init__(self) -> None:
        self.number: int | None = None
        for each in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(each) != signal.SIG_IGN:
                signal.signal(each, self._received)

    def _received(self, number: int, _: object) -> NoReturn:
        self.number = number
        raise KeyboardInterrupt

    def __call__(self) -> bool:
        return self.number is not None


@click.command("watch")
@click.argument("index", type=click.Path())
@click.argument("folders", nargs=-1, required=True)
@index_options
@click.option(
    "--prune/--no-prune",
    default=True,
    show_default=True,
    help="Forget documents whose files are gone. The default here, unlike with `latebolt index`: who follows "
    "a folder sees each file go, and a folder that is missing or without files loses nothing.",
)
@click.option(
    "--debounce",
    type=click.FloatRange(0.02, 3600),
    default=1.6,
    show_default=True,
    help="Seconds without a change that end a burst, which then is one commit. At most ten times as long.",
)
@json_option
@click.pass_context
def watch_command(
    context: click.Context,
    /,
    index: str,
    folders: tuple[str, ...],
    no_ignore: bool,
    prune: bool,
    debounce: float,
    as_json: bool,
    **_: object,
) -> int:
    """Keep INDEX in line with FOLDERS while their files change.

    First what `latebolt index` does: INDEX is made, or brought up to date. Then each burst of changes
    (saved, new, moved, renamed and deleted files and folders) becomes one commit, and one line on stderr;
    with --json one object a line on stdout. Searches go on meanwhile. FOLDERS may be files, too.

    A folder that is missing, or has no file left, is told and waited for: its documents stay. So does what
    cannot be read. Another process that writes to INDEX is waited for. Ctrl-C or SIGTERM ends it.

    \b
    latebolt watch notes.index ~/notes
    latebolt watch wiki.index /srv/wiki --model multilingual --debounce 10
    """
    ends = _End()
    try:
        import watchfiles  # noqa: F401 - what the extra brings
    except ImportError as error:
        raise RuntimeUnavailable(
            "the library that watches folders is not installed. Run \"pip install 'latebolt[watch]'\"."
        ) from error
    from latebolt.corpus.files import skipped_message
    from latebolt.sync.watch import LONGEST, Burst, Done, FolderWatcher, Follower, follow

    target = Target.of(context)
    target.check_order(folders)
    if "-" in folders:
        raise InvalidInput("standard input cannot be watched. Give folders, or use latebolt index.")
    if not target.exists and (missing := [name for name in folders if not os.path.lexists(name)]):
        raise InputNotFound(f"{missing[0]}: there is no such file or folder.")

    def say(message: str) -> None:
        note(f"latebolt: {message}")

    def report(done: Done) -> None:
        if as_json:
            print_json_line(run_record(opened, done.counts, done.missing, done.skipped, done.seconds))
        else:
            note(run_line(opened, done.counts, done.missing, done.seconds))
        if done.told:
            note(skipped_message(done.told))

    try:
        opened, in_lines = target.open() if target.exists else (target.create(), False)
        follower = Follower(
            opened, folders, not in_lines, made_by(in_lines), prune, no_ignore, report, say, is_terminal()
        )
        watcher = FolderWatcher(folders, opened.path, no_ignore, lambda: follower.folders, debounce, say)
        follow(watcher, follower.run, Burst(debounce, LONGEST * debounce), ends)
    except KeyboardInterrupt:
        pass
    note(f"{index}: is no longer kept in line; it holds its last commit.")
    return 0 if ends.number == signal.SIGTERM else 130

"""`latebolt trim`: away with files of installed packages that no search reads."""

from __future__ import annotations

import click

from latebolt.cli.common import human_bytes, json_option
from latebolt.cli.terminal import print_json, say


@click.command("trim")
@click.option("--yes", is_flag=True, help="Remove them; without it they are only listed.")
@json_option
def trim_command(yes: bool, as_json: bool) -> None:
    """Remove what a small device does without: files of installed packages that no search reads.

    They are a second copy of ONNX Runtime for programs in C, and NumPy's own tests. `pip check` and upgrades
    work as before; an upgrade brings them back. For images and devices, as their last step.

    \b
    latebolt trim
    latebolt trim --json
    """
    from latebolt import unread

    files = unread.find()
    sizes = {str(path): path.stat().st_size for path in files}
    freed = unread.remove(files) if yes else 0
    if as_json:
        print_json({"files": sizes, "bytes": sum(sizes.values()), "removed": yes})
        return
    for name, size in sorted(sizes.items(), key=lambda each: -each[1])[:5]:
        say(f"{human_bytes(size):>9}  {name}")
    if len(sizes) > 5:
        say(f"{'':9}  and {len(sizes) - 5} more")
    if yes:
        say(f"removed {len(sizes)} files, {human_bytes(freed)}")
    else:
        say(f"{len(sizes)} files, {human_bytes(sum(sizes.values()))}; --yes removes them")

"""The Makefile's environments: uv is told what pip's configuration says, and pip installs where uv cannot."""

from __future__ import annotations

import subprocess
import sys

import pytest

import environments
from environments import Settings, for_uv, install, install_elsewhere, pip_settings

LISTED = """\
:env:.find-links='/wheels'
:env:.timeout='180'
download.pre='true'
global.cert='/etc/ours.crt'
global.constraint='/etc/caps.txt'
global.extra-index-url='https://user:a=b@one/simple file:///two/simple'
global.find-links='/elsewhere'
global.index-url='https://public/simple'
install.index-url='https://mirror/simple'
install.no_index='true'
"""


def test_a_mirror_a_cap_and_a_folder_of_wheels_are_handed_over():
    settings = for_uv(pip_settings(LISTED))
    assert settings.options == [
        *("--default-index", "https://mirror/simple"),
        *("--extra-index-url", "https://user:a=b@one/simple", "--extra-index-url", "file:///two/simple"),
        *("--find-links", "/wheels", "--constraint", "/etc/caps.txt", "--no-index"),
    ]
    assert settings.variables == {"SSL_CERT_FILE": "/etc/ours.crt", "UV_HTTP_TIMEOUT": "180"}
    assert settings.unknown == []


def test_a_setting_that_uv_is_not_told_is_named():
    assert for_uv({"no-binary": ":all:", "quiet": "1", "no-index": "false"}) == ([], {}, ["no-binary"])


@pytest.mark.parametrize("listed", ("global.no-binary=':all:'", "global.quiet='1'"), ids=("unknown", "fails"))
def test_pip_installs_where_uv_may_not_or_does_not(listed, tmp_path, monkeypatch, capfd):
    """uv is a program here that notes its arguments and fails; pip says only that it was asked."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(environments, "UV", tmp_path)
    (tmp_path / "bin").mkdir()
    for name, text in (("uv", 'echo "$*" >> asked; exit 2'), ("python", f'echo "{listed}"')):
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    ran = []

    def run(*command, environment=None):
        ran.append(list(map(str, command)))
        if str(command[0]) == str(tmp_path / "bin/uv"):
            subprocess.run(command, check=True)

    monkeypatch.setattr(environments, "_run", run)
    install(tmp_path / "made", ["-e", "."])
    assert ran[-2] == [sys.executable, "-m", "venv", str(tmp_path / "made")]
    assert ran[-1][:4] == [str(tmp_path / "made/bin/python"), "-m", "pip", "install"] and ran[-1][-2:] == [
        "-e",
        ".",
    ]
    assert (tmp_path / "asked").exists() == ("no-binary" not in listed)
    assert "pip installs" in capfd.readouterr().err


def test_wheels_of_another_machine_are_chosen_for_it(tmp_path, monkeypatch):
    ran = []
    monkeypatch.setattr(
        environments, "_uv", lambda: (tmp_path / "uv", Settings(["--no-index"], {"A": "b"}, []))
    )
    monkeypatch.setattr(
        environments, "_run", lambda *command, environment=None: ran.append((command, environment))
    )
    install_elsewhere(tmp_path / "site", "aarch64-manylinux_2_36", "3.11", ["numpy"])
    [(command, environment)] = ran
    line = " ".join(map(str, command))
    assert "--python-platform aarch64-manylinux_2_36 --python-version 3.11 --only-binary :all: numpy" in line
    assert f"--target {tmp_path / 'site'}" in line and "--no-index" in line and environment["A"] == "b"


def test_what_nltk_reads_has_no_second_name(tmp_path, monkeypatch):
    """It refuses files that are links to uv's cache, which all others are."""
    site = tmp_path / "made/lib/python3.11/site-packages"
    names = [f"{folder}/inner/words" for folder in (*environments.OWN_FILES, "numpy")]

    def link(*_: object) -> None:
        for i, name in enumerate(names):
            (site / name).parent.mkdir(parents=True)
            (tmp_path / str(i)).write_text(name)
            (tmp_path / str(i)).chmod(0o755)
            (site / name).hardlink_to(tmp_path / str(i))

    (tmp_path / "made/bin").mkdir(parents=True)
    (tmp_path / "made/bin/python").touch()
    monkeypatch.setattr(environments, "_uv", lambda: (tmp_path / "uv", Settings([], {}, [])))
    monkeypatch.setattr(environments, "_install_by", link)
    install(tmp_path / "made", ["nltk"])
    assert [(site / name).stat().st_nlink for name in names] == [1, 1, 2]
    assert [(site / name).read_text() for name in names] == names
    assert all((site / name).stat().st_mode & 0o777 == 0o755 for name in names)
    assert all(list((site / name).parent.iterdir()) == [site / name] for name in names)

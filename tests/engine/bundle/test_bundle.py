"""`latebolt bundle` with an index of tiny wheels: what is in the tar, what installs, what fails."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from latebolt import contract
from latebolt.bundle import archive, make, model_files, own_wheel, pip, requirements, words
from latebolt.bundle.requirements import Wheel
from latebolt.bundle.target import Target
from latebolt.cli import run
from latebolt.encoder.model_folder import BUILT_IN
from latebolt.errors import InvalidInput, LateboltError

ARM = "manylinux_2_28_aarch64"
HERE = f"{sys.version_info.major}.{sys.version_info.minor}"
# Of the device, so that pip's own Python judges markers otherwise.
THERE = "3.14" if sys.version_info < (3, 14) else "3.13"


def a_wheel(
    folder: Path, name: str, version: str = "1.0", tag: str = "py3-none-any", **metadata: object
) -> Path:
    """A wheel with one module."""
    told = [f"Metadata-Version: 2.4\nName: {name}\nVersion: {version}\nLicense-Expression: MIT"]
    for field, values in metadata.items():
        for value in values if isinstance(values, list | tuple) else [values]:
            told.append(f"{field.replace('_', '-').title()}: {value}")
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"version = {version!r}\n",
        f"{info}/METADATA": "\n".join(told) + "\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    lines = []
    for path, text in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        lines.append(f"{path},sha256={digest},{len(text)}")
    files[f"{info}/RECORD"] = "\n".join([*lines, f"{info}/RECORD,,"]) + "\n"
    file = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(file, "w") as wheel:
        for path, text in files.items():
            wheel.writestr(zipfile.ZipInfo(path), text)
    return file


@pytest.fixture(scope="module", autouse=True)
def no_configuration() -> Iterator[None]:
    """Whatever pip is told on this machine, it looks here for nothing else."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("PIP_")]:
            patch.delenv(name)
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        yield


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of wheels, and in `own` latebolt's."""
    folder = tmp_path_factory.mktemp("index")
    a_wheel(folder, "left", tag=f"cp{THERE.replace('.', '')}-none-manylinux_2_17_aarch64")
    a_wheel(folder, "left", tag="py3-none-manylinux_2_17_x86_64")
    a_wheel(
        folder, "left", "2.0", tag="py3-none-manylinux_2_34_aarch64"
    )  # for a newer glibc than is asked for
    a_wheel(folder, "runtime", Requires_Dist=["left>=1"])
    a_wheel(folder, "runtime", "1.1", Requires_Dist=["left>=1"])
    for name in ("never", "here_only", "there_only", "there_also", "server", "torch"):
        requires = ["there_also"] if name == "there_only" else []
        a_wheel(folder, name, Requires_Dist=requires)
    a_wheel(folder, "huggingface_hub")
    a_wheel(folder, "tokenizers", Requires_Dist=["huggingface_hub>=1"])
    (folder / "own").mkdir()
    a_wheel(
        folder / "own", "latebolt", "9.9",
        Provides_Extra=["cpu", "serve", "heavy", "export", "bad", "hub"],
        Requires_Dist=[
            "left<3",
            "tokenizers",
            'huggingface_hub; extra == "hub"',
            'never; sys_platform == "win32"',
            f'here_only; python_version == "{HERE}"',
            f'there_only; python_version == "{THERE}" and platform_machine == "aarch64"',
            'runtime; extra == "cpu"',
            'server; extra == "serve"',
            'torch; extra == "heavy"',
            'absent; extra == "bad"',
        ],
    )  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, a second graph that is named and not there, and files of others."""
    folder = tmp_path_factory.mktemp("models") / "My model"
    shutil.copytree(BUILT_IN / "starter", folder)
    (folder / "model.safetensors").write_bytes(b"weights of the checkpoint")
    told = json.loads((folder / "latebolt.json").read_text())
    told["name"] = "../odd name"
    told["graphs"]["fp32"] = {**told["graphs"]["int8"], "file": "onnx/model.onnx"}
    (folder / "latebolt.json").write_text(json.dumps(told))
    return folder


def options(index: Path, *further: str, platform: str = ARM, python: str = THERE) -> list[str]:
    own = str(next((index / "own").iterdir()))
    links = ["--no-index", "--find-links", str(index), "--wheel", own]
    return ["--platform", platform, "--python", python, *links, *further]


@pytest.fixture(scope="module")
def bundle(index: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "out.tar"
    arguments = options(index, "--model", str(model), "--extras", "serve", "--constraint", "runtime<1.1")
    assert run(["bundle", str(out), *arguments]) == 0
    return out


def names(tar: Path) -> list[str]:
    with tarfile.open(tar) as opened:
        return opened.getnames()


@pytest.fixture(scope="module")
def unpacked(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("unpacked")
    with tarfile.open(bundle) as tar:
        tar.extractall(folder, filter="data")
    [root] = folder.iterdir()
    return root


def test_what_the_device_needs_is_in_it_and_no_more(unpacked: Path):
    """By the device's glibc, machine and Python, and by its markers, which pip judges by its own Python."""
    wheels = sorted(path.name for path in (unpacked / "wheels").iterdir())
    short = THERE.replace(".", "")
    assert wheels == [
        "latebolt-9.9-py3-none-any.whl",
        f"left-1.0-cp{short}-none-manylinux_2_17_aarch64.whl",
        "runtime-1.0-py3-none-any.whl",
        "server-1.0-py3-none-any.whl",
        "there_also-1.0-py3-none-any.whl",
        "there_only-1.0-py3-none-any.whl",
        "tokenizers-1.0-py3-none-any.whl",
    ]
    asked = (unpacked / "requirements.txt").read_text().splitlines()
    assert asked[0].startswith("latebolt[cpu,serve]==9.9 --hash=sha256:") and len(asked) == len(wheels)


def test_the_manifest_tells_every_file(unpacked: Path):
    manifest = json.loads((unpacked / "manifest.json").read_bytes())
    on_disk = {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
    assert {entry["path"] for entry in manifest["files"]} == on_disk - {"manifest.json"}
    for entry in manifest["files"]:
        content = (unpacked / entry["path"]).read_bytes()
        assert entry["sha256"] == hashlib.sha256(content).hexdigest() and entry["bytes"] == len(content)
    assert manifest["bytes"]["all"] == sum(entry["bytes"] for entry in manifest["files"])
    assert {(each["name"], each["licence"]) for each in manifest["packages"]} >= {("left", "MIT")}
    assert (manifest["platform"], manifest["machine"], manifest["python"]) == (ARM, "aarch64", THERE)


def test_the_model_goes_with_the_graph_that_is_used(unpacked: Path, model: Path):
    [folder] = (unpacked / "models").iterdir()
    assert folder.name == "odd-name"
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    ours = {path.relative_to(BUILT_IN / "starter").as_posix() for path in (BUILT_IN / "starter").rglob("*.*")}
    assert there >= {"latebolt.json", "tokenizer.json", "confidence.json", "onnx/model_int8.onnx", "LICENSE"}
    assert there <= ours | {"LICENSE"}  # no weights of the checkpoint
    assert list(json.loads((folder / "latebolt.json").read_text())["graphs"]) == ["int8"]
    with pytest.raises(LateboltError, match=r"model\.onnx: a file of the fp32 graph is missing"):
        model_files.choose(str(model), "fp32", "aarch64")


def test_a_built_in_model_is_in_the_wheel():
    chosen = model_files.choose("starter", None, "aarch64")
    assert chosen.folder is None and (chosen.bytes, chosen.precision) == (0, "int8")


@pytest.mark.parametrize(
    ("platform", "carried"),
    [
        ("manylinux_2_28_aarch64", "linux-aarch64"),
        ("manylinux_2_17_x86_64", "any"),  # which nobody has built here
        ("musllinux_1_2_aarch64", "any"),  # whose wheels are called otherwise
    ],
)
def test_a_wheel_of_the_tree_carries_the_kernels_built_for_the_device(
    tmp_path, monkeypatch, platform, carried
):
    """Never those of the machine that bundles, whatever was built there."""
    tree, empty = tmp_path / "tree", tmp_path / "empty"
    (tree / "engine" / "latebolt" / "kernels" / "ahead" / "built" / "linux-aarch64").mkdir(parents=True)
    for name in own_wheel._BUILT_OF:
        if not (tree / name).exists():
            (tree / name).write_text('[project]\nname = "latebolt"\n')
    asked = []

    def build_wheel(source: Path, folder: Path, isolated: bool, carried: str) -> Path:
        asked.append(carried)
        return a_wheel(folder, "latebolt", "0.1.0")

    monkeypatch.setattr(own_wheel, "_SOURCE", tree)
    monkeypatch.setattr(pip, "build_wheel", build_wheel)
    empty.mkdir()
    own_wheel.find(None, Target(platform, "3.11"), empty)
    assert asked == [carried]


def test_the_same_bytes_each_time(bundle: Path, unpacked: Path, tmp_path: Path):
    """Whatever the files' times and rights are."""
    copy = tmp_path / "copy"
    shutil.copytree(unpacked, copy)
    for number, path in enumerate(sorted(copy.rglob("*"))):
        os.utime(path, (number, 10**9 + number))
        if path.is_file():
            path.chmod(0o600)
    again = tmp_path / "again.tar"
    with again.open("wb") as file:
        archive.write(file, unpacked.name, copy, reversed(archive.members_of(copy)), lambda _: None)
    assert again.read_bytes() == bundle.read_bytes()
    assert names(bundle) == sorted(names(bundle))
    with tarfile.open(bundle) as tar:
        assert all((each.uid, each.uname, each.mtime) == (0, "", archive.EPOCH) for each in tar)


def test_a_dry_run_tells_sizes_and_writes_nothing(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    out = tmp_path / "out.tar"
    assert run(["bundle", str(out), *options(index), "--extras", "hub", "--dry-run", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["path"] is None and not list(tmp_path.iterdir())
    packages = {each["name"]: each["bytes"] for each in told["packages"]}
    assert packages.keys() == {
        *("latebolt", "left", "runtime", "tokenizers", "there-only", "there-also"),
        "huggingface-hub",
    }
    files = {path.name: path.stat().st_size for path in index.rglob("*.whl")}
    assert all(each["bytes"] == files[each["wheel"]] for each in told["packages"])
    assert told["bytes"]["wheels"] == sum(packages.values())


def test_a_package_without_a_wheel_is_named_with_the_way_out(index: Path, capsys: pytest.CaptureFixture[str]):
    code = run(["bundle", "out.tar", *options(index, platform="musllinux_1_2_armv7l", python="3.11")])
    said = capsys.readouterr().err
    assert code == 2 and "left" in said and "no wheel for musllinux_1_2_armv7l and Python 3.11" in said
    assert all(way in said for way in ("--platform", "--python", "--constraint", "--find-links"))
    assert not Path("out.tar").exists()


@pytest.mark.parametrize(
    ("said", "kind", "message"),
    [
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\n"
            "ERROR: Could not find a version that satisfies the requirement left (from versions: none)\n"
            "ERROR: No matching distribution found for left",
            LateboltError, "the package index cannot be reached",
        ),
        (
            "ERROR: No matching distribution found for left<3,>=2 (from latebolt)",
            InvalidInput, "left<3,>=2: no wheel for",
        ),
        (
            "ERROR: No matching distribution found for latebolt[cpu]==0.1.0",
            InvalidInput, "latebolt[cpu]==0.1.0: the index has no such wheel",
        ),
        (
            "    a 1.0 depends on left<1\n    b 1.0 depends on left>1\nERROR: ResolutionImpossible: for help",
            InvalidInput, "versions do not go together: a 1.0 depends on left<1 b 1.0 depends on left>1",
        ),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES", LateboltError, "other bytes than its index told"),
        ("ERROR: the disk is odd.\n", LateboltError, "pip failed: the disk is odd"),
        ("", LateboltError, "pip failed: no reason told"),
    ],
)  # fmt: skip
def test_what_pip_says_becomes_one_line(said: str, kind: type[Exception], message: str):
    problem = pip._failure(said, Target.of(ARM, "3.11"))
    assert type(problem) is kind and message in str(problem) and "\n" not in str(problem)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--platform", "win_amd64"], "should be manylinux_X_Y_MACHINE"),
        (["--platform", "manylinux_2_28"], "should be manylinux_X_Y_MACHINE"),
        (["--python", "3.9"], "the oldest that latebolt runs on"),
        (["--python", "3"], "should be a version such as 3.11"),
        (["--constraint", "a b"], "--constraint should be a package and its versions"),
        (["--find-links", "gone"], "gone: there is no such folder"),
        (
            ["--extras", "export"],
            'the extra "export" is not for devices. For bundles there are bad, cpu, heavy, hub, serve',
        ),
        (["--extras", "fly"], 'the extra "fly" is not known'),
        (["--model", "gone"], "gone: there is no such model folder"),
        (["--wheel", __file__], "is not named as a wheel is"),
        (["--precision", "fp16"], "fp16"),
    ],
)
def test_misuse_is_told(index: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert run(["bundle", "out.tar", *options(index), *arguments]) in (1, 2)
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said


def test_where_the_tar_can_not_go(index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert run(["bundle", str(tmp_path), *options(index)]) == 2
    assert "is a folder" in capsys.readouterr().err
    assert run(["bundle", str(tmp_path / "no" / "out.tar"), *options(index)]) == 2
    assert "there is no folder" in capsys.readouterr().err


def test_wheels_that_are_not_ours_or_not_for_the_device(
    index: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    other = next(index.glob("server-*"))
    foreign = a_wheel(tmp_path, "latebolt", "9.9", f"cp{THERE.replace('.', '')}-none-manylinux_2_17_x86_64")
    broken = tmp_path / "latebolt-9.9-py3-none-any.whl"
    broken.write_bytes(b"PK")
    for file, message in (
        (other, "is a wheel of server"),
        (foreign, "is not for"),
        (broken, "is no sound wheel"),
    ):
        assert run(["bundle", "out.tar", *options(index), "--wheel", str(file)]) in (1, 2)
        assert message in capsys.readouterr().err


def test_what_no_device_needs_is_refused(
    index: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(pip.Sources, "choose", lambda *_: [Wheel("torch", "2.0", "", (), "", "")])
    assert run(["bundle", "out.tar", *options(index), "--extras", "heavy", "--dry-run"]) == 1
    assert "torch would be in it" in capsys.readouterr().err


@pytest.mark.parametrize(
    "end", [KeyboardInterrupt(), SystemExit(143), OSError(28, "No space left on device")]
)
def test_a_download_that_ends_early_leaves_nothing(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: BaseException
):
    out, scratch = tmp_path / "out.tar", tmp_path / "scratch"
    scratch.mkdir()
    out.write_bytes(b"the one of before")
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    own = next((index / "own").iterdir())
    wheels = [Wheel("latebolt", "9.9", "", (), own.as_uri(), archive.digest_of(own))]
    monkeypatch.setattr(pip.Sources, "choose", lambda *_: wheels)

    def fetch(self: object, target: Target, wheels: object, folder: Path, step: object) -> None:
        (folder / "half.whl").write_bytes(b"half")
        raise end

    monkeypatch.setattr(pip.Sources, "fetch", fetch)
    wanted = make.Wanted(Target.of(ARM, THERE), "starter", None, (), str(own), (), (), True)
    with pytest.raises(LateboltError if isinstance(end, OSError) else type(end)):
        make.make(out, wanted, lambda _: None, False)
    assert out.read_bytes() == b"the one of before" and not list(scratch.iterdir())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out.tar", "scratch"]


def test_a_fetched_wheel_with_other_bytes_is_refused(
    index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    own = next((index / "own").iterdir())
    wheels = [
        Wheel("latebolt", "9.9", "", (), own.as_uri(), archive.digest_of(own)),
        Wheel("left", "1.0", "", (), "https://index/left-1.0-py3-none-any.whl", "00"),
    ]
    monkeypatch.setattr(pip.Sources, "choose", lambda *_: wheels)
    monkeypatch.setattr(
        pip.Sources, "fetch", lambda self, target, wheels, folder, step: a_wheel(folder, "left")
    )
    wanted = make.Wanted(Target.of(ARM, THERE), "starter", None, (), str(own), (), (), True)
    with pytest.raises(LateboltError, match="other bytes than its index told"):
        make.make(tmp_path / "out.tar", wanted, lambda _: None, False)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["a", "a/b.txt", "a..b/c", "..a", "é"])
def test_names_that_stay_below(name: str):
    assert archive.is_safe(name)


@pytest.mark.parametrize("name", ["..", "a/../b", "/a", "a//b", "./a", "a/.", "", "c:/a", "a\\b", "a\nb"])
def test_names_that_could_lead_elsewhere(name: str):
    assert not archive.is_safe(name)


def test_only_plain_files_are_packed(tmp_path: Path):
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises(LateboltError, match="is no plain file"):
        archive.members_of(tmp_path)


def test_tags_of_a_target_are_its_own_and_older_ones():
    assert Target.of("manylinux_2_28_aarch64", "3.11").platforms == [
        *(f"manylinux_2_{n}_aarch64" for n in range(28, 16, -1)), "manylinux2014_aarch64", "linux_aarch64",
    ]  # fmt: skip
    old = Target.of("manylinux2014_x86_64", "3.12")
    assert (old.platform, old.machine) == ("manylinux_2_17_x86_64", "x86_64")
    assert old.platforms[:2] == ["manylinux_2_17_x86_64", "manylinux2014_x86_64"]
    assert old.platforms[-3:] == ["manylinux_2_5_x86_64", "manylinux1_x86_64", "linux_x86_64"]
    musl = Target.of("musllinux_1_2_aarch64", "3.11")
    assert musl.is_musl and musl.platforms == [
        "musllinux_1_2_aarch64", "musllinux_1_1_aarch64", "musllinux_1_0_aarch64", "linux_aarch64",
    ]  # fmt: skip
    assert "--platform" in musl.pip_options and "--only-binary=:all:" in musl.pip_options


def test_requirements_are_followed_by_the_markers_of_the_target():
    def wheel(name: str, *requires: str) -> Wheel:
        return Wheel(name, "1.0", "", requires, "", "")

    wheels = {
        "a": wheel("a", 'b; python_version >= "3.13"', 'c[fast]; extra == "x"', 'w; os_name == "nt"'),
        "b": wheel("b", "a", "gone>2; platform_machine == 'aarch64'"),  # a ring
        "c": wheel("c", 'd<1; extra == "fast"'),
        "d": wheel("d"),
    }
    old, new = Target.of(ARM, "3.11").markers, Target.of(ARM, "3.13").markers
    assert requirements.needed(["a"], wheels, old) == (["a"], [])
    assert requirements.needed(["a"], wheels, new) == (["a", "b"], ["gone>2"])
    assert requirements.needed(["A[x]"], wheels, old) == (["a", "c"], ["d<1"])


@pytest.mark.parametrize(
    ("metadata", "licence"),
    [
        ({"license_expression": "MIT OR Apache-2.0", "license": "x"}, "MIT OR Apache-2.0"),
        ({"license": "BSD-3-Clause"}, "BSD-3-Clause"),
        (
            {"license": "A long text\n" * 90, "classifier": ["License :: OSI Approved :: MIT License"]},
            "A long text",
        ),
        ({"license": "w" * 99, "classifier": ["License :: OSI Approved :: MIT License"]}, "MIT License"),
        ({"classifier": ["Topic :: X"]}, ""),
    ],
)
def test_licences_in_few_words(metadata: dict[str, object], licence: str):
    assert requirements.licence_of(metadata) == licence


def installed(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["sh", str(root / "install.sh"), *arguments],
        capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env={**os.environ, "PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_CONSTRAINT": "/gone", **environment},
    )  # fmt: skip


@pytest.fixture(scope="module")
def for_here(index: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle for this machine, without a model of its own."""
    folder = tmp_path_factory.mktemp("here")
    target = Target.of(None, HERE)
    if target.is_musl:
        pytest.skip("the tiny wheels are for glibc")
    (folder / "wheels").mkdir()
    own = next((index / "own").iterdir())
    chosen = [own, *(next(index.glob(f"{name}-1.0-*any.whl")) for name in ("here_only", "runtime"))]
    packages = [
        a_wheel(folder / "wheels", "left"),
        *(shutil.copy(file, folder / "wheels") for file in chosen),
    ]
    told = [
        words.Package(
            path.name.split("-")[0], path.name.split("-")[1], "", path.name, 1, archive.digest_of(path)
        )
        for path in map(Path, packages)
    ]
    model = words.Model("starter", "", "int8", "models/starter", 4)
    contents = words.Contents("9.9", target.platform, target.machine, HERE, ["latebolt[cpu]"], told, model)
    (folder / "models" / "starter").mkdir(parents=True)
    (folder / "models" / "starter" / "latebolt.json").write_text("{}\n")
    (folder / "requirements.txt").write_text(words.requirements(contents))
    (folder / "install.sh").write_text(words.install_script(target, model))
    (folder / "manifest.json").write_bytes(words.manifest(contents, archive.members_of(folder)))
    return folder


def test_one_command_installs_without_an_index(for_here: Path, tmp_path: Path):
    """Into a folder whose name has a space, with a configuration of pip that leads nowhere."""
    into = tmp_path / "on the device"
    done = installed(for_here, "--into", str(into), "--python", sys.executable)
    assert done.returncode == 0, done.stderr
    assert f'{into}/bin/latebolt index notes.index FOLDER --model "{into}/models/starter"' in done.stdout
    code = "import left, runtime, here_only, latebolt; print(latebolt.version)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    shown = subprocess.run([into / "bin/python", "-c", code], capture_output=True, text=True, env=environment)
    assert shown.stdout == "9.9\n", shown.stderr
    assert (into / "models/starter/latebolt.json").is_file()
    again = installed(for_here, "--into", str(into), "--python", sys.executable)
    assert again.returncode == 1 and "is there already, and not empty" in again.stderr
    assert (into / "bin/python").exists()


def test_what_is_damaged_missing_or_for_another_machine_is_not_installed(for_here: Path, tmp_path: Path):
    copy, into = tmp_path / "copy", tmp_path / "into"
    shutil.copytree(for_here, copy)
    [wheel] = (copy / "wheels").glob("left-*")
    wheel.write_bytes(wheel.read_bytes()[:-1])
    (copy / "models/starter/latebolt.json").unlink()
    done = installed(copy, "--into", str(into), "--python", sys.executable)
    assert done.returncode == 1 and f"wheels/{wheel.name}: is damaged" in done.stderr
    assert "latebolt.json: No such file" in done.stderr and not into.exists()
    told = json.loads((copy / "manifest.json").read_text())
    (copy / "manifest.json").write_text(json.dumps({**told, "python": "3.99", "machine": "pdp11"}))
    done = installed(copy, "--into", str(into), "--python", sys.executable)
    assert done.returncode == 1 and "is for Python 3.99" in done.stderr and "is for pdp11" in done.stderr
    assert not into.exists()


def test_an_installation_that_fails_is_taken_away(for_here: Path, tmp_path: Path):
    """Of a Python that makes an environment and has a pip that fails."""
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\nif [ "$1" = - ]; then exec {sys.executable} "$@"; fi\n'
        'if [ "$2" = venv ]; then mkdir -p "$3/bin"; printf "#!/bin/sh\\nexit 3\\n" > "$3/bin/python"; '
        'chmod +x "$3/bin/python"; exit 0; fi\nexit 9\n'
    )
    python.chmod(0o755)
    into = tmp_path / "into"
    assert installed(for_here, "--into", str(into), "--python", str(python)).returncode == 3
    assert not into.exists()
    assert installed(for_here, "--what").returncode == 2
    assert "--into FOLDER" in installed(for_here, "--help").stdout
    gone = installed(for_here, "--python", "no-python")
    assert gone.returncode == 1 and "there is no no-python" in gone.stderr


def test_graphs_for_gpus_stay_behind(tmp_path):
    """A bundle's contract names none of the files that it leaves out."""
    folder, target = tmp_path / "model", tmp_path / "target"
    shutil.copytree(BUILT_IN / "starter", folder)
    target.mkdir()
    known = contract.read(folder)
    forms = {"ragged": contract.Graph("onnx/model_fp16_ragged.onnx", 1, "")}
    contract.write(msgspec.structs.replace(known, gpu_graphs=forms, format_version=3), folder)
    model_files.copy(model_files.choose(str(folder), None, "x86_64"), target)
    made = contract.read(target)
    assert made.gpu_graphs == {} and made.format_version == contract.PLAIN_VERSION
    assert made.graphs == known.graphs

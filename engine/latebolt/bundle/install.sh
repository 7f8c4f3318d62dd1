#!/bin/sh
# Installs latebolt out of this folder, without a network. `sh install.sh --help` says how.
set -eu

usage() {
    cat <<END
sh install.sh [--into FOLDER] [--python PYTHON] [--no-venv]

Makes a Python environment at FOLDER (latebolt, in the folder you are in) and installs latebolt
and its model there, from the files beside this script alone. FOLDER is removed again if that fails.

--python PYTHON  the interpreter (python@PYTHON@, else python3)
--no-venv        install into PYTHON itself; the model goes to FOLDER/models
END
}

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

into=latebolt
python=
venv=yes
while [ $# -gt 0 ]; do
    case $1 in
        --into | --python) [ $# -ge 2 ] || fail "$1 wants a value" ;;
    esac
    case $1 in
        --into) into=$2; shift 2 ;;
        --into=*) into=${1#*=}; shift ;;
        --python) python=$2; shift 2 ;;
        --python=*) python=${1#*=}; shift ;;
        --no-venv) venv=; shift ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done

here=$(cd "$(dirname "$0")" && pwd)
if [ -z "$python" ]; then
    python=python3
    if command -v python@PYTHON@ >/dev/null 2>&1; then python=python@PYTHON@; fi
fi
command -v "$python" >/dev/null 2>&1 || fail "there is no $python. Install Python @PYTHON@, or name it with --python."

# The right machine, the right Python, and every file as it was packed.
"$python" - "$here" <<'END' || exit 1
import hashlib, json, os, platform, sys

here = sys.argv[1]
with open(os.path.join(here, "manifest.json"), encoding="utf-8") as file:
    manifest = json.load(file)
problems = []
version = "%d.%d" % sys.version_info[:2]
if version != manifest["python"]:
    problems.append("this bundle is for Python %s, and %s is %s. Name another with --python, or make a bundle with "
                    "--python %s." % (manifest["python"], sys.executable, version, version))
if platform.machine().lower() != manifest["machine"].lower():
    problems.append("this bundle is for %s, and this machine is %s. Make one for its --platform."
                    % (manifest["machine"], platform.machine()))
for entry in [] if problems else manifest["files"]:
    digest = hashlib.sha256()
    try:
        with open(os.path.join(here, *entry["path"].split("/")), "rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    except OSError as error:
        problems.append("%s: %s. Unpack the bundle again." % (entry["path"], error.strerror))
        continue
    if digest.hexdigest() != entry["sha256"]:
        problems.append("%s: is damaged. Unpack the bundle again, or copy it again." % entry["path"])
for problem in problems[:5]:
    sys.stderr.write("install.sh: %s\n" % problem)
sys.exit(1 if problems else 0)
END

# What is made here goes again if it is not finished.
made=
undo() {
    [ -z "$made" ] || rm -rf "$made"
}
trap 'undo' EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

if [ -e "$into" ] && [ -n "$(ls -A "$into" 2>/dev/null)" ]; then
    fail "$into is there already, and not empty. Remove it, or choose another with --into."
fi
mkdir -p "$into"
into=$(cd "$into" && pwd)
made=$into

if [ -n "$venv" ]; then
    # Debian keeps what puts pip into an environment in a package of its own; the interpreter's pip does as well.
    if "$python" -m venv "$into" >/dev/null 2>&1; then
        run=$into/bin/python
        set -- "$run" -m pip
    elif "$python" -m venv --clear --without-pip "$into" && "$python" -m pip --version >/dev/null 2>&1; then
        run=$into/bin/python
        set -- "$python" -m pip --python "$run"
    else
        fail "$python can make no environment. Install its venv module and pip (Debian: apt install python3-venv), or use --no-venv."
    fi
else
    run=$python
    set -- "$python" -m pip
    "$@" --version >/dev/null 2>&1 || fail "$python has no pip. Leave out --no-venv, or install pip."
fi
# All that is needed is listed; what packages require beside that and latebolt never has them use is not there.
# pip's own configuration may name an index or bounds, and none of that is wanted here.
PIP_CONFIG_FILE=/dev/null PIP_NO_INDEX=1 PIP_FIND_LINKS= PIP_CONSTRAINT= PIP_DISABLE_PIP_VERSION_CHECK=1 \
    "$@" install --no-deps --no-index --find-links "$here/wheels" --only-binary=:all: --require-hashes \
    --requirement "$here/requirements.txt"
if [ -d "$here/models" ]; then cp -R "$here/models" "$into/models"; fi
made=

command=latebolt
[ -z "$venv" ] || command=$into/bin/latebolt
cat <<END

latebolt is installed. A folder of texts becomes an index, and answers:
  $command index notes.index FOLDER --model "@MODEL@"
  $command search notes.index "a question"
END

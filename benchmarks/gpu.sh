#!/usr/bin/env bash
# All that has to be seen on a GPU, in one go and in under ten minutes: what will run, the tests that want a
# GPU, parity of every path at small sizes, then the benchmarks. Needs no network; goes on after a failure.
#
#   benchmarks/gpu.sh --wheels FOLDER --out FOLDER        on a machine with a GPU
#   benchmarks/gpu.sh --quick --out FOLDER                all of it on the CPU, at the smallest sizes
#
# Needs Python with torch (CUDA 13), transformers, onnx, numba-cuda, pytest and what latebolt requires. FOLDER of
# wheels: onnxruntime-gpu for that Python, and whatever else the machine lacks (it says so, and stops); a wheel may
# lie there in pieces, NAME.whl.00, NAME.whl.01 and on, as thin_wheel.py and `split -b 48M -d` make them. They are
# installed without their dependencies into a folder of their own, in front of what the machine has. Models have
# random weights and are made here; compiled kernels (engine/latebolt/kernels/ahead/built, by "python -m
# latebolt.kernels.build") save half a minute where they are brought along.
#
# Leaves in the folder --out: summary.txt (every step with its end and seconds), log.txt, doctor.json, and a
# record for each benchmark. Exit code 1 where a step failed.
set -uo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
python=python3 out="" wheels="" seconds=590 quick=""
while [ $# -gt 0 ]; do
  case $1 in
    --quick) quick=1; shift ;;
    --out) out=$2; shift 2 ;;
    --wheels) wheels=$2; shift 2 ;;
    --python) python=$2; shift 2 ;;
    --seconds) seconds=$2; shift 2 ;;
    *) echo "gpu.sh: what is $1? See the head of $0." >&2; exit 2 ;;
  esac
done
[ -n "$out" ] || { echo "gpu.sh: give --out FOLDER, for the records and the log." >&2; exit 2; }
mkdir -p "$out" && out=$(cd "$out" && pwd)
[ -z "$wheels" ] || wheels=$(cd "$wheels" && pwd) || exit 2
scratch=$(mktemp -d)
export LATEBOLT_GPU_ASSETS=${LATEBOLT_GPU_ASSETS:-$scratch/assets}
trap 'rm -rf "$scratch"' EXIT
begun=$SECONDS failed=0
cd "$root" || exit 2
: >"$out/log.txt"; : >"$out/summary.txt"

if [ -n "$wheels" ]; then
  mkdir -p "$scratch/wheels" "$scratch/site"
  for first in "$wheels"/*.whl.00; do
    [ -e "$first" ] && cat "${first%.00}".[0-9][0-9] >"$scratch/wheels/$(basename "${first%.00}")"
  done
  find "$wheels" "$scratch/wheels" -name '*.whl' -print0 |
    xargs -0 "$python" -m pip install -q --no-index --no-deps --no-compile --no-cache-dir --upgrade \
      --target "$scratch/site" >>"$out/log.txt" 2>&1 ||
    { echo "gpu.sh: the wheels in $wheels cannot be installed; see $out/log.txt" >&2; exit 2; }
fi
export PYTHONPATH="$scratch/site:$root/engine:$root/export${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
libraries=$("$python" - <<'PY'
import sys
from pathlib import Path
print(":".join(str(f) for root in sys.path for f in sorted(Path(root or ".").glob("nvidia/*/lib"))))
PY
)
export LD_LIBRARY_PATH="$libraries${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
missing=$("$python" - <<'PY'
import importlib.util as util
wanted = "numpy tokenizers msgspec click tqdm filelock platformdirs pathspec onnxruntime numba llvmlite torch onnx"
wanted += " transformers safetensors pytest hypothesis"
print(*[name for name in wanted.split() if util.find_spec(name) is None])
PY
)
[ -z "$missing" ] || { echo "gpu.sh: $python lacks $missing. Bring wheels of them in --wheels." >&2; exit 2; }

# The last line of the log that is a step's own: ONNX Runtime writes past it, in colours.
said() { grep -avE '^ *$|onnxruntime|'$'\x1b' "$out/log.txt" | tail -1; }

left() { echo $((seconds - (SECONDS - begun))); }

# step NAME LIMIT COMMAND...: within its limit and what is left of all; what it prints goes into the log.
step() {
  local name=$1 limit=$2 start=$SECONDS code
  shift 2
  [ "$limit" -le "$(left)" ] || limit=$(left)
  if [ "$limit" -lt 5 ]; then
    echo "$name: not begun, no time is left" | tee -a "$out/summary.txt"; failed=1; return
  fi
  printf '\n===== %s (at most %s s): %s\n' "$name" "$limit" "$*" >>"$out/log.txt"
  timeout -k 10 "$limit" "$@" >>"$out/log.txt" 2>&1
  code=$?
  [ $code -eq 0 ] || failed=1
  case $code in
    0) code=well ;;
    124 | 137) code="stopped at its limit of $limit s; what it had is recorded" ;;
    *) code="exit code $code: $(said | cut -c1-200)" ;;
  esac
  echo "$name: $code, $((SECONDS - start)) s" | tee -a "$out/summary.txt"
}

doctor() { "$python" -m latebolt doctor --json "$@" >"$out/doctor.json"; local code=$?; cat "$out/doctor.json"; return $code; }
export -f doctor; export python out

if [ -n "$quick" ]; then
  mode=(--device cpu)
  step doctor 120 bash -c doctor
else
  mode=()
  # The large model is made while the checks run, which use the CPU little and are not timed.
  timeout "$seconds" "$python" benchmarks/gpu_models.py --only full >"$scratch/full.txt" 2>&1 &
  making=$!
  nvidia-smi >>"$out/log.txt" 2>&1
fi
step "make the models for checks" 120 "$python" benchmarks/gpu_models.py --quick
export LATEBOLT_GPU_MODEL=$LATEBOLT_GPU_ASSETS/quick/small
[ -n "$quick" ] || step doctor 120 bash -c 'doctor --device cuda --model "$LATEBOLT_GPU_MODEL"'
# Each file by itself: one whose libraries are not here (the server's, say) fails with their name in the log.
while read -r file; do
  step "$file" 120 "$python" -m pytest -q -m gpu -p no:cacheprovider -rs "$file"
done < <(grep -rlE 'mark\.gpu\b' tests/engine tests/export --include 'test_*.py' | sort)
if [ -n "$quick" ]; then
  for name in encode_gpu index_gpu search_gpu; do step "$name" 240 "$python" "benchmarks/$name.py" "${mode[@]}"; done
else
  for name in encode_gpu index_gpu search_gpu; do
    step "parity: $name at small sizes" 90 "$python" "benchmarks/$name.py" --quick --limit 45
  done
  step "search_gpu to a million" 110 "$python" benchmarks/search_gpu.py --sizes 100000,1000000 --limit 60
  step "the large model is made" 150 tail --pid="$making" -f /dev/null
  cat "$scratch/full.txt" >>"$out/log.txt"
  step "encode_gpu full" 200 "$python" benchmarks/encode_gpu.py --models full --limit 110
  step "encode_gpu small" 110 "$python" benchmarks/encode_gpu.py --models small --limit 45
  step "index_gpu full" 70 "$python" benchmarks/index_gpu.py --models full --limit 45
  step "index_gpu small" 60 "$python" benchmarks/index_gpu.py --models small --limit 40
  step "search_gpu of ten million" 300 "$python" benchmarks/search_gpu.py --sizes 10000000 --limit 290 \
    --only latebolt
  kill "$making" 2>/dev/null
  cp benchmarks/results/{encode,index,search}_gpu.json "$out/" 2>/dev/null
fi
echo "all: $((SECONDS - begun)) s; the log is $out/log.txt" | tee -a "$out/summary.txt"
exit $failed

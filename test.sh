#!/usr/bin/env bash
# Everything CI runs: sets up what tests need, then style, types, import rules and all tests.
#   ./test.sh                      all of that; every step runs, whatever an earlier one said
#   ./test.sh --quick              the same with the unit tests alone, without those that start processes, and with a
#                                  fifth of the examples for properties
#   ./test.sh tests/unit -k name   only pytest, with these arguments
#   ./test.sh --comfyui PATH [--comfyui-python PATH]   the engine tests on another ComfyUI; without a Python that runs it,
#                                  an environment for it is set up (runtime/versions/), and used again the next time
#   ./test.sh --bench NAME|all     a measurement of bench/ in the tests' environment; its JSON is the last line
#   ./test.sh --soak SECONDS       a worker under random faults and hostile traffic for so long (--json, --seed N,
#                                  --engines N, --real, --browsers N that look at its dashboard all the time); the
#                                  last line says whether every popped job was answered once, no good job was lost,
#                                  the dashboard answered whenever it was to, and nothing leaked
#   ./test.sh --card [cuda|rocm|cpu] [options of bench/card.py]   the engine tests on this machine's card, then its
#                                  measurement: for owners of cards that nobody here has; the JSON is in card.json
#   ./test.sh --bare-root [FOLDER] whether one line is enough on a bare Debian, in a chroot (root, mmdebstrap)
#   ./test.sh --wine               the batch files under wine, with a Python for Windows
set -u -o pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P) && cd -- "$here" || exit 1
runtime=${AIWORKER_RUNTIME_DIR:-$here/runtime}
bin=${runtime/#\~/${HOME:-}}/worker/bin
failed=()

step() {
    echo "== $1"
    "${@:2}" || failed+=("$1")
}

# Measurements are the files of bench/ that say whether they meet their goal; others are their helpers.
benches() {
    grep -l '"meets"' bench/*.py | sed 's|^bench/||; s|\.py$||'
}

all_benches() {
    local name
    # The measurement of a card has a command of its own: --card.
    for name in $(benches | grep -vx card); do
        echo "== $name" >&2
        printf '%s\t%s\n' "$name" "$("$bin/python" "bench/$name.py" | tail -n 1)"
    done | "$bin/python" -c '
import json, sys
rows = {}
for line in sys.stdin:
    name, _, text = line.rstrip("\n").partition("\t")
    try:
        row = json.loads(text)
        rows[name] = {"figure": row["figure"], "goal": row["goal"], "meets": row["meets"]}
    except (ValueError, KeyError, TypeError):
        rows[name] = {"figure": None, "goal": None, "meets": False, "error": "it ended without its figures"}
print(json.dumps(rows))
sys.exit(any("error" in row for row in rows.values()))'
}

# Programs that some tests drive: a browser, and Prometheus with promtool. Debian's packages, installed where that can
# be done without a question; elsewhere it is said what to install, and the tests that need them fail.
system_programs() {
    local program packages=() as_root=()
    for program in chromium:chromium chromedriver:chromium-driver prometheus:prometheus promtool:prometheus; do
        command -v "${program%%:*}" >/dev/null || packages+=("${program#*:}")
    done
    [ ${#packages[@]} -gt 0 ] || return 0
    [ "$(id -u)" = 0 ] || as_root=(sudo -n)
    echo "== Installing ${packages[*]}, which tests need"
    if ! command -v apt-get >/dev/null || ! ${as_root[@]+"${as_root[@]}"} true 2>/dev/null; then
        echo "== Please install them: on Debian and Ubuntu by sudo apt-get install ${packages[*]}" >&2
        return 0
    fi
    # The service that the package of Prometheus would start is of no use here.
    local quiet=(env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get -qq -o DPkg::Lock::Timeout=300)
    ${as_root[@]+"${as_root[@]}"} "${quiet[@]}" update &&
        ${as_root[@]+"${as_root[@]}"} "${quiet[@]}" install -y --no-install-recommends "${packages[@]}" >&2 ||
        echo "== They could not be installed; see the lines above." >&2
}

case "${1:-}" in
    --bare-root) exec tools/bare-root.sh "${@:2}" ;;
    --wine) exec tools/wine-batch.sh ;;
esac

./update-runtime.sh --dev || exit

# Four processes, each with an engine of its own that keeps to one core: on fewer cores as well, since tests with
# processes of their own wait most of their time; more fill the memory. Each begins with a share of the tests in their
# order, so that what tests of a module share is made once; who is done first takes from the others.
parallel=(-n 4 --dist worksteal)
chosen=()
case "${1:-}" in
    "") system_programs; chosen=("${parallel[@]}") ;;
    --quick) chosen=("${parallel[@]}" -m "not processes" --hypothesis-profile quick tests/unit) ;;
    --bench)
        case "${2:-}" in
            all) all_benches; exit ;;
            "") echo "Usage: ./test.sh --bench all|$(benches | paste -sd '|')" >&2; exit 2 ;;
            *) exec "$bin/python" "bench/$2.py" "${@:3}" ;;
        esac ;;
    --card)
        shift
        card=auto
        case "${1:-}" in cuda | rocm | cpu) card=$1; shift ;; esac
        device=auto
        [ "$card" = cpu ] && device=cpu
        AIWORKER_TEST_DEVICE=$device step "engine tests" "$bin/python" -m pytest tests/engine -m "not cpu"
        step "measurement" "$bin/python" bench/card.py --card "$card" --out card.json "$@"
        echo "== The figures are in card.json."
        exit $((${#failed[@]} > 0)) ;;
    --comfyui)
        [ $# -ge 2 ] || { echo "Usage: ./test.sh --comfyui PATH [--comfyui-python PATH] [pytest's arguments]" >&2; exit 2; }
        AIWORKER_TEST_COMFYUI=$2
        shift 2
        if [ "${1:-}" = --comfyui-python ]; then
            [ $# -ge 2 ] || { echo "--comfyui-python needs a path" >&2; exit 2; }
            AIWORKER_TEST_COMFYUI_PYTHON=$2
            shift 2
        else
            AIWORKER_TEST_COMFYUI_PYTHON=$("$bin/python" -m tests.engine.environment "$AIWORKER_TEST_COMFYUI") || exit
        fi
        export AIWORKER_TEST_COMFYUI AIWORKER_TEST_COMFYUI_PYTHON
        exec "$bin/python" -m pytest tests/engine "$@" ;;
    --soak) exec "$bin/python" -m tests.chaos.soak "${@:2}" ;;
    *)
        # Unit tests drive no such program.
        for each in "$@"; do
            case $each in tests/unit*) unit=1 ;; esac
        done
        [ -n "${unit:-}" ] || system_programs
        exec "$bin/python" -m pytest "$@" ;;
esac

step "ruff check" "$bin/ruff" check .
step "ruff format" "$bin/ruff" format --check .
step "mypy" "$bin/mypy"
step "lint-imports" "$bin/lint-imports"
if [ ${#failed[@]} -gt 0 ]; then
    echo "== Failed so far: ${failed[*]}"
fi
# Numba, which helps to cut subjects out, would give torch a thread for each core again.
export OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1
# Hundreds of processes are started, and without this each would compile all that it imports.
unset PYTHONDONTWRITEBYTECODE
# Last, so that the last line is pytest's summary.
step "pytest" "$bin/python" -m pytest "${chosen[@]}"
exit $((${#failed[@]} > 0))

#!/usr/bin/env bash
# Measures the card of this machine, without network: ./card.sh [--card cuda|rocm|cpu] [--only GROUP …] [--out FILE]
# ./card.sh --tests [pytest arguments] runs the engine tests on the card instead.
# PYTHON names the Python that has torch (default: python3). Everything is written below this folder.
set -eu

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)
python=${PYTHON:-python3}
runtime=$here/runtime
venv=$runtime/worker

if ! "$python" -c 'import torch, torchvision' 2>/dev/null; then
    echo "ERROR: $python can't import torch and torchvision. Set PYTHON to the Python that can." >&2
    exit 1
fi

if [ ! -e "$runtime/ready" ]; then
    echo "Setting up $runtime" >&2
    rm -rf "$runtime" && mkdir -p "$runtime"
    "$python" -m venv --without-pip "$venv"
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
    "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --disable-pip-version-check \
        --root-user-action=ignore --target "$site" "$here"/wheels/*.whl
    # The project, and behind all that travelled with it what this Python has: torch above all.
    { echo "$here"; "$python" -c 'import sys; print("\n".join(path for path in sys.path if path.endswith("-packages")))'; } \
        >"$site/kit.pth"
    ln -s worker "$runtime/engine"
    ln -s ../comfyui "$runtime/comfyui"
    AIWORKER_RUNTIME_DIR=$runtime "$venv/bin/python" -c '
import torch
from worker.engine.install.layout import Runtime
from worker.engine.install.machine import Accelerator
from worker.engine.install.record import Record
kind = Accelerator.CPU
if torch.cuda.is_available():
    kind = Accelerator.ROCM if torch.version.hip else Accelerator.CUDA
Record(accelerator=kind).save(Runtime.locate().state)'
    touch "$runtime/ready"
fi

export AIWORKER_RUNTIME_DIR=$runtime
if [ "${1:-}" = --tests ]; then
    cd "$here"
    AIWORKER_TEST_DEVICE=${AIWORKER_TEST_DEVICE:-auto} exec "$venv/bin/python" -m pytest tests/engine -m "not cpu" "${@:2}"
fi
exec "$venv/bin/python" "$here/bench/card.py" "$@"

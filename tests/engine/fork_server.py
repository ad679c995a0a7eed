"""Carries out scripts beside a ComfyUI, each in a fork: `python fork_server.py COMFYUI`.

Reads one order a line, and answers each with the exit code of the fork that carried it out. Runs in the engine's
Python, with ComfyUI on the CPU.
"""

import json
import os
import sys
import traceback
from typing import Any


def carry_out(order: dict[str, Any]) -> None:
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(order[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    code = 0
    try:
        sys.argv[1:] = order["arguments"]
        exec(compile(order["script"], "<script>", "exec"), {"__name__": "__main__"})
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def main() -> None:
    sys.path.insert(0, sys.argv[1])
    from comfy.cli_args import args

    args.cpu = True

    for line in sys.stdin:
        child = os.fork()
        if not child:
            carry_out(json.loads(line))
        sys.stdout.write(f"{os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()

"""What all child processes of the worker share: their environment, session, log and end.

A child gets no key and no token of the worker's, runs in a session of its own, and its log is bounded.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

from loguru import logger

from worker.aio import timeout, to_the_end
from worker.file_facts import end_of
from worker.process.signals import name_of_signal
from worker.untrusted.text import without_colours

#: Seconds that a child gets to end by itself before it is killed.
STOP_TIMEOUT_S = 5.0
#: Seconds that a cancelled caller is held up until the killed child is gone.
REAP_TIMEOUT_S = 1.0
#: A log file larger than this is moved to `.log.1`, which is overwritten.
LOG_LIMIT_BYTES = 16 * 1024 * 1024
#: Lines of a child's log that go into an error, and bytes in which they are looked for.
LOG_TAIL_LINES, LOG_TAIL_BYTES = 12, 8192
#: What programs need to find themselves, their libraries, folders, language and certificates; and the way out to the
#: hosts of weights.
NEEDED = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TMP", "TEMP", "TERM", "OS",
    "LD_LIBRARY_PATH", "LD_PRELOAD", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "FTP_PROXY", "NO_PROXY", "CC", "CXX", "CONDA_PREFIX",
    "HF_HOME", "HF_ENDPOINT", "HUGGINGFACE_HUB_CACHE",
    # Windows
    "SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "APPDATA", "LOCALAPPDATA", "PROGRAMDATA",
    "ALLUSERSPROFILE", "USERPROFILE", "USERNAME", "USERDOMAIN", "HOMEDRIVE", "HOMEPATH", "PUBLIC", "COMPUTERNAME",
    "NUMBER_OF_PROCESSORS", "DRIVERDATA",
})  # fmt: skip
#: Groups of variables: locale and folders; programs of Windows; drivers and libraries of the cards; threads and memory
#: of numeric libraries; caches of weights.
NEEDED_PREFIXES = (
    "LC_", "XDG_", "DYLD_", "WSL", "PROGRAMFILES", "COMMONPROGRAM", "PROCESSOR_",
    "CUDA_", "CUDNN_", "CUBLAS_", "NCCL_", "NVIDIA_", "NV_", "PYTORCH_", "TORCH", "TRITON_", "XFORMERS_",
    "HIP_", "HIPBLASLT_", "ROCM_", "ROCR_", "ROCBLAS_", "HSA_", "AMD_", "MIOPEN_", "GPU_", "FLASH_ATTENTION_",
    "ZE_", "SYCL_", "ONEAPI_", "UR_", "IPEX_", "IGC_", "DML_", "MESA_", "VK_", "DRI_",
    "OMP_", "MKL_", "KMP_", "GOMP_", "OPENBLAS_", "NUMEXPR_", "NUMBA_", "MALLOC_", "MIMALLOC_",
    "HF_HUB_", "HF_DATASETS_", "TRANSFORMERS_", "DIFFUSERS_", "ZLUDA_",
)  # fmt: skip
#: No variable with any of these in its name, whatever group it belongs to.
SECRET_PARTS = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSPHRASE", "PASSWD", "CREDENTIAL", "AUTH")
#: Read and written at a time while a log is set aside.
COPY_BYTES = 1024 * 1024
#: Exit codes of Windows from here on are status codes such as 0xC0000005, an access violation.
NTSTATUS = 0x8000_0000


def child_environment(additions: Mapping[str, str]) -> dict[str, str]:
    """The variables that a child gets: those of the worker's that it needs, and `additions`.

    A list of what is allowed, since an owner's environment holds keys of programs that nobody here knows of.
    """
    kept = {name: value for name, value in os.environ.items() if _is_needed(name)}
    return {**kept, "PYTHONUNBUFFERED": "1", "PYTHONNOUSERSITE": "1", **additions}


async def start_child(
    command: Sequence[str], environment: Mapping[str, str], *, stdout: int | BinaryIO, stderr: int | BinaryIO
) -> asyncio.subprocess.Process:
    """Start a child with these variables beside those it needs, in a session of its own: Ctrl+C goes to the worker
    alone, which lets the child finish. Raises OSError.

    Call it from the thread of the event loop: Linux ends the child when the thread that started it ends.
    """
    return await asyncio.create_subprocess_exec(
        *command,
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=stderr,
        env=child_environment(environment),
        start_new_session=sys.platform != "win32",
        creationflags=getattr(subprocess, "CREATE_NEW_PROCESS_GROUP", 0),
    )


async def open_log(log_file: Path) -> BinaryIO:
    """A child's log to append to; set aside first where it has grown. Raises OSError."""
    await trim_log(log_file)
    log_file.parent.mkdir(parents=True, exist_ok=True)
    return log_file.open("ab")


async def end_child(child: asyncio.subprocess.Process, *, timeout_s: float, name: str) -> None:
    """Terminate the process, and kill it after `timeout_s`. Harmless when it has ended."""
    try:
        if timeout_s > 0 and await _ends(child, "SIGTERM", timeout_s):
            return
        killed = await _ends(child, "SIGKILL", STOP_TIMEOUT_S)
    except asyncio.CancelledError:
        # The caller waits no longer, but the child must not survive.
        await to_the_end(_ends(child, "SIGKILL", REAP_TIMEOUT_S))
        raise
    if not killed:
        # It hangs in a call of the driver, where no signal reaches it; the worker must not wait for it.
        logger.bind(action="child_stuck", pid=child.pid).error(
            "The {} (pid {}) does not end even when killed: its driver is stuck. Restart the machine.", name, child.pid
        )


async def _ends(child: asyncio.subprocess.Process, by: str, timeout_s: float) -> bool:
    with contextlib.suppress(ProcessLookupError):
        if sys.platform == "win32":
            child.kill()
        elif child.returncode is None:
            # Not by the child's own methods: these look first whether it has ended, and so may take its exit code
            # away from the event loop, which then knows it as 255 and warns of an unknown child process.
            os.kill(child.pid, signal.Signals[by])
    try:
        async with timeout(timeout_s):
            await child.wait()
    except TimeoutError:
        return False
    return True


def log_tail(log_file: Path) -> str:
    """The last lines of a log; empty if it can't be read."""
    try:
        lines = end_of(log_file, LOG_TAIL_BYTES).decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(without_colours(line) for line in lines[-LOG_TAIL_LINES:])


def describe_exit(code: int | None) -> tuple[str, str]:
    """How a process ended, as the rest of a sentence about it, and what the owner can do; either may say nothing.

    `code`: negative for a signal, as asyncio gives it; Windows' large ones are shown as its documentation does.
    """
    if code is None:
        return "ended", ""
    if code < 0:
        name = name_of_signal(code) or f"signal {-code}"
        remedy = "Linux does so when the memory of the machine is used up: see dmesg." if name == "SIGKILL" else ""
        return f"was killed by {name}", remedy
    return f"ended with code {code if code < NTSTATUS else f'0x{code:08X}'}", ""


async def trim_log(log_file: Path) -> None:
    """Move a large log to `.log.1`; the child continues in the emptied file. Runs in a thread."""
    await asyncio.to_thread(_trim_log, log_file)


def _trim_log(log_file: Path) -> None:
    try:
        size = log_file.stat().st_size
        if size <= LOG_LIMIT_BYTES:
            return
        # Only its end is kept: a flood of lines must not fill the disk twice. Without room for that the old lines are
        # dropped.
        with contextlib.suppress(OSError), log_file.open("rb") as log, log_file.with_suffix(".log.1").open("wb") as old:
            log.seek(size - LOG_LIMIT_BYTES)
            shutil.copyfileobj(log, old, COPY_BYTES)
        os.truncate(log_file, 0)
    except FileNotFoundError:
        pass
    except OSError as error:
        logger.warning("The log {} can't be set aside: {}", log_file, error)


def _is_needed(variable: str) -> bool:
    name = variable.upper()
    return (name in NEEDED or name.startswith(NEEDED_PREFIXES)) and not any(part in name for part in SECRET_PARTS)

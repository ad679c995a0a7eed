"""What to do about a failed command, from what it said; about an error of the system, from its number. Pure.

The order counts: the first that fits is told.
"""

import errno
import re
from collections.abc import Iterable
from typing import Final

from worker.process.signals import name_of_signal

_DISK: Final = (
    "The disk is full (or out of inodes, or of your quota): make room, or set AIWORKER_RUNTIME_DIR to another."
)
_RIGHTS: Final = (
    "It belongs to another user, perhaps from a run with sudo: give it back with `sudo chown -R YOU FOLDER`, or set "
    "AIWORKER_RUNTIME_DIR to a folder of yours."
)
_MEMORY: Final = (
    "The memory is full, or a limit of it is reached (a container's, ulimit -v): close other programs, add swap, or "
    "raise it."
)
_READ_ONLY: Final = "The disk can only be read: set AIWORKER_RUNTIME_DIR to a folder that can be written."

#: What uv, git, curl or Python write -> what to do.
_SAID: Final = tuple(
    (re.compile(pattern, re.IGNORECASE), remedy)
    for pattern, remedy in (
        (r"no space left on device|disk quota exceeded|not enough space on the disk|\(os error (28|112|122)\)", _DISK),
        # Our own script has said why, and what to do.
        (r"[/\\]uv(\.exe)? can't be run", "Do what the lines above say, then run update-runtime again."),
        (
            r"no locks available|could not acquire lock",
            "This disk has no locks, as some network drives: set AIWORKER_RUNTIME_DIR to a disk of this machine.",
        ),
        (r"memory allocation of \d+ bytes failed|cannot allocate memory", _MEMORY),
        (r"too many open files", "A limit of open files is reached: `ulimit -n 4096`, then run again."),
        (
            r"failed to spawn thread|resource temporarily unavailable",
            "A limit of processes is reached (ulimit -u, the pids limit of a container): raise it.",
        ),
        (
            r"file too large",
            "The disk (FAT32) or `ulimit -f` takes no file of this size: set AIWORKER_RUNTIME_DIR to another disk.",
        ),
        (
            r"exec format error",
            "A program there is damaged or for another machine: delete `uv-…` in the runtime's folder, then run again.",
        ),
        (r"input/output error", "The disk reports errors: see `dmesg`, and use another disk."),
        (r"read-only file system|\(os error 30\)", _READ_ONLY),
        (
            r"incompatible hardlinks|\(os error 396\)",
            "The folder is kept in step with a server (OneDrive or such): move it elsewhere, or set UV_LINK_MODE=copy.",
        ),
        (
            r"access is denied|used by another process|winerror (5|32)\b|\(os error (5|32)\)",
            "Stop the worker and whatever else uses the folder; exempt the folder from the virus scanner; run again.",
        ),
        (
            r"failed to (sym)?link ",
            "The disk knows no links (FAT, exFAT, some network shares): set AIWORKER_RUNTIME_DIR to another.",
        ),
        (r"permission denied|operation not permitted|\(os error 13\)", _RIGHTS),
        (
            r"certificate.*(expired|not valid yet|NotValidYet)|certificate is not yet valid",
            "Set the clock of this machine: by its date no certificate is valid.",
        ),
        (
            r"invalid peer certificate|certificate.verify.failed|unknownissuer|self.signed certificate",
            "A proxy or a virus scanner inspects TLS with a certificate of its own: SSL_CERT_FILE=/path/to/it.pem.",
        ),
        (
            r"network connectivity is disabled|the network was disabled",
            "The network is switched off here (UV_OFFLINE, or AIWORKER_WHEELS, whose folder lacks this file).",
        ),
        (
            r"hash mismatch",
            "A mirror or proxy handed out another file; nothing of it was installed. Use another mirror.",
        ),
        (
            r"\b(401 unauthorized|403 forbidden|407 proxy)|authentication (is )?required",
            "The index or the proxy refuses: check its address, user and password (in the URL, .netrc or keyring).",
        ),
        (
            r"missing `content-type`|unexpected html|unsupported content.type",
            "Something else than a package index answered: a page to log in to the network, or a wrong address.",
        ),
        (
            r"was not found in the (package registry|provided package locations)|there is no version of",
            "The index does not have this package, or refuses it: check the address and your right to read it.",
        ),
        (
            r"dubious ownership",
            "The folder is another user's: run as that user, or `git config --global --add safe.directory FOLDER`.",
        ),
        (
            r"version `glibc_[\d.]+' not found|no wheels with a matching platform tag|not a supported wheel on this",
            "This system is too old for the packages: it needs glibc 2.28 (Debian 10, Ubuntu 20.04), or Windows 10.",
        ),
        (
            r"undefined symbol|version `(glibcxx|cxxabi|gomp|openssl)_[\w.]+' not found",
            "Another program's libraries come before the packages' own: unset LD_LIBRARY_PATH and LD_PRELOAD.",
        ),
        (
            r"dll load failed|winerror 126|vcruntime",
            "Install Microsoft's Visual C++ Redistributable (x64), then run again.",
        ),
    )
)
#: Numbers of errors of the system -> what to do.
_NUMBERED: Final = {
    errno.ENOSPC: _DISK,
    errno.EDQUOT: _DISK,
    errno.EROFS: _READ_ONLY,
    errno.EACCES: _RIGHTS,
    errno.EPERM: _RIGHTS,
}
#: Signals that end a command -> what to do.
_ENDED: Final = {
    "SIGKILL": f"The system ended it, as it does where memory runs out. {_MEMORY}",
    "SIGILL": "The processor is too old for the packages, which need its AVX instructions.",
    "SIGBUS": "The disk is full or reports errors: make room, see `dmesg`, then run update-runtime --repair.",
    "SIGSEGV": "A file is damaged, or the memory is: run update-runtime --repair.",
    "SIGXFSZ": "A limit of the size of files is reached: `ulimit -f unlimited`, then run again.",
}


def remedy_of_end(code: int) -> str | None:
    """What to do about a command that the system ended."""
    return _ENDED.get(name_of_signal(code) or "")


def remedy_of(lines: Iterable[str]) -> str | None:
    """What to do about a command that ended with these lines; None where they say nothing that is known."""
    text = "\n".join(lines)
    return next((remedy for pattern, remedy in _SAID if pattern.search(text)), None)


def remedy_of_error(error: OSError) -> str | None:
    """What to do about an error of the system."""
    return _NUMBERED.get(error.errno or 0)

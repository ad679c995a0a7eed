"""systemctl and schtasks: asked and told. Everything may be done twice, so what was interrupted is done again."""

import contextlib
import getpass
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from worker.errors import ConfigError
from worker.service.order import STOP_LIMIT_S, Order, task_xml, unit_text
from worker.whole_file import write_whole

#: Time for a word to the service manager; stopping takes as long as the worker's drain.
LIMIT_S: Final = 60.0
SYSTEM_UNITS: Final = Path("/etc/systemd/system")
#: There where systemd is the first process.
SYSTEMD_RUNS: Final = Path("/run/systemd/system")
#: Where systemd of each user listens, in a folder named by the user's number.
USERS_RUN: Final = Path("/run/user")


@dataclass(frozen=True)
class State:
    """How a service stands."""

    label: str
    #: the unit file; "" for a task
    file: str = ""
    installed: bool = False
    enabled: bool = False
    #: None: the system does not say
    active: bool | None = False
    #: starts without a login
    at_boot: bool = False
    text: str = ""


@dataclass(frozen=True)
class Systemd:
    """Units of this user; of the system where the worker is somebody else's, which root alone may write."""

    order: Order

    @property
    def _is_system(self) -> bool:
        return bool(self.order.user)

    @property
    def _unit(self) -> str:
        return f"{self.order.label}.service"

    @property
    def file(self) -> Path:
        """Where the unit is, or will be."""
        if self._is_system:
            return SYSTEM_UNITS / self._unit
        return Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user" / self._unit

    def install(self, *, start: bool) -> State:
        """Write the unit, enable it, start it if wanted. Raises ConfigError, OSError."""
        self._require()
        try:
            text = unit_text(self.order)
        except ValueError as error:
            raise ConfigError(
                f"{self.order.folder} can't be named in a unit: {error}.", remedy="Move the worker to another folder."
            ) from error
        # First of all, so that nothing is written where there is nobody to read it.
        self._systemctl("show-environment")
        write_whole(self.file, text, mode=0o644)
        self._systemctl("daemon-reload")
        self._systemctl("enable", self._unit)
        if start:
            self._systemctl("restart", self._unit, limit_s=STOP_LIMIT_S + LIMIT_S)
        if self.order.at_boot and not (self._is_system or self._lingers()):
            self._linger()
        return self.state()

    def remove(self) -> bool:
        """Stop, disable, delete; whether there was one. A running worker finishes its jobs first."""
        if not self.file.exists():
            return False
        self._require()
        with contextlib.suppress(ConfigError):  # of a unit that systemd has not read, or of a user without a systemd
            self._systemctl("disable", "--now", self._unit, limit_s=STOP_LIMIT_S + LIMIT_S)
        for wants in self.file.parent.glob("*.wants"):
            (wants / self._unit).unlink(missing_ok=True)
        self.file.unlink(missing_ok=True)
        with contextlib.suppress(ConfigError):
            self._systemctl("daemon-reload")
        return True

    def state(self) -> State:
        """How it stands, as far as systemd tells."""
        if not self.file.exists():
            return State(self.order.label, str(self.file))
        return State(
            self.order.label,
            str(self.file),
            installed=True,
            enabled=self._asked("is-enabled") == "enabled",
            active=self._asked("is-active") in {"active", "activating", "reloading"},
            at_boot=self._is_system or self._lingers(),
            text=self.file.read_text("utf-8", "replace"),
        )

    def _require(self) -> None:
        if not SYSTEMD_RUNS.is_dir() or shutil.which("systemctl") is None:
            raise ConfigError(
                "This system is not run by systemd, so there is nothing to install a service in.",
                remedy="In WSL write `[boot]` and `systemd=true` into /etc/wsl.conf and run `wsl --shutdown`; in a "
                "container use its restart policy; elsewhere let your init system run horde-bridge.sh.",
            )

    def _systemctl(self, *arguments: str, limit_s: float = LIMIT_S) -> None:
        command = self._command(*arguments)
        done = _run(command, limit_s, self._session)
        if done.returncode == 0:
            return
        said = (done.stderr.strip().splitlines() or ["no reason given"])[0]
        if "bus" in said.lower() and not self._is_system:
            raise ConfigError(
                "There is no systemd of this user in this session (as after su or sudo).",
                remedy=f"Log in as {_user()} itself, by ssh or on the desktop; `sudo loginctl enable-linger {_user()}` "
                "makes one without a login.",
            )
        raise ConfigError(
            f"systemctl {' '.join(command[1:])}: {said}",
            remedy=f"See: journalctl {'' if self._is_system else '--user '}-u {self._unit}",
        )

    def _asked(self, question: str) -> str:
        with contextlib.suppress(ConfigError):
            return _run(self._command(question, self._unit), LIMIT_S, self._session).stdout.strip()
        return ""

    def _command(self, *arguments: str) -> tuple[str, ...]:
        return ("systemctl", *(() if self._is_system else ("--user",)), *arguments)

    @property
    def _session(self) -> dict[str, str]:
        """The variables that lead to this user's systemd; a shell of su or sudo has none, or another's."""
        if self._is_system or sys.platform == "win32":
            return dict(os.environ)
        named, own = os.environ.get("XDG_RUNTIME_DIR"), USERS_RUN / str(os.getuid())
        if (named and _is_own(Path(named))) or not _is_own(own):
            return dict(os.environ)
        # What is said of a bus belongs to the same other session.
        kept = {key: value for key, value in os.environ.items() if key != "DBUS_SESSION_BUS_ADDRESS"}
        return kept | {"XDG_RUNTIME_DIR": str(own)}

    def _linger(self) -> None:
        done = _run(("loginctl", "enable-linger", _user()), LIMIT_S)
        if done.returncode:
            raise ConfigError(
                "The service is installed, but starts at your login only: lingering could not be switched on.",
                remedy=f"Run: sudo loginctl enable-linger {_user()}",
            )

    def _lingers(self) -> bool:
        with contextlib.suppress(ConfigError):
            return "Linger=yes" in _run(("loginctl", "show-user", _user(), "--property=Linger"), LIMIT_S).stdout
        return False


@dataclass(frozen=True)
class TaskScheduler:
    """Tasks of Windows."""

    order: Order

    def install(self, *, start: bool) -> State:
        """Make the task, run it if wanted. Raises ConfigError, OSError."""
        user = f"{os.environ.get('USERDOMAIN', '.')}\\{_user()}"
        handle, name = tempfile.mkstemp(suffix=".xml")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(task_xml(self.order, user).encode("utf-16"))
            self._schtasks("/Create", "/TN", self.order.label, "/XML", name, "/F")
        finally:
            Path(name).unlink(missing_ok=True)
        if start:
            self._schtasks("/Run", "/TN", self.order.label)
        return self.state()

    def remove(self) -> bool:
        """Delete the task; whether there was one. A worker that runs goes on."""
        if not self.state().installed:
            return False
        self._schtasks("/Delete", "/TN", self.order.label, "/F")
        return True

    def state(self) -> State:
        """How it stands; the task's XML, which is the same in every language of Windows."""
        try:
            done = _run(("schtasks", "/Query", "/TN", self.order.label, "/XML"), LIMIT_S)
        except ConfigError:
            return State(self.order.label)
        if done.returncode:
            return State(self.order.label)
        text = done.stdout
        enabled = "<Enabled>false</Enabled>" not in text.split("<Settings>")[-1]
        # Whether it runs stands in words of the system's language alone.
        return State(
            self.order.label, installed=True, enabled=enabled, active=None, at_boot="<BootTrigger>" in text,
            text=text.strip(),
        )  # fmt: skip

    def _schtasks(self, *arguments: str) -> None:
        done = _run(("schtasks", *arguments), LIMIT_S)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines() or ["no reason given"]
            raise ConfigError(
                f"schtasks {arguments[0]}: {said[0]}",
                remedy="Tasks that start with the machine need a console opened as administrator; --login needs none.",
            )


def manager_of(order: Order) -> Systemd | TaskScheduler:
    """The service manager of this system."""
    return TaskScheduler(order) if sys.platform == "win32" else Systemd(order)


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # an id without a name, as in containers
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def _is_own(folder: Path) -> bool:
    """Whether a folder is there and belongs to this user."""
    try:
        return sys.platform == "win32" or folder.stat().st_uid == os.getuid()
    except OSError:
        return False


def _run(
    command: Sequence[str], limit_s: float, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Raises ConfigError where the program is absent or hangs."""
    try:
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=limit_s,
            check=False, env=environment,
        )  # fmt: skip
    except OSError as error:
        raise ConfigError(f"{command[0]} can't be run: {error.strerror}.", remedy="Is it installed?") from error
    except subprocess.TimeoutExpired as error:
        raise ConfigError(f"{command[0]} gave no answer in {limit_s:.0f} s.", remedy="Try again.") from error

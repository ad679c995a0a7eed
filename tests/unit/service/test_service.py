"""Units and tasks, with paths as people have them; the managers of systemd and Windows asked and told."""

import json
import os
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from pathlib import Path, PureWindowsPath

import pytest

from worker.commands import service as service_commands
from worker.commands.service import is_for
from worker.errors import ConfigError
from worker.scheduling.drain import DRAIN_LIMIT_S
from worker.service import manager
from worker.service.manager import State, Systemd, TaskScheduler
from worker.service.order import STOP_LIMIT_S, Order, quoted, task_xml, unit_text

ORDER = Order(Path("/opt/hb/horde-bridge.sh"), Path("/opt/hb"))
FOLDERS = [
    "/opt/hb", "/home/fox/my worker", "/home/fox/100% mine", '/home/fox/"quoted"', "/home/fox/it's", "/srv/ünï/狐",
    "/home/fox/$HOME/x", "/home/fox/back\\slash", "/home/fox/%h and $$", "/home/fox/semi;colon #1",
]  # fmt: skip


def order_in(folder: str, **more: object) -> Order:
    return replace(ORDER, launcher=Path(folder) / "horde-bridge.sh", folder=Path(folder), **more)  # type: ignore[arg-type]


def words(line: str) -> list[str]:
    """A command line of systemd, read the way its manual describes."""
    found, word, position, inside = [], "", 0, False
    while position < len(line):
        character = line[position]
        if character == "\\" and inside:
            position += 1
            word += line[position]
        elif character == '"':
            inside = not inside
            if not inside:
                found.append(word)
                word = ""
        elif character in "%$" and inside and line[position + 1 : position + 2] == character:
            position += 1
            word += character
        else:
            assert inside or character == " ", line
            word += character if inside else ""
        position += 1
    return found


@pytest.mark.parametrize("folder", FOLDERS)
def test_any_folder_is_named_in_a_unit_as_it_is(folder, tmp_path):
    order = order_in(folder, arguments=("--config", f"{folder}/a b.yaml"))
    text = unit_text(order)
    lines = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
    assert words(lines["ExecStart"])[3:] == [f"{folder}/horde-bridge.sh", "run", "--config", f"{folder}/a b.yaml"]
    assert lines["WorkingDirectory"].replace("%%", "%") == folder
    assert is_for(State("x", installed=True, text=text), order.launcher)
    verify(text, tmp_path)


def verify(text: str, folder: Path) -> None:
    """What systemd itself says of a unit, where it is installed."""
    if analyze := shutil.which("systemd-analyze"):
        unit = folder / "horde-bridge.service"
        unit.write_text(text, "utf-8")
        done = subprocess.run([analyze, "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False)
        ours = [line for line in done.stderr.splitlines() if "horde-bridge.service" in line]
        assert (done.returncode, ours) == (0, [])


def test_a_unit_gives_the_worker_time_to_finish_its_jobs():
    text = unit_text(ORDER)
    assert f"TimeoutStopSec={STOP_LIMIT_S}" in text
    assert STOP_LIMIT_S > DRAIN_LIMIT_S + 30
    for line in ("Restart=on-failure", "KillMode=mixed", "StandardOutput=journal", "WantedBy=default.target"):
        assert line in text
    assert "WantedBy=multi-user.target" in unit_text(replace(ORDER, user="fox"))
    assert "User=fox" in unit_text(replace(ORDER, user="fox"))


def test_variables_stand_in_a_unit_without_being_read_as_specifiers():
    text = unit_text(replace(ORDER, environment=(("AIWORKER_RUNTIME_DIR", '/x y/100%/"q"'),)))
    assert 'Environment="AIWORKER_RUNTIME_DIR=/x y/100%%/\\"q\\""' in text


@pytest.mark.parametrize("mode", [0o755, 0o644], ids=["program", "unpacked without modes"])
def test_the_launcher_gets_its_words_through_the_shell_as_they_are(tmp_path, mode):
    launcher = tmp_path / 'it\'s $HOME "x"' / "say.sh"
    launcher.parent.mkdir()
    launcher.write_text('#!/bin/sh\nprintf "%s|" "$@"\n')
    launcher.chmod(mode)
    text = unit_text(replace(ORDER, launcher=launcher, arguments=("-n", "a  b$PATH%h")))
    line = next(each for each in text.splitlines() if each.startswith("ExecStart=")).removeprefix("ExecStart=")
    assert subprocess.run(words(line), capture_output=True, text=True, check=True).stdout == "run|-n|a  b$PATH%h|"


def test_a_line_break_in_a_path_is_refused():
    with pytest.raises(ValueError, match="line break"):
        unit_text(order_in("/home/fox/a\nb"))
    assert quoted("a b") == '"a b"'


def test_each_of_several_workers_has_a_service_of_its_own():
    labels = [replace(ORDER, name=name).label for name in ("", "Fox 🦊 in snow", "../../etc/x", "fox two", "狐")]
    assert labels == [
        "horde-bridge",
        "horde-bridge-fox-in-snow",
        "horde-bridge-etc-x",
        "horde-bridge-fox-two",
        "horde-bridge-26d10040",
    ]


NAMESPACE = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}


@pytest.mark.parametrize("folder", [r"C:\hb", r"C:\Users\Füchse & Co\my worker", r"D:\100%\it's", r"C:\a<b>"])
def test_any_folder_is_named_in_a_task_as_it_is(folder):
    order = Order(
        PureWindowsPath(folder) / "horde-bridge.cmd", PureWindowsPath(folder), ("-n", "Fox & Co"), name="Fox & Co"  # type: ignore[arg-type]
    )  # fmt: skip
    text = task_xml(order, "PC\\Füchsin")
    root = ET.fromstring(text.encode("utf-16"))
    launcher = f"{folder}\\horde-bridge.cmd"
    command = root.findtext("t:Actions/t:Exec/t:Command", namespaces=NAMESPACE)
    assert command is not None
    assert command.strip('"') == launcher
    assert root.findtext("t:Actions/t:Exec/t:Arguments", namespaces=NAMESPACE) == 'run -n "Fox & Co"'
    assert root.findtext("t:Actions/t:Exec/t:WorkingDirectory", namespaces=NAMESPACE) == folder
    assert root.findtext("t:Triggers/t:LogonTrigger/t:UserId", namespaces=NAMESPACE) == "PC\\Füchsin"
    assert root.findtext("t:Settings/t:ExecutionTimeLimit", namespaces=NAMESPACE) == "PT0S"
    assert root.findtext("t:Settings/t:StopIfGoingOnBatteries", namespaces=NAMESPACE) == "false"


def test_a_task_that_starts_with_the_machine_needs_no_login():
    root = ET.fromstring(task_xml(replace(ORDER, at_boot=True), "PC\\fox").encode("utf-16"))
    assert root.find("t:Triggers/t:BootTrigger", NAMESPACE) is not None
    assert root.findtext("t:Principals/t:Principal/t:LogonType", namespaces=NAMESPACE) == "S4U"


FAKE = """#!/bin/sh
echo "$0 $*" >> "$FAKE_LOG"
echo "${XDG_RUNTIME_DIR:-}|${DBUS_SESSION_BUS_ADDRESS:-}" >> "${FAKE_LOG%.txt}.environment"
sleep "${FAKE_SLEEP:-0}"
case "$*" in
  *is-enabled*) echo enabled ;;
  *is-active*) echo active ;;
  *show-user*) ! grep -q enable-linger "$FAKE_LOG" || echo Linger=yes ;;
  *enable-linger*) [ -z "$FAKE_LINGER" ] || exit 1 ;;
esac
[ -z "$FAKE_ERROR" ] || { echo "$FAKE_ERROR" >&2; exit 1; }
"""


@pytest.fixture
def systemd(tmp_path, monkeypatch) -> Path:
    """A systemctl and a loginctl that note what they are told."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("systemctl", "loginctl"):
        (tools / name).write_text(FAKE)
        (tools / name).chmod(0o755)
    log = tmp_path / "told.txt"
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("FAKE_LOG", str(log))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setattr(manager, "SYSTEMD_RUNS", tmp_path)
    return log


def test_a_service_is_installed_shown_and_removed(systemd):
    service = Systemd(replace(ORDER, at_boot=True))
    state = service.install(start=True)
    assert (state.installed, state.enabled, state.active, state.at_boot) == (True, True, True, True)
    told = systemd.read_text()
    for words_told in ("--user daemon-reload", "--user enable horde-bridge.service", "--user restart", "enable-linger"):
        assert words_told in told
    assert service.install(start=False) == state
    assert service.remove()
    assert "--user disable --now" in systemd.read_text()
    assert not service.remove()
    assert not service.state().installed


@pytest.mark.parametrize(
    ("error", "says"),
    [
        ("Failed to connect to bus: No medium found", "no systemd of this user"),
        ("Failed to enable unit: Access denied", "Access denied"),
    ],
)
def test_what_systemd_refuses_is_one_sentence_with_a_remedy(systemd, monkeypatch, error, says):
    monkeypatch.setenv("FAKE_ERROR", error)
    with pytest.raises(ConfigError, match=says) as refused:
        Systemd(ORDER).install(start=True)
    assert refused.value.remedy


def test_nothing_is_installed_for_a_user_without_a_systemd_and_what_was_is_removed_all_the_same(systemd, monkeypatch):
    service = Systemd(ORDER)
    service.install(start=False)
    wanted = service.file.parent / "default.target.wants" / service.file.name
    wanted.parent.mkdir()
    wanted.symlink_to(service.file)
    monkeypatch.setenv("FAKE_ERROR", "Failed to connect to bus: No medium found")
    assert Systemd(ORDER).remove()
    assert not wanted.is_symlink()
    with pytest.raises(ConfigError):
        Systemd(ORDER).install(start=False)
    assert not service.file.exists()


@pytest.mark.parametrize("named", [None, "another's", "own"])
def test_the_systemd_of_this_user_is_found_from_a_shell_of_su_or_sudo(systemd, tmp_path, monkeypatch, named):
    own = tmp_path / "user" / str(os.getuid())
    given = tmp_path / "given"
    own.mkdir(parents=True)
    given.mkdir()
    monkeypatch.setattr(manager, "USERS_RUN", own.parent)
    monkeypatch.setenv("DBUS_SESSION_BUS_ADDRESS", "unix:path=/elsewhere")
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    if named:
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(given))
    if named == "another's":
        monkeypatch.setattr(manager, "_is_own", lambda folder: folder == own)
    Systemd(ORDER).install(start=False)
    used, bus = systemd.with_suffix(".environment").read_text().splitlines()[0].split("|")
    assert (used, bus) == ((str(given), "unix:path=/elsewhere") if named == "own" else (str(own), ""))


def test_a_service_runs_though_lingering_is_refused(systemd, monkeypatch):
    monkeypatch.setenv("FAKE_LINGER", "1")
    with pytest.raises(ConfigError, match="lingering"):
        Systemd(replace(ORDER, at_boot=True)).install(start=True)
    assert "--user restart" in systemd.read_text()


def test_without_systemd_the_ways_out_are_named(tmp_path, monkeypatch):
    monkeypatch.setattr(manager, "SYSTEMD_RUNS", tmp_path / "absent")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    with pytest.raises(ConfigError, match="not run by systemd") as refused:
        Systemd(ORDER).install(start=True)
    assert "WSL" in refused.value.remedy
    assert not Systemd(ORDER).state().installed


def test_root_makes_a_service_of_the_system(systemd, tmp_path, monkeypatch):
    monkeypatch.setattr(manager, "SYSTEM_UNITS", tmp_path / "system")
    state = Systemd(replace(ORDER, user="fox")).install(start=False)
    assert state.file == str(tmp_path / "system" / "horde-bridge.service")
    assert "--user" not in systemd.read_text()


#: Forks a process that installs, kills it with all that it started, and looks at the file; fifty times.
KILLED_INSTALLS = """
import json, os, random, signal, sys, time
from pathlib import Path
from worker.service import manager
from worker.service.order import Order

manager.SYSTEMD_RUNS, file = map(Path, sys.argv[1:])
dice, killed, found = random.Random(3), 0, []
for _ in range(50):
    child = os.fork()
    if not child:
        try:
            os.setsid()
            manager.Systemd(Order(Path("/opt/hb/x.sh"), Path("/opt/hb"))).install(start=True)
        finally:
            os._exit(0)
    time.sleep(dice.uniform(0.0, 0.2))
    try:
        os.killpg(child, signal.SIGKILL)
    except ProcessLookupError:
        os.kill(child, signal.SIGKILL)
    killed += os.WIFSIGNALED(os.waitpid(child, 0)[1])
    found.append(file.read_text() if file.exists() else None)
print(json.dumps([killed, found]))
"""


@pytest.mark.processes
def test_fifty_kills_while_installing_leave_a_whole_unit_or_none_and_the_next_time_mends_it(systemd, tmp_path):
    service = Systemd(Order(Path("/opt/hb/x.sh"), Path("/opt/hb")))
    whole = unit_text(Order(Path("/opt/hb/x.sh"), Path("/opt/hb")))
    environment = {**os.environ, "FAKE_SLEEP": "0.02"}
    command = [sys.executable, "-c", KILLED_INSTALLS, str(tmp_path), str(service.file)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    killed, found = json.loads(done.stdout)
    assert killed > 10
    assert set(found) <= {None, whole}
    assert service.install(start=True).active
    assert service.file.read_text() == whole


def test_windows_is_told_by_schtasks(tmp_path, monkeypatch):
    told: list[tuple[str, ...]] = []

    def run(command, _limit_s):
        told.append(tuple(command))
        if "/XML" in command and "/Create" in command:
            assert Path(command[command.index("/XML") + 1]).read_bytes()[:2] in (b"\xff\xfe", b"\xfe\xff")
        exists = any("/Create" in each for each in told) and not any("/Delete" in each for each in told)
        code = 0 if exists or "/Create" in command or "/Delete" in command else 1
        return subprocess.CompletedProcess(command, code, task_xml(ORDER, "PC\\fox"), "")

    monkeypatch.setattr(manager, "_run", run)
    tasks = TaskScheduler(ORDER)
    assert not tasks.state().installed
    state = tasks.install(start=True)
    assert (state.installed, state.enabled, state.active, state.at_boot) == (True, True, None, False)
    assert ("schtasks", "/Run", "/TN", "horde-bridge") in told
    assert tasks.remove()
    assert not tasks.remove()


@pytest.mark.parametrize(
    ("active", "told"),
    [
        (True, "hb runs; it starts at login."),
        (False, "hb does not run; it starts at login."),
        (None, "hb starts at login."),
    ],
)
def test_nothing_is_said_of_what_a_system_does_not_tell(monkeypatch, capsys, active, told):
    monkeypatch.setattr(
        service_commands, "state_of", lambda _: State("hb", installed=True, enabled=True, active=active)
    )
    service_commands.show()
    assert capsys.readouterr().out.splitlines()[0] == told


def test_windows_that_refuses_is_one_sentence(monkeypatch):
    refusal = subprocess.CompletedProcess([], 1, "", "ERROR: Access is denied.\n")
    monkeypatch.setattr(manager, "_run", lambda *_: refusal)
    with pytest.raises(ConfigError, match="Access is denied"):
        TaskScheduler(ORDER).install(start=True)


def test_a_service_of_a_folder_that_was_moved_is_noticed():
    state = State("x", installed=True, text=unit_text(order_in("/old/100% mine")))
    assert not is_for(state, Path("/new/horde-bridge.sh"))

"""The memory this process may use, in and out of containers."""

from pathlib import Path

import psutil
import pytest

from worker.system_memory import system_memory

GIB = 1024**3


def files(root: Path, contents: dict[str, str]) -> Path:
    for name, text in contents.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_control_groups_it_is_the_machines(tmp_path: Path) -> None:
    found = system_memory(tmp_path)
    assert found.total == psutil.virtual_memory().total
    assert 0 < found.available <= found.total


def test_a_container_sees_its_own_limit_at_the_mount(tmp_path: Path) -> None:
    root = files(
        tmp_path,
        {
            "proc/self/cgroup": "0::/\n",
            "sys/fs/cgroup/memory.max": f"{2 * GIB}\n",
            "sys/fs/cgroup/memory.current": f"{GIB + GIB // 2}\n",
            "sys/fs/cgroup/memory.stat": f"anon 1\ninactive_file {GIB // 4}\nactive_file 7\n",
        },
    )
    found = system_memory(root)
    assert found.total == 2 * GIB
    assert found.available == GIB // 2 + GIB // 4


def test_the_tightest_group_around_the_process_counts(tmp_path: Path) -> None:
    root = files(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod.slice/worker.scope\n",
            "sys/fs/cgroup/pod.slice/memory.max": f"{GIB}\n",
            "sys/fs/cgroup/pod.slice/memory.current": "0\n",
            "sys/fs/cgroup/pod.slice/worker.scope/memory.max": "max\n",
            "sys/fs/cgroup/pod.slice/worker.scope/memory.current": "5\n",
        },
    )
    assert system_memory(root).total == GIB


def test_a_group_of_version_1_has_a_limit_too(tmp_path: Path) -> None:
    root = files(
        tmp_path,
        {
            "proc/self/cgroup": "12:cpuset:/docker/abc\n5:memory:/docker/abc\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": f"{GIB}\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": f"{2 * GIB}\n",
        },
    )
    found = system_memory(root)
    assert (found.total, found.available) == (GIB, 0)


@pytest.mark.parametrize("text", ["", "garbage", "0::", "0::/../../etc\n", "::::\n", "0:memory:/x\n"])
def test_odd_files_are_taken_for_no_limit(tmp_path: Path, text: str) -> None:
    root = files(tmp_path, {"proc/self/cgroup": text, "sys/fs/cgroup/memory.max": "max", "sys/fs/cgroup/memory/x": ""})
    assert system_memory(root).total == psutil.virtual_memory().total

"""Which build of torch is chosen, and what an owner is told."""

import http.server
import threading
from urllib.parse import urlsplit

import pytest

from worker.engine.install import builds
from worker.engine.install.builds import (
    TORCH,
    VENDOR_INDEX,
    Index,
    Target,
    choose_source,
    lists_build,
    probe_index,
    vendor_tags,
)
from worker.engine.install.machine import Accelerator, Card
from worker.errors import RuntimeMissing

LINUX = Target("Linux", "x86_64", (3, 11))
WINDOWS = Target("Windows", "AMD64", (3, 11))


def nvidia(driver: int | None = 580, *capabilities: float) -> Card:
    return Card(Accelerator.CUDA, "an NVIDIA card", driver, capabilities)


def choose(card, target=LINUX, *, serving=(), unreachable=False, asked_for=False, index=None):
    """The source, and the folders that were asked, with an index that serves these folders."""
    asked = []

    def probe(url, _target):
        asked.append(url.removeprefix(f"{VENDOR_INDEX}/"))
        if unreachable:
            return Index.UNREACHABLE
        return Index.SERVES if asked[-1] in serving else Index.LACKS

    return choose_source(card, target, asked_for=asked_for, index=index, probe=probe), asked


@pytest.mark.parametrize(
    ("card", "tags"),
    [
        pytest.param(nvidia(580, 8.6), ("cu130", "cu126"), id="new driver, new card"),
        pytest.param(nvidia(570, 8.6), ("cu126",), id="older driver"),
        pytest.param(nvidia(580, 6.1), ("cu126", "cu130"), id="Pascal"),
        pytest.param(nvidia(580, 12.0, 6.1), ("cu130", "cu126"), id="one of each: the newer build"),
        pytest.param(nvidia(580, 6.1, 6.1, 8.6), ("cu126", "cu130"), id="more cards that are old"),
        pytest.param(nvidia(None), ("cu130", "cu126"), id="nothing known"),
        pytest.param(nvidia(470, 8.6), (), id="too old for all"),
    ],
)
def test_the_cuda_build_fits_driver_and_cards(card, tags):
    assert vendor_tags(card, "Linux") == tags


def test_windows_drivers_are_judged_by_their_own_numbers():
    assert vendor_tags(nvidia(526), "Linux") == ("cu126",)
    assert vendor_tags(nvidia(526), "Windows") == ()


def test_the_vendors_index_is_preferred_without_a_notice():
    source, asked = choose(nvidia(), serving=["cu130"])
    assert source.index == f"{VENDOR_INDEX}/cu130"
    assert source.requirements == (f"torch=={TORCH}", f"torchvision=={builds.TORCHVISION}")
    assert source.notice == ""
    assert asked == ["cu130"]


def test_the_newest_rocm_build_that_exists_is_taken():
    source, asked = choose(Card(Accelerator.ROCM, ""), serving=["rocm7.1", "rocm6.4"])
    assert source.index == f"{VENDOR_INDEX}/rocm7.1"
    assert asked == ["rocm7.2", "rocm7.14", "rocm7.1"]


def test_an_unreachable_index_is_asked_once_and_the_default_one_is_taken_with_one_notice():
    source, asked = choose(Card(Accelerator.CPU, ""), unreachable=True)
    assert source.index is None
    assert asked == ["cpu"]
    assert "can't be reached" in source.notice
    assert "runs on the processor as well" in source.notice
    _, asked = choose(nvidia(), unreachable=True)
    assert asked == ["cu130"]


def test_the_default_index_counts_with_the_disk_its_build_needs():
    on_linux, _ = choose(Card(Accelerator.CPU, ""), unreachable=True)
    on_windows, _ = choose(Card(Accelerator.CPU, ""), WINDOWS, unreachable=True)
    assert on_linux.disk_bytes > on_windows.disk_bytes


def test_an_older_driver_is_told_what_the_default_build_needs():
    source, _ = choose(nvidia(550, 8.6), unreachable=True)
    assert "needs driver 580" in source.notice
    source, _ = choose(nvidia(580, 6.1), unreachable=True)
    assert "RTX 20" in source.notice
    source, _ = choose(nvidia(580, 8.6), unreachable=True)
    assert "needs driver" not in source.notice


def test_a_driver_too_old_for_any_build_is_refused_with_the_remedy():
    with pytest.raises(RuntimeMissing, match="too old") as refused:
        choose(nvidia(470))
    assert "525" in refused.value.remedy
    assert "--cpu" in refused.value.remedy


@pytest.mark.parametrize("unreachable", [True, False])
def test_what_was_asked_for_is_never_replaced_by_what_cannot_serve_it(unreachable):
    with pytest.raises(RuntimeMissing, match="no rocm build") as refused:
        choose(Card(Accelerator.ROCM, ""), unreachable=unreachable, asked_for=True)
    assert "--torch-index" in refused.value.remedy
    with pytest.raises(RuntimeMissing, match="no cuda build"):
        choose(nvidia(), WINDOWS, unreachable=unreachable, asked_for=True)


def test_what_was_only_detected_falls_back_to_the_processor_and_says_so():
    source, _ = choose(Card(Accelerator.ROCM, ""), serving=[])
    assert source.index is None
    assert "has no build" in source.notice
    assert "processor only" in source.notice


def test_an_index_the_owner_names_is_not_questioned():
    source, asked = choose(nvidia(), index="https://mirror.example/simple")
    assert (source.index, source.notice, asked) == ("https://mirror.example/simple", "", [])


def test_directml_brings_its_own_torch_and_refuses_a_python_without_a_build():
    source, asked = choose(Card(Accelerator.DIRECTML, ""), WINDOWS)
    assert source.requirements[0].startswith("torch-directml==")
    assert asked == []
    with pytest.raises(RuntimeMissing, match=r"3\.13"):
        choose(Card(Accelerator.DIRECTML, ""), Target("Windows", "AMD64", (3, 13)))


PAGE = "".join(
    f'<a href="/whl/{name}#sha256=ab">{name}</a><br/>'
    for name in (
        f"torch-{TORCH}%2Bcu130-cp311-cp311-manylinux_2_28_x86_64.whl",
        f"torch-{TORCH}%2Bcu130-cp311-cp311-win_amd64.whl",
        f"torch-{TORCH}%2Bcu130-cp313-cp313t-manylinux_2_28_x86_64.whl",
        "torch-2.13.0%2Bcu130-cp312-cp312-manylinux_2_28_x86_64.whl",
        f"torch-{TORCH}-cp310-none-macosx_11_0_arm64.whl",
        f"torch-{TORCH}-cp312-cp312-macosx_11_0_arm64.whl",
    )
)


@pytest.mark.parametrize(
    ("target", "listed"),
    [
        pytest.param(LINUX, True, id="this one"),
        pytest.param(WINDOWS, True, id="windows"),
        pytest.param(Target("Linux", "aarch64", (3, 11)), False, id="another machine"),
        pytest.param(Target("Linux", "x86_64", (3, 12)), False, id="another version only"),
        pytest.param(Target("Linux", "x86_64", (3, 13)), False, id="free-threaded only"),
        pytest.param(Target("Darwin", "arm64", (3, 12)), True, id="mac"),
    ],
)
def test_a_page_of_links_is_read_for_version_python_and_system(target, listed):
    assert lists_build(PAGE, target) is listed


@pytest.fixture
def index():
    """A package index on this machine with folders `full`, `bare`, `forbidden` and `broken`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            folder = urlsplit(self.path).path.split("/")[1]  # a proxy gets the whole address
            status = {"full": 200, "bare": 200, "forbidden": 403, "broken": 502}.get(folder, 404)
            self.send_response(status)
            self.end_headers()
            if status == 200:
                self.wfile.write((PAGE if folder == "full" else "<html></html>").encode())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    ("folder", "answer"),
    [
        ("full", Index.SERVES),
        ("bare", Index.LACKS),
        ("absent", Index.LACKS),
        ("forbidden", Index.LACKS),
        ("broken", Index.UNREACHABLE),
    ],
)
def test_an_index_is_asked_what_it_has(index, folder, answer):
    assert probe_index(f"{index}/{folder}", LINUX, {}) is answer


@pytest.mark.parametrize("name", ["http_proxy", "ALL_PROXY"])
def test_the_proxy_that_pip_or_uv_was_told_of_is_asked(index, name):
    assert probe_index("http://index.example/full", LINUX, {name: index}) is Index.SERVES


def test_certificates_that_are_not_there_are_no_reason_to_stop(index):
    assert probe_index(f"{index}/full", LINUX, {"SSL_CERT_FILE": "/none"}) is Index.SERVES


def test_an_index_that_refuses_or_never_answers_is_unreachable(monkeypatch):
    assert probe_index("http://127.0.0.1:9", LINUX, {}) is Index.UNREACHABLE
    silent = threading.Event()

    def look_up_for_ever(*_, **__):
        silent.wait()
        raise TimeoutError

    monkeypatch.setattr(builds.urllib.request.OpenerDirector, "open", look_up_for_ever)
    monkeypatch.setattr(builds, "INDEX_TIMEOUT_S", 0.05)
    assert probe_index("http://index.example", LINUX, {}) is Index.UNREACHABLE
    silent.set()

"""What the owner set for uv, in variables and in files: what of it uv gets here, and what is left out."""

import os
import sys

import pytest

from worker.engine.install import uv
from worker.engine.install.uv_settings import config_files, from_files, local_folders

pytestmark = pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 can't read TOML")


@pytest.fixture
def told(tmp_path):
    """The variables that uv gets where its own file says `text`, and the sentences the owner gets."""

    def tell(text="", **environ):
        (tmp_path / "uv.toml").write_text(text)
        known = {"HOME": str(tmp_path / "home"), "PIP_CONFIG_FILE": os.devnull} | environ
        return uv.environment(tmp_path / "runtime", known), uv.concerns(tmp_path / "runtime", known)

    return tell


def test_uv_gets_the_way_to_the_network_and_nothing_that_would_mislead_it(tmp_path):
    environ = {
        "UV_SYSTEM_PYTHON": "1", "UV_TARGET": "/x", "UV_EXCLUDE_NEWER": "2020-01-01", "UV_NO_VERIFY_HASHES": "1",
        "UV_INDEX_CORP_PASSWORD": "secret", "UV_HTTP_TIMEOUT": "600", "HTTPS_PROXY": "http://p", "HOME": "/h",
        "UV_CONFIG_FILE": "/none", "UV_WORKING_DIR": "/none", "UV_PROJECT": "/none", "UV_PYTHON_PREFERENCE": "system",
        "UV_OFFLINE": "", "FORCE_COLOR": "1", "PIP_CONFIG_FILE": os.devnull,
    }  # fmt: skip
    given = uv.environment(tmp_path, environ)
    assert {name for name in given if name.startswith("UV_")} == {
        "UV_INDEX_CORP_PASSWORD", "UV_HTTP_TIMEOUT", "UV_CACHE_DIR", "UV_CONCURRENT_DOWNLOADS", "UV_SYSTEM_CERTS",
        "UV_LINK_MODE", "UV_NO_CONFIG", "UV_PYTHON_DOWNLOADS", "UV_NO_PROGRESS",
    }  # fmt: skip
    assert (given["UV_INDEX_CORP_PASSWORD"], given["UV_HTTP_TIMEOUT"]) == ("secret", "600")
    assert given["HTTPS_PROXY"] == "http://p"
    assert given["UV_CACHE_DIR"] == str(tmp_path / "cache")
    assert "FORCE_COLOR" not in given, "colours hide from the progress what uv says"
    assert uv.environment(tmp_path, {"UV_CACHE_DIR": "/shared"})["UV_CACHE_DIR"] == "/shared"


def test_a_folder_of_wheels_means_no_network(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    given = uv.environment(tmp_path, {"AIWORKER_WHEELS": "stick/wheels"})
    whole = str(tmp_path / "stick" / "wheels")
    assert (given["UV_FIND_LINKS"], given["UV_NO_INDEX"], given["UV_OFFLINE"]) == (whole, "1", "1")


@pytest.mark.parametrize("name", ["my wheels", "a,b", "größer"])
def test_a_folder_of_wheels_is_one_entry_whatever_its_name_and_found_again(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    asked = [{"AIWORKER_WHEELS": str(folder)}]
    if " " not in name:  # which ends an entry for pip
        asked.append({"PIP_FIND_LINKS": str(folder), "PIP_CONFIG_FILE": os.devnull})
    for environ in asked:
        given = uv.environment(tmp_path, environ)
        assert not {",", " "} & set(given["UV_FIND_LINKS"])
        assert list(local_folders(given)) == [folder]


def test_mirrors_in_uvs_file_are_handed_on(told, tmp_path):
    given, concerns = told("""
offline = false
concurrent-downloads = 2
http-proxy = "http://proxy.example:3128"
find-links = ["wheels", "https://wheels.example/"]
index-strategy = "first-index"
allow-insecure-host = ["a.example", "b.example:8080"]

[pip]
extra-index-url = ["https://extra.example/simple"]

[[index]]
name = "corp"
url = "https://corp.example/simple"

[[index]]
url = "https://mirror.example/simple"
default = true

[[index]]
name = "torch"
url = "https://torch.example"
explicit = true

[[index]]
url = "my wheels"
format = "flat"
""")
    wanted = {
        "UV_OFFLINE": "0", "UV_CONCURRENT_DOWNLOADS": "2", "http_proxy": "http://proxy.example:3128",
        "UV_DEFAULT_INDEX": "https://mirror.example/simple", "UV_INDEX_STRATEGY": "first-index",
        "UV_INDEX": "corp=https://corp.example/simple https://extra.example/simple",
        "UV_FIND_LINKS": f"{(tmp_path / 'my wheels').as_uri()},{tmp_path / 'wheels'},https://wheels.example/",
        "UV_INSECURE_HOST": "a.example b.example:8080",
    }  # fmt: skip
    assert {name: given.get(name) for name in wanted} == wanted
    assert concerns == []


def test_a_variable_counts_more_than_uvs_file_and_that_more_than_pips(told):
    text = 'index-url = "https://file.example"'
    assert told(text, UV_DEFAULT_INDEX="https://variable.example")[0]["UV_DEFAULT_INDEX"] == "https://variable.example"
    assert "UV_DEFAULT_INDEX" not in told(text, UV_INDEX_URL="https://variable.example")[0]
    assert told(text, PIP_INDEX_URL="https://pip.example")[0]["UV_DEFAULT_INDEX"] == "https://file.example"
    assert told("", PIP_INDEX_URL="https://pip.example")[0]["UV_DEFAULT_INDEX"] == "https://pip.example"


def test_what_asks_for_other_packages_is_named_and_left_out(told, tmp_path):
    given, concerns = told(
        'required-version = ">=99"\nexclude-newer = "2020-01-01"\n[pip]\nno-binary = [":all:"]\n',
        UV_TORCH_BACKEND="cpu",
        PIP_CONSTRAINT="/mine.txt",
    )
    (concern,) = concerns
    file = tmp_path / "uv.toml"
    for name in ("UV_TORCH_BACKEND", "PIP_CONSTRAINT", f"required-version in {file}", f"no-binary in {file}"):
        assert name in concern
    assert "UV_TORCH_BACKEND" not in given


@pytest.mark.parametrize("text", ["nonsense = [", "\x00", "pip = 3\nindex = [1]\nfind-links = 7\n"])
def test_a_file_of_uv_that_makes_no_sense_breaks_nothing(told, text):
    assert "UV_FIND_LINKS" not in told(text)[0]


def test_a_file_that_cannot_be_read_is_named(told, tmp_path):
    assert f"{tmp_path / 'uv.toml'} (no TOML" in told("nonsense = [")[1][0]


def test_being_told_to_stay_offline_is_named(told):
    assert "UV_OFFLINE" in told(UV_OFFLINE="true")[1][0]
    assert told(UV_OFFLINE="true", AIWORKER_WHEELS="/wheels")[1] == []


def test_links_to_the_cache_are_never_symbolic(told):
    """The cache may be thinned out or deleted: an environment must not go with it."""
    assert told(UV_LINK_MODE="symlink")[0]["UV_LINK_MODE"] == "hardlink"
    assert told('link-mode = "symlink"')[0]["UV_LINK_MODE"] == "hardlink"
    assert told(UV_LINK_MODE="copy")[0]["UV_LINK_MODE"] == "copy"


def test_a_folder_kept_in_step_with_a_server_gets_copies_since_onedrive_takes_no_links(tmp_path):
    runtime = tmp_path / "OneDrive - Fox" / "worker" / "runtime"
    assert uv.environment(runtime, {"HOME": str(tmp_path)})["UV_LINK_MODE"] == "copy"


def test_pips_short_patience_does_not_shorten_ours(told):
    assert told(PIP_TIMEOUT="15")[0]["UV_HTTP_TIMEOUT"] == "120"
    assert told(PIP_TIMEOUT="180")[0]["UV_HTTP_TIMEOUT"] == "180"
    assert told(UV_HTTP_TIMEOUT="15")[0]["UV_HTTP_TIMEOUT"] == "15"


def test_uvs_files_are_looked_for_where_uv_looks(tmp_path):
    (tmp_path / "uv.toml").touch()
    start = tmp_path / "worker" / "runtime"
    found = [str(path) for path in config_files({"HOME": "/home/fox"}, start)]
    assert found == ["/etc/uv/uv.toml", "/home/fox/.config/uv/uv.toml", str(tmp_path / "uv.toml")]
    assert [str(path) for path in config_files({"UV_CONFIG_FILE": "/my.toml"}, start)] == ["/my.toml"]
    assert list(config_files({"UV_NO_CONFIG": "1"}, start)) == []
    assert from_files([tmp_path / "absent.toml"]).left_out == []

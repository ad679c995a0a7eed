"""What pip was told of the network, in uv's words."""

import pytest

from worker.engine.install import uv
from worker.engine.install.pip_settings import for_uv, pip_files


@pytest.fixture
def told(tmp_path):
    """What uv is told where pip's file says `text`."""

    def tell(text="", **environ):
        path = tmp_path / "pip.conf"
        path.write_text(text)
        return for_uv(environ, [tmp_path / "absent.conf", path])

    return tell


def test_mirrors_folders_certificates_and_time_limits_are_handed_on(told, tmp_path):
    text = f"""
[global]
index-url = https://me:secret@mirror.example/simple
extra-index-url =
    https://one.example/simple
    file://{tmp_path}
find-links = {tmp_path}
cert = /etc/company.pem
timeout = 180
trusted-host = mirror.example one.example
proxy = proxy.example:3128
"""
    assert told(text) == {
        "UV_DEFAULT_INDEX": "https://me:secret@mirror.example/simple",
        "UV_INDEX": f"https://one.example/simple file://{tmp_path}",
        "UV_INDEX_STRATEGY": "unsafe-best-match",
        "UV_FIND_LINKS": str(tmp_path),
        "SSL_CERT_FILE": "/etc/company.pem",
        "UV_HTTP_TIMEOUT": "180",
        "UV_INSECURE_HOST": "mirror.example one.example",
        "ALL_PROXY": "http://proxy.example:3128",
    }


def test_a_variable_counts_more_than_the_file_and_uvs_own_more_than_both(told):
    text = "[global]\nindex-url = https://file.example\n[install]\nindex_url = https://section.example\n"
    assert told(text)["UV_DEFAULT_INDEX"] == "https://section.example"
    assert told(text, PIP_INDEX_URL="https://variable.example")["UV_DEFAULT_INDEX"] == "https://variable.example"
    assert told(text, UV_DEFAULT_INDEX="https://uv.example") == {}
    assert told(text, UV_INDEX_URL="https://uv.example") == {}


@pytest.mark.parametrize("value", ["1", "true", "yes", "on"])
def test_no_index_is_handed_on(told, value):
    assert told(PIP_NO_INDEX=value) == {"UV_NO_INDEX": "1"}
    assert told(PIP_NO_INDEX="0") == {}


def test_folders_that_are_not_there_are_passed_by_as_pip_does(told, tmp_path):
    assert told(f"[global]\nfind-links = {tmp_path}/gone /gone\nextra-index-url = file:///gone/simple\n") == {}


@pytest.mark.parametrize("text", ["no section", "[global]\nindex-url", "\0", "[global]\ncert ="])
def test_a_file_that_makes_no_sense_says_nothing(told, text):
    assert told(text) == {}


def test_settings_that_lead_packages_elsewhere_are_not_handed_on(told):
    assert told("[global]\nuser = true\n[install]\ntarget = /elsewhere\n", PIP_TARGET="/x", PIP_USER="1") == {}


def test_pips_files_are_looked_for_where_pip_looks_and_not_at_all_if_it_may_not():
    names = [str(path) for path in pip_files({"HOME": "/home/fox", "PIP_CONFIG_FILE": "/my/pip.conf"})]
    assert names[-1] == "/my/pip.conf"
    assert "/etc/xdg/pip/pip.conf" in names
    assert "/home/fox/.config/pip/pip.conf" in names
    assert list(pip_files({"PIP_CONFIG_FILE": "/dev/null"})) == []


def test_uv_gets_the_way_to_the_network_and_nothing_that_would_mislead_it(tmp_path, monkeypatch):
    monkeypatch.setattr(uv.pip_settings, "pip_files", lambda _: [])
    environ = {
        "UV_SYSTEM_PYTHON": "1", "UV_TARGET": "/x", "UV_EXCLUDE_NEWER": "2020-01-01", "UV_NO_VERIFY_HASHES": "1",
        "UV_INDEX_CORP_PASSWORD": "secret", "UV_HTTP_TIMEOUT": "600", "HTTPS_PROXY": "http://p", "HOME": "/h",
    }  # fmt: skip
    given = uv.environment(tmp_path, environ)
    assert not {"UV_SYSTEM_PYTHON", "UV_TARGET", "UV_EXCLUDE_NEWER", "UV_NO_VERIFY_HASHES"} & given.keys()
    assert (given["UV_INDEX_CORP_PASSWORD"], given["UV_HTTP_TIMEOUT"]) == ("secret", "600")
    assert given["HTTPS_PROXY"] == "http://p"
    assert given["UV_CACHE_DIR"] == str(tmp_path / "cache")
    assert uv.environment(tmp_path, {"UV_CACHE_DIR": "/shared"})["UV_CACHE_DIR"] == "/shared"


def test_a_folder_of_wheels_means_no_network(tmp_path):
    given = uv.environment(tmp_path, {"AIWORKER_WHEELS": "/stick/wheels"})
    assert (given["UV_FIND_LINKS"], given["UV_NO_INDEX"], given["UV_OFFLINE"]) == ("/stick/wheels", "1", "1")

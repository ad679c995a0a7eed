"""What pip was told of the network, in uv's words."""

import os

import pytest

from worker.engine.install.pip_settings import for_pip, for_uv, pip_files


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
        "http_proxy": "http://proxy.example:3128",
        "https_proxy": "http://proxy.example:3128",
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


def test_a_time_limit_with_a_fraction_is_a_whole_number_for_uv_and_nonsense_none(told):
    assert told(PIP_TIMEOUT="15.5", PIP_RETRIES="7") == {"UV_HTTP_TIMEOUT": "16", "UV_HTTP_RETRIES": "7"}
    assert told(PIP_TIMEOUT="soon") == {}


def test_a_path_is_whole_since_uv_runs_in_another_folder(told, tmp_path, monkeypatch):
    (tmp_path / "wheels").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert told(PIP_FIND_LINKS="wheels ~/wheels") == {"UV_FIND_LINKS": f"{tmp_path}/wheels,{tmp_path}/wheels"}
    assert told(PIP_TRUSTED_HOST="wheels") == {"UV_INSECURE_HOST": "wheels"}


def test_a_keyring_that_uv_knows_is_handed_on(told):
    assert told(PIP_KEYRING_PROVIDER="subprocess") == {"UV_KEYRING_PROVIDER": "subprocess"}
    assert told(PIP_KEYRING_PROVIDER="import") == {}


def test_a_pip_of_ours_reaches_what_uv_reaches_and_reads_nothing_else():
    given = {
        "UV_DEFAULT_INDEX": "corp=https://corp.example/simple", "UV_INDEX": "one=https://one.example https://two.example",
        "UV_FIND_LINKS": "/a,/b", "SSL_CERT_FILE": "/c.pem", "PIP_TARGET": "/x", "UV_NO_CONFIG": "1", "HOME": "/h",
    }  # fmt: skip
    found = for_pip(given)
    assert found["PIP_INDEX_URL"] == "https://corp.example/simple"
    assert found["PIP_EXTRA_INDEX_URL"] == "https://one.example https://two.example"
    assert (found["PIP_FIND_LINKS"], found["PIP_CERT"], found["HOME"]) == ("/a /b", "/c.pem", "/h")
    assert "PIP_TARGET" not in found
    assert found["PIP_CONFIG_FILE"] == os.devnull

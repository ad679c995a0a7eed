"""The documentation: the site builds strictly, and what its pages name is there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tools.error_messages import WAIT, texts
from worker.commands.program import app_of

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
#: A path of this repository in backticks; commands and patterns have spaces, stars or dots in a row.
PATH = re.compile(r"`((?:worker|tests|tools|docs|bench|comfy_workflows)/[\w./-]*)`")


def test_the_site_builds_strictly_without_a_dead_link_and_needs_no_other_host(tmp_path: Path) -> None:
    built = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        check=False, cwd=ROOT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert built.returncode == 0, built.stdout + built.stderr
    for page in tmp_path.glob("**/*.html"):
        html = page.read_text("utf-8")
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*\ssrc="([^"]+)"', html)
        loaded += re.findall(r'<link[^>]*rel="(?:stylesheet|preconnect|icon)"[^>]*href="([^"]+)"', html)
        assert not [address for address in loaded if address.startswith(("http:", "https:", "//"))], page
        shown = re.findall(r'<(?:img|source)[^>]*\s(?:src|srcset)="([^"]+)"', html)
        assert all((page.parent / address).exists() for address in shown if not address.startswith("data:")), page


def test_every_page_is_in_the_sites_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2]
    index = (ROOT / "docs" / "decisions" / "index.md").read_text("utf-8")
    for page in ROOT.glob("docs/**/*.md"):
        name = page.relative_to(ROOT / "docs").as_posix()
        assert name in navigation or (name.startswith("decisions/") and page.name in index), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_path_that_a_page_names_exists(page: Path) -> None:
    for path in PATH.findall(page.read_text("utf-8")):
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_a_page_lead_to_files_that_the_forge_shows_without_the_site(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    links = [*re.findall(r"\]\(([^)\s]+)", text), *re.findall(r'(?:src|srcset|href)="([^"]+)"', text)]
    local = [link.partition("#")[0] for link in links if not re.match(r"[a-z]+:", link)]
    assert [link for link in local if link and not (page.parent / link).exists()] == []


def test_the_list_of_messages_has_those_of_errors_tables_and_doctor() -> None:
    everything = texts()
    found = {(text.room, text.error): text for text in everything}
    assert "there is no such file" in "".join(text.message for text in everything)
    assert ("horde", "HordeMaintenance") in found
    assert found["engine", "OutOfMemory"].remedy
    assert ("commands", "doctor") in found
    assert "GiB are free on the disk" in "".join(text.message for text in everything if text.error == WAIT)


@pytest.mark.parametrize("command", ["render --offline", "workflows explain"])
def test_the_example_job_of_the_documentation_is_served(command: str) -> None:
    examples = ROOT / "docs" / "examples"
    reference = ["--reference", str(examples / "model_reference")]
    result = CliRunner().invoke(app_of(), [*command.split(), str(examples / "jobs" / "txt2img.json"), *reference])
    assert result.exit_code == 0, result.output
    assert "stable_diffusion/checkpoint" in result.output or "KSampler" in result.output


def test_the_commands_and_options_that_the_readme_names_exist() -> None:
    block = (ROOT / "README.md").read_text("utf-8").partition("## Commands")[2].split("```")[1]
    lines = [
        line.removeprefix("./horde-bridge.sh ") for line in block.splitlines() if line.startswith("./horde-bridge")
    ]
    assert len(lines) > 5
    for line in lines:
        command, *words = re.sub(r"\[(run)\]", r"\1", line).partition("   ")[0].split()
        shown = CliRunner().invoke(app_of(), [command, "--help"], env={"COLUMNS": "200"}).output
        named = [word.strip("[]") for word in words if word.startswith(("-", "[-"))]
        subcommands = [word for word in words if word.islower() and word.isalpha()]
        for name in [*named, *subcommands]:
            assert re.search(rf"(?<![\w-]){re.escape(name)}\b", shown), f"{command}: {name}"

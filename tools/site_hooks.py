"""What the documentation site gets besides docs/: pages of the repository's root, and what is generated from the code.

mkdocs loads this file as a hook (mkdocs.yml). README.md is the home page; links between the root's pages and docs/
work both on the forge and on the site.
"""

import re
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tools.draw_rooms import rooms_svg  # noqa: E402 - the repository is importable only from here on
from tools.error_messages import tables, texts, wait_table  # noqa: E402
from tools.module_index import module_tables  # noqa: E402

#: Pages of the repository's root by their name on the site.
ROOT_PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "CHANGELOG.md": "changelog.md",
}
#: What a page has in the place of the messages.
MODULES_MARK = "<!-- modules -->"
#: And in the place of the picture, which is no file of the repository.
ROOMS_MARK, ROOMS = "<!-- rooms -->", "![The rooms of worker/ and who uses whom](rooms.svg)"
ERROR_MARK, WAIT_MARK = "<!-- error messages -->", "<!-- reasons for no new jobs -->"


def on_files(files: Files, *, config: MkDocsConfig) -> Files:
    """Add the root's pages and the picture of the rooms."""
    for source, target in ROOT_PAGES.items():
        text = (ROOT / source).read_text(encoding="utf-8")
        files.append(File.generated(config, target, content=re.sub(r"(\]\(|src=\"|srcset=\")docs/", r"\1", text)))
    files.append(File.generated(config, "rooms.svg", content=rooms_svg()))
    return files


def on_page_markdown(markdown: str, *, page: Page, config: MkDocsConfig, files: Files) -> str:  # noqa: ARG001
    """Lead links to the root's pages to their place on the site, and fill in the messages."""
    for source, target in ROOT_PAGES.items():
        markdown = re.sub(rf"\]\((\.\./)*{re.escape(source)}(?=[#)])", rf"]({_up(page)}{target}", markdown)
    markdown = markdown.replace(ROOMS_MARK, ROOMS)
    if MODULES_MARK in markdown:
        markdown = markdown.replace(MODULES_MARK, module_tables())
    if ERROR_MARK in markdown:
        found = texts()
        markdown = markdown.replace(ERROR_MARK, tables(found)).replace(WAIT_MARK, wait_table(found))
    return markdown


def _up(page: Page) -> str:
    return "../" * page.file.src_uri.count("/")

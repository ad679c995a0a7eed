"""Where a new engine's tree comes from: a folder, a git repository, or an archive; and how it gets to its place."""

import asyncio
import re
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from worker.engine.install.shell import tethered, without_passwords
from worker.engine.versions.tree import LEFT_OUT, TREE_BOUNDS, is_left_out, is_too_old, missing_in, version_of
from worker.errors import EngineChangeRefused, InputRefused
from worker.owner_path import owner_path
from worker.process.child import child_environment
from worker.untrusted.archives import copy_tree, unpack
from worker.untrusted.http_body import IDENTITY, SlowWatch, iter_body
from worker.untrusted.text import quote, redact_links
from worker.whole_file import remove
from worker.workflows.node_classes import PINNED_VERSION

#: ComfyUI's archive has 15 MB, its repository with all history 300.
DOWNLOAD_MAX_BYTES = 500 * 10**6
#: Slower than this over so many seconds counts as stuck.
SLOW_BYTES_PER_S, SLOW_WINDOW_S = 2048.0, 60.0
#: Longest time for a clone or a download.
FETCH_TIMEOUT_S = 3600.0
CONNECT_TIMEOUT_S = 30.0
#: GitHub sends an archive from another host.
MOST_REDIRECTS = 5
#: Between two signs of life.
TELL_EVERY_S = 5.0

ARCHIVES = (".zip", ".tar.gz", ".tgz")
_REF = re.compile(r"[0-9A-Za-z][\w./+-]{0,199}")
_GITHUB = re.compile(r"https://github\.com/([\w.-]+)/([\w.-]+?)(?:\.git)?/?")

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Source:
    """What an owner named. Exactly one of `folder` and `url` is set; a `url` without `ref` is an archive."""

    folder: Path | None = None
    url: str = ""
    ref: str = ""

    @property
    def spelled(self) -> str:
        """For people; without what is secret in an address."""
        if self.folder:
            return str(self.folder)
        return redact_links(self.url) + (f"@{self.ref}" if self.ref else "")

    @property
    def suggested_name(self) -> str:
        """A name for the engine: a folder's version, else what is written last in the address."""
        if self.folder:
            wanted = version_of(self.folder) or self.folder.name
        else:
            wanted = self.ref.rsplit("/", 1)[-1] or urlsplit(self.url).path.rsplit("/", 1)[-1]
        for ending in ARCHIVES:
            wanted = wanted.removesuffix(ending)
        return re.sub(r"[^A-Za-z0-9_.+-]", "-", wanted).lstrip("-._+")[:40] or "engine"


def read_source(text: str) -> Source:
    """`PATH`, `URL@REF` or the URL of an archive. Raises EngineChangeRefused for anything else."""
    if "://" not in text:
        if re.match(r"[\w.-]+@[\w.-]+:", text):
            raise _refused(text, "only addresses that begin with https:// are fetched")
        folder = owner_path(text).absolute()
        if not folder.is_dir():
            raise EngineChangeRefused(f"There is no folder {folder}.", remedy=USAGE)
        if missing := missing_in(folder):
            raise EngineChangeRefused(f"{folder} holds no ComfyUI: {', '.join(missing)} not found.", remedy=USAGE)
        refuse_old(folder)
        return Source(folder=folder)
    parts = urlsplit(text)
    if parts.scheme not in SCHEMES or not parts.hostname:
        raise _refused(text, "only addresses that begin with https:// are fetched")
    if parts.path.lower().endswith(ARCHIVES):
        return Source(url=text)
    # Of the path alone: a user and password before the host have an @ of their own.
    path, _, ref = parts.path.rpartition("@")
    if not path.strip("/") or not _REF.fullmatch(ref) or ".." in ref:
        raise _refused(text, "it names no tag, branch or commit")
    return Source(url=parts._replace(path=path, query="", fragment="").geturl(), ref=ref)


#: Tests add the scheme of a server of their own.
SCHEMES = {"https"}
USAGE = (
    "Write PATH of a ComfyUI folder, https://…@REF with a tag, branch or commit of a git repository, or the https "
    "address of a .zip or .tar.gz."
)


def _refused(text: str, why: str) -> EngineChangeRefused:
    return EngineChangeRefused(f"{without_passwords(redact_links(text))} can't be added: {why}.", remedy=USAGE)


def fetch(source: Source, tree: Path, scratch: Path, tell: Tell) -> None:
    """Put the source's ComfyUI at `tree`, which must not exist; `scratch` is for downloads.

    Raises EngineChangeRefused with what stood in the way. What is left then is the caller's to remove.
    """
    try:
        if source.folder:
            copy_tree(source.folder, tree, TREE_BOUNDS, left_out=is_left_out)
        elif source.ref and shutil.which("git"):
            _clone(source, tree, tell)
        else:
            _unpack_archive(source, tree, scratch, tell)
    except InputRefused as error:
        raise EngineChangeRefused(f"{source.spelled} is not taken: {error.message}") from error
    for name in LEFT_OUT:
        remove(tree / name, ignore_errors=True)
    if missing := missing_in(tree):
        raise EngineChangeRefused(f"{source.spelled} is no ComfyUI: it has no {', '.join(missing)}.")
    refuse_old(tree)


def refuse_old(tree: Path) -> None:
    """Raises EngineChangeRefused for a ComfyUI that lacks what the worker asks of it."""
    if is_too_old(tree):
        raise EngineChangeRefused(
            f"This is ComfyUI {version_of(tree)}, and the worker needs {PINNED_VERSION} or newer.",
            remedy="Name a newer one.",
        )


def archive_url(source: Source) -> str:
    """Where an archive of the source is. Raises EngineChangeRefused where only git could fetch it."""
    if not source.ref:
        return source.url
    if not (found := _GITHUB.fullmatch(source.url)):
        raise EngineChangeRefused(
            f"git is not installed, and {redact_links(source.url)} is not known to give archives.",
            remedy="Install git, or name the https address of a .zip or .tar.gz.",
        )
    return f"https://github.com/{found[1]}/{found[2]}/archive/{source.ref}.zip"


def _clone(source: Source, tree: Path, tell: Tell) -> None:
    """One commit without its history. Fetching by name serves tags, branches and commits alike."""
    tell(f"Fetching {source.spelled} …")
    _git(source, "-c", "init.defaultBranch=main", "init", "--quiet", str(tree))
    _git(source, "-C", str(tree), "fetch", "--quiet", "--depth", "1", "--", source.url, source.ref)
    _git(source, "-C", str(tree), "checkout", "--quiet", "--detach", "FETCH_HEAD")


def _git(source: Source, *arguments: str) -> None:
    # Nobody is asked for a password, and a server can lead to no other protocol.
    quiet = {"GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "GIT_ALLOW_PROTOCOL": ":".join(sorted(SCHEMES))}
    try:
        done = subprocess.run(
            # A git that outlives this command would write into what the next one clears away.
            tethered(["git", *arguments]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            timeout=FETCH_TIMEOUT_S,
            check=False,
            env=child_environment(quiet),
        )
    except subprocess.TimeoutExpired as error:
        raise EngineChangeRefused(f"{source.spelled} did not come within an hour.") from error
    if done.returncode:
        said = quote(done.stderr[-2000:].decode(errors="replace"))
        raise EngineChangeRefused(
            f"git can't fetch {source.spelled}: {said}", remedy="Check the address and the name of the tag or commit."
        )


def _unpack_archive(source: Source, tree: Path, scratch: Path, tell: Tell) -> None:
    url = archive_url(source)
    if source.ref:
        tell("git is not installed: taking the archive.")
    scratch.mkdir(parents=True, exist_ok=True)
    archive = scratch / ("tree.zip" if url.lower().endswith(".zip") else "tree.tar.gz")
    try:
        asyncio.run(asyncio.wait_for(_download(url, archive, tell), FETCH_TIMEOUT_S))
    except (httpx.HTTPError, asyncio.TimeoutError) as error:
        raise EngineChangeRefused(
            f"{redact_links(url)} does not come: {quote(str(error)) or 'no answer in time'}.",
            remedy="Check the address and the network, then try again.",
        ) from error
    tell("Unpacking …")
    tree.mkdir()
    unpack(archive, tree, TREE_BOUNDS)


async def _download(url: str, file: Path, tell: Tell) -> None:
    limits = httpx.Timeout(CONNECT_TIMEOUT_S)
    async with httpx.AsyncClient(timeout=limits, follow_redirects=True, max_redirects=MOST_REDIRECTS) as http:
        http.event_hooks["request"].append(_only_allowed)
        async with http.stream("GET", url, headers=IDENTITY) as response:
            if response.status_code != httpx.codes.OK:
                raise EngineChangeRefused(
                    f"{redact_links(url)} answers {response.status_code}.", remedy="Check the address and the ref."
                )
            slow, size, told_at = SlowWatch(SLOW_BYTES_PER_S, SLOW_WINDOW_S), 0, 0.0
            with file.open("wb") as out:
                async for piece in iter_body(response, max_bytes=DOWNLOAD_MAX_BYTES):
                    out.write(piece)
                    size += len(piece)
                    if drips := slow.drips(len(piece)):
                        raise EngineChangeRefused(f"{redact_links(url)} is too slow: {drips}.")
                    if time.monotonic() - told_at > TELL_EVERY_S:
                        told_at = time.monotonic()
                        tell(f"Downloading: {size / 1e6:.0f} MB")


async def _only_allowed(request: httpx.Request) -> None:
    """A hook, so that redirects are looked at, too."""
    if request.url.scheme not in SCHEMES:
        raise EngineChangeRefused(f"{redact_links(str(request.url))} is not fetched: it is not https.")

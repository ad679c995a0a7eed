"""Newer versions of a clone: tags of its origin, taken by fast-forward alone. Local changes are the owner's."""

from pathlib import Path
from typing import Final

from worker.errors import ConfigError, HostUnreachable
from worker.units import listed
from worker.update.releases import Offer, is_trial, version_key
from worker.update.switch import SwitchFailed, git

#: Files that are named of those an owner has changed.
_SHOWN: Final = 5


def look(root: Path, *, current: str, channel: str) -> Offer | None:
    """The newest tag of the channel, if it is newer than `current` and not yet in this clone's history.

    Raises HostUnreachable when origin can't be asked, ConfigError where the clone can't be updated at all.
    """
    try:
        if "origin" not in git(root, "remote").split():
            raise ConfigError("This clone has no remote `origin` to update from.", remedy="git remote add origin URL")
    except SwitchFailed as error:
        raise ConfigError(str(error)) from error
    try:
        # Forced, since a tag that was moved there would end every update; what is in the clone stays as it is.
        git(root, "fetch", "--quiet", "--force", "--tags", "origin")
        tags = git(root, "tag", "--list").split()
        here = version_key(current)
        known = [(key, tag) for tag in tags if (key := version_key(tag)) and (channel == "beta" or not is_trial(tag))]
        key, tag = max(known, default=(None, ""))
        if key is None or (here and key <= here):
            return None
        commit = git(root, "rev-parse", f"{tag}^{{commit}}").strip()
        changes = git(root, "show", f"{commit}:CHANGELOG.md") if _has(root, commit, "CHANGELOG.md") else ""
    except SwitchFailed as error:
        raise HostUnreachable(
            f"origin can't be asked for newer versions: {error}", remedy="Check the network, and `git remote -v`."
        ) from error
    return Offer(tag.removeprefix("v"), url=tag, notes=(changes,), commit=commit)


def _has(root: Path, commit: str, file: str) -> bool:
    return bool(git(root, "ls-tree", "--name-only", commit, file).strip())


def refuse_changes(root: Path, offer: Offer) -> str:
    """The commit that is here now. Raises ConfigError where the new version can't be taken without a loss."""
    try:
        changed = [line[3:] for line in git(root, "status", "--porcelain", "--untracked-files=no").splitlines()]
        head = git(root, "rev-parse", "HEAD").strip()
        behind = git(root, "rev-list", "--count", f"{offer.commit}..HEAD").strip()
    except SwitchFailed as error:
        raise ConfigError(str(error)) from error
    if changed:
        raise ConfigError(
            f"You have changed {listed(changed, _SHOWN)}, which the update would touch.",
            remedy="Keep the changes with `git stash` (and `git stash pop` afterwards), or commit them to a branch.",
        )
    if behind != "0":
        raise ConfigError(
            f"This clone has {behind} commits of its own, so {offer.version} is no fast-forward.",
            remedy=f"Bring both together yourself: git merge {offer.url}",
        )
    return head

"""Variables that lead git to another repository than the one it is told. Standard library only."""

from typing import Final

#: Hooks set them, and keepers of dotfiles: git would write into that repository.
ASTRAY: Final = frozenset({
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_DIR", "GIT_INDEX_FILE", "GIT_NAMESPACE",
    "GIT_OBJECT_DIRECTORY", "GIT_PREFIX", "GIT_WORK_TREE",
})  # fmt: skip

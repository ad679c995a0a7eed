"""The runtime: two Python environments and ComfyUI's tree, made by `python -m worker.engine.install`.

    layout        where everything lies: `Runtime`
    machine       which card, which Python, how much disk
    builds        which build of torch, and from which index
    record        state.json: what the owner chose, what is made, and from what
    locks         the lock files read: versions and hashes
    places        folders that a runtime had better not lie in
    verify        an installation compared with its locks
    plan          what is missing or outdated, and why: `check`
    shell         child processes with a log, a bound, and signs of life from what uv writes
    remedies      what to do, from what a failed command said
    uv            uv, which installs everything; `pip_settings` tells it what pip was told of the network,
                  `uv_settings` what of its own settings counts here
    cache         uv's cache, kept to what is installed
    environments  the Python environments: `make_engine_environment` for any ComfyUI
    tree          ComfyUI's folder: from the pinned wheel, from git, or the owner's own
    steps         the making of each part
    command       the command line

It runs before anything is installed, so nothing here imports anything but the standard library, and small modules of
the worker that keep to the same rule. Whatever kills it, wherever: the next run finds a part that is not recorded as
ready and makes it anew.
"""

from worker.engine.install.layout import Runtime
from worker.engine.install.plan import check

__all__ = ["Runtime", "check"]

"""The keys that say where models come from, and how they are fetched."""

from typing import Annotated, ClassVar

from annotated_types import Ge

from worker.config.key import About, Effect, Keys, Text

#: Bytes of a megabyte as connections are sold.
MEGABYTE = 1_000_000


class DownloadKeys(Keys):
    TITLE: ClassVar[str] = "Downloads"

    download_speed_limit: Annotated[
        float,
        Ge(0),
        About("Megabytes per second that all downloads of models may take together; 0 is no bound.", Effect.AT_ONCE),
    ] = 0.0
    model_reference: Annotated[
        Text | None,
        About(
            "Where the Horde's model lists are taken from in place of the official ones: a folder, or the address of "
            "one, with stable_diffusion.json and the others.",
            Effect.AT_ONCE,
            allowed="a path, an http:// or https:// address, or nothing",
        ),
    ] = None
    model_reference_branch: Annotated[
        Text | None,
        About(
            "A branch of the Horde's model reference with models on trial, which are then known beside the official "
            "ones. HORDE_MODEL_REFERENCE_GITHUB_BRANCH in the environment counts when this is empty.",
            Effect.AT_ONCE,
            allowed="a branch name such as qwen, or nothing",
        ),
    ] = None
    allow_private_downloads: Annotated[
        bool,
        About("Fetches models from addresses inside your own network too, such as a file server.", Effect.RESTART),
    ] = False

"""The keys that say who the worker is and what it offers the Horde: name, models, kinds of jobs."""

from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from annotated_types import Ge, Le, MaxLen
from pydantic import AfterValidator, SecretStr

from worker.config.key import (
    ANONYMOUS_KEY,
    About,
    ApiKey,
    CustomModels,
    Effect,
    Keys,
    Text,
    TextList,
    Token,
    WebAddress,
)

#: Rendered by a service of its own; no worker can load it, whatever a meta-command says.
NEVER_LOADED = "SDXL_beta::stability.ai#6901"
#: What a worker that names no model at all serves.
DEFAULT_MODELS = ("top 2",)
#: The API of the public Horde, and the hosts by which owners have named that.
PUBLIC_HORDE = "https://aihorde.net/api/"
PUBLIC_HOSTS = frozenset({"aihorde.net", "www.aihorde.net", "stablehorde.net", "www.stablehorde.net"})


def is_public_horde(address: str) -> bool:
    """Whether an address, with whatever path, is one of the public Horde."""
    try:
        return urlsplit(address.strip()).hostname in PUBLIC_HOSTS
    except ValueError:  # no address at all; its own check tells
        return False


def _with_never_loaded(names: tuple[str, ...]) -> tuple[str, ...]:
    return names if NEVER_LOADED in names else (*names, NEVER_LOADED)


class WorkerKeys(Keys):
    TITLE: ClassVar[str] = "Your worker"

    dreamer_name: Annotated[
        Text,
        MaxLen(100),
        About(
            "The worker's name on the Horde, unique there. The environment variable AIWORKER_DREAMER_WORKER_NAME and "
            "the option -n go before it.",
            Effect.RESTART,
            aliases=("dreamer_worker_name",),
        ),
    ] = "An Awesome Dreamer"
    api_key: Annotated[
        ApiKey,
        About(
            "Your key, from https://aihorde.net/register. Kudos go to its account; the anonymous key 0000000000 is "
            "refused by the Horde when it comes to serving.",
            Effect.RESTART,
            allowed=f"the 22 characters of a Horde key, or {ANONYMOUS_KEY}",
        ),
    ] = SecretStr(ANONYMOUS_KEY)
    horde_url: Annotated[
        WebAddress,
        About(
            "Where the Horde's API is. Every address of aihorde.net and stablehorde.net stands for the public Horde. "
            "AI_HORDE_URL takes its place while this is the public Horde, AI_HORDE_DEV_URL always.",
            Effect.RESTART,
            allowed="an http:// or https:// address",
        ),
    ] = PUBLIC_HORDE
    priority_usernames: Annotated[
        TextList,
        About(
            "Users whose jobs this worker takes first, as name#number. Your own come first in any case.",
            Effect.AT_ONCE,
            allowed="a list of names such as db0#1",
        ),
    ] = ()
    bridge_agent: Annotated[
        Text | None,
        MaxLen(1000),
        About(
            "The agent name told to the Horde, as name:version:url. The Horde decides by it which features it trusts "
            "the worker with, so leave it empty unless you know why.",
            Effect.RESTART,
            allowed="a text such as name:version:url, or nothing",
        ),
    ] = None


class ModelKeys(Keys):
    TITLE: ClassVar[str] = "Models"

    models_to_load: Annotated[
        TextList,
        About(
            "Models to serve: names of the Horde's reference, or commands such as TOP 3, BOTTOM 2, ALL SDXL, ALL SD15, "
            "ALL INPAINTING. An empty list means TOP 2, or only your own where custom_models has any.",
            Effect.AT_ONCE,
            aliases=("image_models_to_load",),
            allowed="a list of model names and commands",
        ),
    ] = DEFAULT_MODELS
    models_to_skip: Annotated[
        TextList,
        AfterValidator(_with_never_loaded),
        About(
            "Models never to serve, by name or command; they are taken out of what models_to_load stands for.",
            Effect.AT_ONCE,
            aliases=("image_models_to_skip",),
            allowed="a list of model names and commands",
        ),
    ] = (NEVER_LOADED,)
    load_large_models: Annotated[
        bool,
        About(
            "Lets commands such as TOP 5 choose very large models (Flux, Stable Cascade) too. A model that is named "
            "is served either way.",
            Effect.AT_ONCE,
        ),
    ] = False
    custom_models: Annotated[
        CustomModels,
        About(
            "Models that the Horde does not list, each with name, baseline and filepath; where there are several "
            "files, files in place of filepath: checkpoint, unet, text_encoder, text_encoder_2, vae, stage_b or "
            "stage_c, each with its path. Your account needs the customizer role.",
            Effect.RESTART,
            allowed="a list of entries with name, baseline and filepath (or files)",
        ),
    ] = ()
    civitai_api_token: Annotated[
        Token | None,
        About(
            "Your CivitAI token, for LoRAs that are not given out without one. CIVIT_API_TOKEN in the environment "
            "counts when this is empty.",
            Effect.RESTART,
            aliases=("CIVIT_API_TOKEN",),
            allowed="a token, or nothing",
        ),
    ] = None
    max_lora_cache_size: Annotated[
        int,
        Ge(10),
        Le(2048),
        About(
            "Disk space for LoRAs fetched on demand, in gigabytes. The least used go first; AIWORKER_LORA_CACHE_SIZE "
            "in the environment goes before it.",
            Effect.RESTART,
            allowed="a whole number of gigabytes from 10 to 2048",
        ),
    ] = 10
    purge_loras_on_download: Annotated[
        bool,
        About(
            "Deletes, when models are downloaded, LoRA files not called as those fetched for jobs are "
            "(Name_123.safetensors).",
            Effect.RESTART,
        ),
    ] = False


class FeatureKeys(Keys):
    TITLE: ClassVar[str] = "What you accept"

    max_power: Annotated[
        int,
        Ge(1),
        Le(512),
        About(
            "The largest image, in steps of 32768 pixels: 8 is 512x512, 18 is 768x768, 32 is 1024x1024, 50 is "
            "1280x1280, 128 is 2048x2048.",
            Effect.AT_ONCE,
        ),
    ] = 8
    nsfw: Annotated[
        bool,
        About("Takes jobs that may show nudity. When off, such images are censored before they leave.", Effect.AT_ONCE),
    ] = True
    censor_nsfw: Annotated[
        bool,
        About("Censors images that turn out to show nudity although nobody asked for it.", Effect.AT_ONCE),
    ] = False
    blacklist: Annotated[
        TextList,
        About(
            "Jobs whose prompt contains one of these words are not given to you. The Horde takes 200 words of 15 "
            "characters.",
            Effect.AT_ONCE,
            allowed="a list of words",
        ),
    ] = ()
    allow_img2img: Annotated[
        bool, About("Takes jobs that start from a picture. Needed for painting and ControlNet.", Effect.AT_ONCE)
    ] = True
    allow_painting: Annotated[
        bool,
        About(
            "Takes inpainting and outpainting jobs. Needs allow_img2img, and an inpainting model to be of use.",
            Effect.AT_ONCE,
            aliases=("allow_inpainting",),
        ),
    ] = False
    allow_unsafe_ip: Annotated[
        bool, About("Takes jobs from requesters behind VPNs and other suspicious addresses.", Effect.AT_ONCE)
    ] = True
    allow_post_processing: Annotated[
        bool, About("Takes jobs with upscaling, face repair or background removal.", Effect.AT_ONCE)
    ] = False
    allow_controlnet: Annotated[
        bool, About("Takes ControlNet jobs. Needs allow_img2img and more memory.", Effect.AT_ONCE)
    ] = False
    allow_sdxl_controlnet: Annotated[
        bool,
        About(
            "Takes ControlNet jobs for SDXL and the workflows built on them. Needs allow_controlnet.", Effect.AT_ONCE
        ),
    ] = False
    allow_lora: Annotated[
        bool, About("Takes jobs with LoRAs; they are fetched from CivitAI on demand.", Effect.AT_ONCE)
    ] = False
    require_upfront_kudos: Annotated[
        bool, About("Takes only jobs whose requester has the kudos to pay for them.", Effect.AT_ONCE)
    ] = False
    extra_slow_worker: Annotated[
        bool,
        About(
            "For machines far below the Horde's pace: only requesters who agreed to wait are served. Sets one thread, "
            "no queue and no performance or memory mode.",
            Effect.AT_ONCE,
        ),
    ] = False
    limit_max_steps: Annotated[
        bool, About("Takes no jobs with more steps than usual for their model.", Effect.AT_ONCE)
    ] = False

"""Keys for what the worker serves: its name, its models and their downloads, the kinds of jobs it accepts."""

from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from annotated_types import Ge, Le, MaxLen
from pydantic import AfterValidator, SecretStr

from worker.config.active_hours import read_hours
from worker.config.key_types import (
    ANONYMOUS_KEY,
    ApiKey,
    CustomModels,
    Effect,
    KeyDoc,
    KeyGroup,
    Text,
    TextList,
    Token,
    WebAddress,
    WorkerName,
)

#: Bytes per megabyte, as connection speeds are given.
MEGABYTE = 1_000_000
#: Rendered by an external service, so no worker can load it.
NEVER_LOADED = "SDXL_beta::stability.ai#6901"
#: The template's worker name; on the public Horde it belongs to somebody.
DEFAULT_NAME = "An Awesome Dreamer"
#: Value of models_to_load when the owner gives none.
DEFAULT_MODELS = ("top 2",)
#: The API of the public Horde, and every host name it has had.
PUBLIC_HORDE = "https://aihorde.net/api/"
PUBLIC_HOSTS = frozenset({"aihorde.net", "www.aihorde.net", "stablehorde.net", "www.stablehorde.net"})


def is_public_horde(address: str) -> bool:
    """Whether `address` names the public Horde, whatever its path."""
    try:
        return urlsplit(address.strip()).hostname in PUBLIC_HOSTS
    except ValueError:  # not an address; WebAddress reports that
        return False


def _with_never_loaded(names: tuple[str, ...]) -> tuple[str, ...]:
    return names if NEVER_LOADED in names else (*names, NEVER_LOADED)


def _hours(texts: tuple[str, ...]) -> tuple[str, ...]:
    for text in texts:
        read_hours(text)
    return texts


class WorkerKeys(KeyGroup):
    TITLE: ClassVar[str] = "Your worker"

    dreamer_name: Annotated[
        WorkerName,
        MaxLen(100),
        KeyDoc(
            "The worker's name, unique on the Horde. The environment variable AIWORKER_DREAMER_WORKER_NAME and the "
            "option -n override it.",
            Effect.RESTART,
            aliases=("dreamer_worker_name",),
        ),
    ] = DEFAULT_NAME
    api_key: Annotated[
        ApiKey,
        KeyDoc(
            "Your key from https://aihorde.net/register. Its account earns the kudos. The Horde accepts no worker with "
            "the anonymous key 0000000000.",
            Effect.RESTART,
            allowed=f"the 22 characters of a Horde key, or {ANONYMOUS_KEY}",
        ),
    ] = SecretStr(ANONYMOUS_KEY)
    horde_url: Annotated[
        WebAddress,
        WorkerName,
        KeyDoc(
            "Address of the Horde's API. Every address of aihorde.net and stablehorde.net means the public Horde. The "
            "environment variable AI_HORDE_URL replaces the public Horde, AI_HORDE_DEV_URL any address.",
            Effect.RESTART,
            allowed="an http:// or https:// address",
        ),
    ] = PUBLIC_HORDE
    priority_usernames: Annotated[
        TextList,
        KeyDoc(
            "Users whose jobs have priority, as name#number. Your own jobs always have priority.",
            Effect.AT_ONCE,
            allowed="a list of names such as db0#1",
        ),
    ] = ()
    active_hours: Annotated[
        TextList,
        AfterValidator(_hours),
        KeyDoc(
            "When the worker serves, by this machine's clock; at other times it finishes its jobs and asks for no "
            "more. Empty: always.",
            Effect.AT_ONCE,
            allowed="a list of times such as 22:00-07:00 or mon-fri 18:00-23:30",
        ),
    ] = ()
    bridge_agent: Annotated[
        Text | None,
        MaxLen(1000),
        KeyDoc(
            "The agent name sent to the Horde, as name:version:url. The Horde decides by it which kinds of jobs the "
            "worker gets, so normally leave it empty.",
            Effect.RESTART,
            allowed="a text such as name:version:url, or nothing",
        ),
    ] = None


class ModelKeys(KeyGroup):
    TITLE: ClassVar[str] = "Models"

    models_to_load: Annotated[
        TextList,
        KeyDoc(
            "Models to serve: names of the Horde's reference, or commands such as TOP 3, BOTTOM 2, ALL SDXL, ALL SD15, "
            "ALL INPAINTING. An empty list means TOP 2, or only custom_models if there are any.",
            Effect.AT_ONCE,
            aliases=("image_models_to_load",),
            allowed="a list of model names and commands",
        ),
    ] = DEFAULT_MODELS
    models_to_skip: Annotated[
        TextList,
        AfterValidator(_with_never_loaded),
        KeyDoc(
            "Models never to serve, by name or command; they are removed from models_to_load.",
            Effect.AT_ONCE,
            aliases=("image_models_to_skip",),
            allowed="a list of model names and commands",
        ),
    ] = (NEVER_LOADED,)
    load_large_models: Annotated[
        bool,
        KeyDoc(
            "Lets commands such as TOP 5 choose large models (Flux, Stable Cascade, Qwen-Image, Z-Image, Krea 2). "
            "Models listed by name are always served.",
            Effect.AT_ONCE,
        ),
    ] = False
    dynamic_models: Annotated[
        bool,
        KeyDoc(
            "Lets what is asked for at the Horde choose which models are offered. Models that models_to_load names are "
            "always offered; those that its commands stand for, and others that are on disk, take turns by demand.",
            Effect.AT_ONCE,
        ),
    ] = False
    number_of_dynamic_models: Annotated[
        int,
        Ge(0),
        Le(1000),
        KeyDoc(
            "With dynamic_models: how many models are offered by demand at a time, beside the named ones.",
            Effect.AT_ONCE,
        ),
    ] = 1
    max_models_to_download: Annotated[
        int,
        Ge(0),
        Le(1000),
        KeyDoc(
            "With dynamic_models: what commands of models_to_load stand for is fetched only while fewer models than "
            "this are on disk. Models that you name are always fetched.",
            Effect.AT_ONCE,
        ),
    ] = 10
    custom_models: Annotated[
        CustomModels,
        KeyDoc(
            "Models that the Horde does not list, each with name, baseline and filepath. A model of several files has "
            "files instead of filepath: checkpoint, unet, text_encoder, text_encoder_2, vae, stage_b or stage_c, each "
            "with its path. Your account needs the customizer role.",
            Effect.RESTART,
            allowed="a list of entries with name, baseline and filepath (or files)",
        ),
    ] = ()
    civitai_api_token: Annotated[
        Token | None,
        KeyDoc(
            "Your CivitAI token, for LoRAs that need one. The environment variable CIVIT_API_TOKEN is used if this is "
            "empty.",
            Effect.RESTART,
            aliases=("CIVIT_API_TOKEN",),
            allowed="a token, or nothing",
        ),
    ] = None
    max_lora_cache_size: Annotated[
        int,
        Ge(10),
        Le(2048),
        KeyDoc(
            "Disk space for LoRAs fetched on demand, in gigabytes. The least used are deleted first. The environment "
            "variable AIWORKER_LORA_CACHE_SIZE overrides it.",
            Effect.RESTART,
            allowed="a whole number of gigabytes from 10 to 2048",
        ),
    ] = 10
    purge_loras_on_download: Annotated[
        bool,
        KeyDoc(
            "When models are downloaded, deletes LoRA files that were not fetched for jobs (that are not named like "
            "Name_123.safetensors).",
            Effect.RESTART,
        ),
    ] = False


class DownloadKeys(KeyGroup):
    TITLE: ClassVar[str] = "Downloads"

    download_speed_limit: Annotated[
        float,
        Ge(0),
        KeyDoc("Speed limit for all model downloads together, in megabytes per second; 0 is no limit.", Effect.AT_ONCE),
    ] = 0.0
    model_reference: Annotated[
        Text | None,
        KeyDoc(
            "Source of the Horde's model lists instead of the official one: a folder or an address with "
            "stable_diffusion.json and the other lists.",
            Effect.AT_ONCE,
            allowed="a path, an http:// or https:// address, or nothing",
        ),
    ] = None
    model_reference_branch: Annotated[
        Text | None,
        KeyDoc(
            "A branch of the Horde's model reference with trial models, known in addition to the official ones. The "
            "environment variable HORDE_MODEL_REFERENCE_GITHUB_BRANCH is used if this is empty.",
            Effect.AT_ONCE,
            allowed="a branch name such as qwen, or nothing",
        ),
    ] = None
    allow_private_downloads: Annotated[
        bool,
        KeyDoc("Allows model downloads from addresses in your own network, such as a file server.", Effect.RESTART),
    ] = False


class FeatureKeys(KeyGroup):
    TITLE: ClassVar[str] = "What you accept"

    max_power: Annotated[
        int,
        Ge(1),
        Le(512),
        KeyDoc(
            "The largest image, in steps of 32768 pixels: 8 is 512x512, 18 is 768x768, 32 is 1024x1024, 50 is "
            "1280x1280, 128 is 2048x2048.",
            Effect.AT_ONCE,
        ),
    ] = 8
    nsfw: Annotated[
        bool,
        KeyDoc(
            "Accepts jobs that may show nudity. If off, such images are censored before the upload.", Effect.AT_ONCE
        ),
    ] = True
    censor_nsfw: Annotated[
        bool,
        KeyDoc("Censors images that show nudity although it was not requested.", Effect.AT_ONCE),
    ] = False
    aesthetic_score: Annotated[
        bool,
        KeyDoc(
            "Tells requesters how well an image is liked, 0 to 10, by the features that the safety check computes "
            "anyway.",
            Effect.AT_ONCE,
        ),
    ] = True
    blacklist: Annotated[
        TextList,
        KeyDoc(
            "Words: jobs whose prompt contains one of them go to other workers. The Horde accepts 200 words of 15 "
            "characters.",
            Effect.AT_ONCE,
            allowed="a list of words",
        ),
    ] = ()
    allow_img2img: Annotated[
        bool, KeyDoc("Accepts jobs that start from an image. Required for inpainting and ControlNet.", Effect.AT_ONCE)
    ] = True
    allow_painting: Annotated[
        bool,
        KeyDoc(
            "Accepts inpainting and outpainting jobs. Needs allow_img2img, and an inpainting model to have any effect.",
            Effect.AT_ONCE,
            aliases=("allow_inpainting",),
        ),
    ] = False
    allow_unsafe_ip: Annotated[
        bool, KeyDoc("Accepts jobs from requesters behind VPNs and other suspicious addresses.", Effect.AT_ONCE)
    ] = True
    allow_post_processing: Annotated[
        bool, KeyDoc("Accepts jobs with upscaling, face repair or background removal.", Effect.AT_ONCE)
    ] = False
    allow_controlnet: Annotated[
        bool, KeyDoc("Accepts ControlNet jobs. Needs allow_img2img and more memory.", Effect.AT_ONCE)
    ] = False
    allow_sdxl_controlnet: Annotated[
        bool,
        KeyDoc(
            "Accepts ControlNet jobs for SDXL and the workflows built on them. Needs allow_controlnet.", Effect.AT_ONCE
        ),
    ] = False
    allow_lora: Annotated[
        bool, KeyDoc("Accepts jobs with LoRAs, which are fetched from CivitAI on demand.", Effect.AT_ONCE)
    ] = False
    require_upfront_kudos: Annotated[
        bool, KeyDoc("Accepts only jobs whose requester has the kudos to pay for them.", Effect.AT_ONCE)
    ] = False
    extra_slow_worker: Annotated[
        bool,
        KeyDoc(
            "For machines too slow for the Horde's time limits: serves only requesters who agreed to wait. Sets one "
            "thread, no queue and no performance or memory mode.",
            Effect.AT_ONCE,
        ),
    ] = False
    limit_max_steps: Annotated[
        bool, KeyDoc("Refuses jobs with more steps than usual for their model.", Effect.AT_ONCE)
    ] = False

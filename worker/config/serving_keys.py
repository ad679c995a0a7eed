"""Keys for what the worker serves: its name, its models and their downloads, the kinds of jobs it accepts."""

from typing import Annotated, ClassVar
from urllib.parse import urlsplit

from annotated_types import MaxLen
from pydantic import AfterValidator, SecretStr

from worker.config.active_hours import read_hours
from worker.config.key_types import (
    ANONYMOUS_KEY,
    ApiKey,
    CustomModels,
    Effect,
    KeyGroup,
    Text,
    TextList,
    Token,
    WebAddress,
    WorkerName,
    key,
)

#: Bytes per megabyte, as connection speeds are given.
MEGABYTE = 1_000_000
#: Rendered by an external service, so no worker can load it.
NEVER_LOADED = "SDXL_beta::stability.ai#6901"
#: The template's worker name; on the public Horde it belongs to somebody.
DEFAULT_NAME = "An Awesome Dreamer"
#: Characters of a name that the Horde takes.
LONGEST_NAME = 100
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

    dreamer_name: Annotated[WorkerName, MaxLen(LONGEST_NAME)] = key(
        DEFAULT_NAME,
        Effect.RESTART,
        "The worker's name, unique on the Horde. The environment variable AIWORKER_DREAMER_WORKER_NAME and the option "
        "-n override it.",
        aliases=("dreamer_worker_name",),
        allowed=f"a text of at most {LONGEST_NAME} characters",
    )
    api_key: ApiKey = key(
        SecretStr(ANONYMOUS_KEY),
        Effect.RESTART,
        "Your key from https://aihorde.net/register. Its account earns the kudos. The Horde accepts no worker with "
        "the anonymous key 0000000000.",
        allowed=f"the 22 characters of a Horde key, or {ANONYMOUS_KEY}",
    )
    horde_url: Annotated[WebAddress, WorkerName] = key(
        PUBLIC_HORDE,
        Effect.RESTART,
        "Address of the Horde's API. Every address of aihorde.net and stablehorde.net means the public Horde. The "
        "environment variable AI_HORDE_URL replaces the public Horde, AI_HORDE_DEV_URL any address.",
        allowed="an http:// or https:// address",
    )
    priority_usernames: TextList = key(
        (),
        Effect.AT_ONCE,
        "Users whose jobs have priority, as name#number. Your own jobs always have priority.",
        allowed="a list of names such as db0#1",
    )
    active_hours: Annotated[TextList, AfterValidator(_hours)] = key(
        (),
        Effect.AT_ONCE,
        "When the worker serves, by this machine's clock; at other times it finishes its jobs and asks for no more. "
        "Empty: always.",
        allowed="a list of times such as 22:00-07:00 or mon-fri 18:00-23:30",
    )
    bridge_agent: Annotated[Text | None, MaxLen(1000)] = key(
        None,
        Effect.RESTART,
        "The agent name sent to the Horde, as name:version:url. The Horde decides by it which kinds of jobs the "
        "worker gets, so normally leave it empty.",
        allowed="a text such as name:version:url, or nothing",
    )


class ModelKeys(KeyGroup):
    TITLE: ClassVar[str] = "Models"

    models_to_load: TextList = key(
        DEFAULT_MODELS,
        Effect.AT_ONCE,
        "Models to serve: names of the Horde's reference, or commands such as TOP 3, BOTTOM 2, ALL SDXL, ALL SD15, "
        "ALL INPAINTING. An empty list means TOP 2, or only custom_models if there are any.",
        aliases=("image_models_to_load",),
        allowed="a list of model names and commands",
    )
    models_to_skip: Annotated[TextList, AfterValidator(_with_never_loaded)] = key(
        (NEVER_LOADED,),
        Effect.AT_ONCE,
        "Models never to serve, by name or command; they are removed from models_to_load.",
        aliases=("image_models_to_skip",),
        allowed="a list of model names and commands",
    )
    load_large_models: bool = key(
        False,
        Effect.AT_ONCE,
        "Lets commands such as TOP 5 choose large models (Flux, Stable Cascade, Qwen-Image, Z-Image, Krea 2). Models "
        "listed by name are always served.",
    )
    dynamic_models: bool = key(
        False,
        Effect.AT_ONCE,
        "Lets what is asked for at the Horde choose which models are offered. Models that models_to_load names are "
        "always offered; those that its commands stand for, and others that are on disk, take turns by demand.",
    )
    number_of_dynamic_models: int = key(
        1,
        Effect.AT_ONCE,
        "With dynamic_models: how many models are offered by demand at a time, beside the named ones.",
        least=0,
        most=1000,
    )
    max_models_to_download: int = key(
        10,
        Effect.AT_ONCE,
        "With dynamic_models: what commands of models_to_load stand for is fetched only while fewer models than this "
        "are on disk. Models that you name are always fetched.",
        least=0,
        most=1000,
    )
    custom_models: CustomModels = key(
        (),
        Effect.RESTART,
        "Models that the Horde does not list, each with name, baseline and filepath. A model of several files has "
        "files instead of filepath: checkpoint, unet, text_encoder, text_encoder_2, vae, stage_b or stage_c, each "
        "with its path. Your account needs the customizer role.",
        allowed="a list of entries with name, baseline and filepath (or files)",
    )
    civitai_api_token: Token | None = key(
        None,
        Effect.RESTART,
        "Your CivitAI token, for LoRAs that need one. The environment variable CIVIT_API_TOKEN is used if this is "
        "empty.",
        aliases=("CIVIT_API_TOKEN",),
        allowed="a token, or nothing",
    )
    max_lora_cache_size: int = key(
        10,
        Effect.RESTART,
        "Disk space for LoRAs fetched on demand, in gigabytes. The least used are deleted first. The environment "
        "variable AIWORKER_LORA_CACHE_SIZE overrides it.",
        least=10,
        most=2048,
        allowed="a whole number of gigabytes from 10 to 2048",
    )
    purge_loras_on_download: bool = key(
        False,
        Effect.RESTART,
        "When models are downloaded, deletes LoRA files that were not fetched for jobs (that are not named like "
        "Name_123.safetensors).",
    )


class DownloadKeys(KeyGroup):
    TITLE: ClassVar[str] = "Downloads"

    download_speed_limit: float = key(
        0.0,
        Effect.AT_ONCE,
        "Speed limit for all model downloads together, in megabytes per second; 0 is no limit.",
        least=0,
    )
    model_reference: Text | None = key(
        None,
        Effect.AT_ONCE,
        "Source of the Horde's model lists instead of the official one: a folder or an address with "
        "stable_diffusion.json and the other lists.",
        allowed="a path, an http:// or https:// address, or nothing",
    )
    model_reference_branch: Text | None = key(
        None,
        Effect.AT_ONCE,
        "A branch of the Horde's model reference with trial models, known in addition to the official ones. The "
        "environment variable HORDE_MODEL_REFERENCE_GITHUB_BRANCH is used if this is empty.",
        allowed="a branch name such as qwen, or nothing",
    )
    allow_private_downloads: bool = key(
        False, Effect.RESTART, "Allows model downloads from addresses in your own network, such as a file server."
    )


class FeatureKeys(KeyGroup):
    TITLE: ClassVar[str] = "What you accept"

    max_power: int = key(
        8,
        Effect.AT_ONCE,
        "The largest image, in steps of 32768 pixels: 8 is 512x512, 18 is 768x768, 32 is 1024x1024, 50 is 1280x1280, "
        "128 is 2048x2048.",
        least=1,
        most=512,
    )
    nsfw: bool = key(
        True, Effect.AT_ONCE, "Accepts jobs that may show nudity. If off, such images are censored before the upload."
    )
    censor_nsfw: bool = key(False, Effect.AT_ONCE, "Censors images that show nudity although it was not requested.")
    aesthetic_score: bool = key(
        True,
        Effect.AT_ONCE,
        "Tells requesters how well an image is liked, 0 to 10, by the features that the safety check computes anyway.",
    )
    blacklist: TextList = key(
        (),
        Effect.AT_ONCE,
        "Words: jobs whose prompt contains one of them go to other workers. The Horde accepts 200 words of 15 "
        "characters.",
        allowed="a list of words",
    )
    allow_img2img: bool = key(
        True, Effect.AT_ONCE, "Accepts jobs that start from an image. Required for inpainting and ControlNet."
    )
    allow_painting: bool = key(
        False,
        Effect.AT_ONCE,
        "Accepts inpainting and outpainting jobs. Needs allow_img2img, and an inpainting model to have any effect.",
        aliases=("allow_inpainting",),
    )
    allow_unsafe_ip: bool = key(
        True, Effect.AT_ONCE, "Accepts jobs from requesters behind VPNs and other suspicious addresses."
    )
    allow_post_processing: bool = key(
        False, Effect.AT_ONCE, "Accepts jobs with upscaling, face repair or background removal."
    )
    allow_controlnet: bool = key(False, Effect.AT_ONCE, "Accepts ControlNet jobs. Needs allow_img2img and more memory.")
    allow_sdxl_controlnet: bool = key(
        False,
        Effect.AT_ONCE,
        "Accepts ControlNet jobs for SDXL and the workflows built on them. Needs allow_controlnet.",
    )
    allow_lora: bool = key(False, Effect.AT_ONCE, "Accepts jobs with LoRAs, which are fetched from CivitAI on demand.")
    require_upfront_kudos: bool = key(
        False, Effect.AT_ONCE, "Accepts only jobs whose requester has the kudos to pay for them."
    )
    extra_slow_worker: bool = key(
        False,
        Effect.AT_ONCE,
        "For machines too slow for the Horde's time limits: serves only requesters who agreed to wait. Sets one "
        "thread, no queue and no performance or memory mode.",
    )
    limit_max_steps: bool = key(False, Effect.AT_ONCE, "Refuses jobs with more steps than usual for their model.")

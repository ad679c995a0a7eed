"""What this worker asks the Horde for: the owner's wishes, cut down to what templates, files and engines can do."""

from collections.abc import Collection, Sequence

from worker.config.schema import BridgeData
from worker.horde.wire import PopRequest
from worker.workflows.features import Feature
from worker.workflows.request import Mode

#: A pop names at most this many models; the server uses no more.
MAX_MODELS = 300
#: The server counts threads for its queue estimates only, and refuses more.
MAX_THREADS = 50


def build_offer(
    config: BridgeData,
    *,
    models: Sequence[str],
    modes: Collection[Mode],
    features: Collection[Feature],
    max_pixels: int,
    amount: int,
    threads: int,
    agent: str,
) -> PopRequest | None:
    """The next pop, or None when there is no model to offer.

    `modes` and `features` are what the enabled templates can do; a switch the owner left on is sent as off where
    they can't.
    """
    if not models:
        return None
    return PopRequest(
        name=config.dreamer_name,
        priority_usernames=list(config.priority_usernames),
        nsfw=config.nsfw,
        models=list(models[:MAX_MODELS]),
        bridge_agent=agent,
        threads=min(threads, MAX_THREADS),
        require_upfront_kudos=config.require_upfront_kudos,
        amount=amount,
        extra_slow_worker=config.extra_slow_worker,
        max_pixels=max_pixels,
        blacklist=list(config.blacklist),
        allow_img2img=config.allow_img2img and Mode.IMG2IMG in modes,
        allow_painting=config.allow_painting and Mode.INPAINTING in modes,
        allow_unsafe_ipaddr=config.allow_unsafe_ip,
        allow_post_processing=config.allow_post_processing
        and {Feature.UPSCALE, Feature.FACE_FIX, Feature.STRIP_BACKGROUND} <= set(features),
        allow_controlnet=config.allow_controlnet and Feature.CONTROL in features,
        allow_sdxl_controlnet=config.allow_sdxl_controlnet and Feature.TRANSPARENT in features,
        allow_lora=config.allow_lora and Feature.LORAS in features,
        limit_max_steps=config.limit_max_steps,
    )

"""horde-safety's real code in the real child, on random weights: what it finds means nothing, that it works does."""

import asyncio
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from worker.config.schema import BridgeData
from worker.demo.tiny import safety as random_child
from worker.engine.devices import Device
from worker.engine.install.layout import Runtime
from worker.engine.install.machine import Accelerator
from worker.images import RawImage
from worker.process.supervisor import RestartPolicy
from worker.safety.child_process import CHILD, SafetySettings
from worker.safety.gate import SafetyGate
from worker.safety.settings import safety_settings

pytestmark = [pytest.mark.engine, pytest.mark.cpu]


@pytest.fixture
def settings(quick_python: Path, tmp_path: Path) -> SafetySettings:
    config = BridgeData.model_validate({"api_key": "0" * 22, "dreamer_name": "w"})
    runtime = replace(Runtime.locate(), engine_python=quick_python)
    return safety_settings(
        config,
        runtime,
        Device(Accelerator.CPU),
        cache_home=tmp_path / "models",
        home=tmp_path,
        logs=tmp_path,
        aesthetic=tmp_path / "a.pth",
    )


def noise(width: int, height: int, mode: Any, seed: int) -> RawImage:
    size = width * height * len(mode)
    return RawImage(width, height, mode, (bytes(range(seed, 251)) * (size // 100 + 1))[:size])


async def test_images_of_every_kind_get_a_verdict(settings):
    command = (settings.command[0], str(random_child.__file__), str(CHILD))
    checker = SafetyGate(lambda: replace(settings, command=command), facts=lambda _: {"nsfw": False, "tags": []})
    images = [noise(64, 64, "RGB", 1), noise(640, 192, "RGBA", 2), noise(96, 128, "L", 3)]
    async with checker.running():
        verdicts = await asyncio.gather(
            *(checker.check(each, prompt="a fox ### old, blurry", model="m", censor_nsfw=True) for each in images)
        )
    for image, verdict in zip(images, verdicts, strict=True):
        if verdict.replacement:
            assert (verdict.replacement.width, verdict.replacement.height) == (image.width, image.height)
        assert verdict.note in (None, ("censorship", "nsfw"), ("censorship", "csam"))
    assert (settings.log_file).exists()
    assert not list((settings.folder.parent / "models" / "clip_blip").iterdir())


async def test_weights_that_can_not_be_fetched_are_named_with_what_to_do(settings):
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        proxy = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        offline = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), proxy)
        environment = {**settings.environment, **offline, "NO_PROXY": "", "no_proxy": ""}
        checker = SafetyGate(
            lambda: replace(settings, environment=environment), policy=RestartPolicy(backoff_s=(3600.0,))
        )
        async with checker.running():
            while "down" not in checker.hold():
                await asyncio.sleep(0.1)
    assert "weights in" in checker.hold()
    assert "cannot be loaded" in checker.hold()

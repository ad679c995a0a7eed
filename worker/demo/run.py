"""`horde-bridge demo`: the whole main job on this machine, against a Horde of our own.

A local Horde queues requests of three model families; the worker pops them, renders them on the real engine with
tiny models, and delivers; then every delivery is looked at the way its requester would.
"""

import asyncio
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from loguru import logger
from rich.console import Console
from rich.table import Table

from worker.app.run import serve
from worker.app.worker_spec import WorkerSpec
from worker.config.live import LiveConfig
from worker.config.schema import BridgeData
from worker.console.job_log import log_jobs
from worker.console.status_view import StatusView
from worker.demo import tinies
from worker.demo.horde.directory import OWNER_KEY
from worker.demo.horde.records import Baseline, Delivery, ImageRequest, ModelFacts
from worker.demo.horde.server import serve_in_thread
from worker.demo.horde.state import EmbeddedHorde
from worker.demo.tiny.recipes import TINY_MODELS, TinyModel
from worker.engine.devices import Device, engine_settings
from worker.engine.install.layout import Runtime
from worker.engine.install.machine import Accelerator
from worker.engine.versions.shelf import Shelf
from worker.horde.agent import AGENT
from worker.models.disk.store import Store
from worker.models.installed import InstalledModels
from worker.safety.checker import NoChecker
from worker.system_memory import system_memory
from worker.units import counted
from worker.workflows.library import Library

#: The largest tiny file, generously.
LARGEST_TINY_BYTES = 1024**3
#: Flux Schnell in fp8 with its text encoders.
LARGEST_FULL_SIZE_BYTES = 17 * 1024**3
#: Tiny models need no card, and a card in use is left alone.
CPU = Device(Accelerator.CPU)
LOGS_FOLDER = Path("logs")
#: Tiny models on a slow CPU: a job takes seconds, the first of each model some more.
JOB_TIMEOUT_S = 180.0


@dataclass(frozen=True)
class Request:
    """What the demo asks of one model. Sizes in pixels."""

    model: str
    prompt: str
    width: int
    height: int
    params: dict[str, Any]


REQUESTS = (
    Request("Tiny SD1.5", "a red fox in the snow ### blurry", 128, 128, {"steps": 4, "sampler_name": "k_euler_a"}),
    Request("Tiny SDXL", "a castle on a hill ### text", 192, 128, {"steps": 3, "sampler_name": "k_dpmpp_2m"}),
    Request("Tiny Flux Schnell", "a lighthouse", 128, 192, {"steps": 2, "sampler_name": "k_euler", "cfg_scale": 1.0}),
)


@dataclass(frozen=True)
class Result:
    """One job of the demo, as its requester got it."""

    id: str
    model: str
    width: int
    height: int
    seconds: float
    kudos: float
    file: str
    ok: bool


def run_demo(runtime: Runtime, *, jobs: int, slots: int = 1, out: Path, as_json: bool, at_bottom: bool = False) -> bool:
    """Run the demo on so many engines and print its results; whether every job arrived as asked.

    `at_bottom` keeps the status at the bottom of the terminal.
    """
    out.mkdir(parents=True, exist_ok=True)
    results = asyncio.run(_demo(runtime, list(islice(cycle(REQUESTS), jobs)), out, slots=slots, at_bottom=at_bottom))
    ok = bool(results) and all(result.ok for result in results)
    if as_json:
        print(json.dumps({"ok": ok, "jobs": [asdict(result) for result in results]}))  # noqa: T201 - the command's answer
    else:
        _print_table(results)
    return ok


async def _demo(
    runtime: Runtime, requests: Sequence[Request], out: Path, *, slots: int, at_bottom: bool
) -> list[Result]:
    wanted = {request.model for request in requests}
    models = [model for model in TINY_MODELS if model.name in wanted]
    await _build(runtime, models)
    # The engine in use shows what the worker would do, and not only the one that was installed.
    engine = Shelf(runtime).in_use
    tree, _ = await tinies.loading_tree(runtime, engine)
    logger.info("The engine is {} (ComfyUI {}).", engine.name, engine.version)
    horde = EmbeddedHorde(models={model.name: ModelFacts(Baseline(model.baseline)) for model in models})
    ids = [horde.enqueue(_asked(request)) for request in requests]
    with serve_in_thread(horde) as running:
        spec = tiny_worker(runtime, f"{running.url}/api", models, slots=slots)
        engines = [replace(each, python=engine.python, comfyui=tree) for each in spec.engines]
        await _work_until_done(
            with_view(replace(spec, engines=engines), at_bottom=at_bottom),
            lambda: horde.wait(ids, timeout_s=JOB_TIMEOUT_S * len(ids)),
        )
    return [_look_at(request, horde.deliveries(id_), out) for request, id_ in zip(requests, ids, strict=True)]


async def _build(runtime: Runtime, models: Sequence[TinyModel]) -> None:
    logger.info("Building the tiny models, where they are missing (a minute, once).")

    def tell(line: str) -> None:
        logger.debug("Tiny model file: {}", line)

    await tinies.build(runtime, {file.name for model in models for file in model.files}, tell=tell)


def _asked(request: Request) -> ImageRequest:
    params = {"width": request.width, "height": request.height, "cfg_scale": 5.0, "karras": True, **request.params}
    return ImageRequest(prompt=request.prompt, models=(request.model,), params=params, nsfw=False)


def tiny_worker(
    runtime: Runtime,
    url: str,
    models: Sequence[TinyModel],
    *,
    slots: int = 1,
    logs: Path = LOGS_FOLDER,
    full_size: bool = False,
    device: Device = CPU,
    settings: Mapping[str, Any] | None = None,
) -> WorkerSpec:
    """A worker that serves generated models to the Horde whose API begins at `url`.

    `models` are tiny ones unless `full_size`. `settings` are keys of bridgeData.yaml beside those set here.
    """
    generated = tinies.GeneratedModels.of(runtime, full_size=full_size)
    config = BridgeData.model_validate({
        "api_key": OWNER_KEY,
        "dreamer_name": "Demo worker",
        "queue_size": 1,
        "max_threads": slots,
        **(settings or {}),
    })  # fmt: skip
    store = Store(tinies.models_folder(generated.folder))
    return WorkerSpec(
        live=LiveConfig(config),
        horde_url=url,
        agent=AGENT,
        engines=engine_settings(
            config,
            replace(runtime, comfyui=generated.comfyui),
            devices=(device,),
            model_paths=store.model_paths(),
            folder=tinies.engines_folder(runtime),
            logs=logs,
            memory_bytes=system_memory().total,
            largest_model_bytes=LARGEST_FULL_SIZE_BYTES if full_size else LARGEST_TINY_BYTES,
        ),
        models=InstalledModels(store, tinies.records(models)),
        library=Library.load(),
        safety=NoChecker(),
        drain_limit_s=JOB_TIMEOUT_S,
    )


def with_view(spec: WorkerSpec, *, at_bottom: bool) -> WorkerSpec:
    """The same worker with what an owner sees of a real one."""
    return replace(spec, readers=(log_jobs, StatusView(spec.live, at_bottom=at_bottom)))


async def _work_until_done(spec: WorkerSpec, wait: Callable[[], None]) -> None:
    """Serve until the requester has everything, or nothing more can come."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait_and_stop() -> None:
        try:
            wait()
        except TimeoutError as error:
            logger.error("{}", error)
        loop.call_soon_threadsafe(stop.set)

    threading.Thread(target=wait_and_stop, name="demo-requester", daemon=True).start()
    counts = await serve(spec, stop)
    if counts.total.faulted:
        logger.warning("{} faulted.", counted(counts.total.faulted, "job"))


def _look_at(request: Request, deliveries: Sequence[Delivery], out: Path) -> Result:
    """Judge what arrived: a picture that opens, of the size that was asked for."""
    if not deliveries:
        return Result("", request.model, 0, 0, 0.0, 0.0, "", ok=False)
    delivery = deliveries[0]
    file = out / f"{delivery.job_id}.webp"
    try:
        picture = delivery.picture()
    except ValueError as error:
        logger.error("{}: {}", request.model, error)
        return Result(delivery.job_id, request.model, 0, 0, delivery.seconds, delivery.kudos, "", ok=False)
    assert delivery.data is not None
    file.write_bytes(delivery.data)
    ok = (picture.width, picture.height) == (request.width, request.height)
    seconds = round(delivery.seconds, 2)
    return Result(
        delivery.job_id, request.model, picture.width, picture.height, seconds, delivery.kudos, str(file), ok=ok
    )


def _print_table(results: Sequence[Result]) -> None:
    table = Table("job", "model", "size", "seconds", "kudos", "file", "", box=None)
    for result in results:
        size, mark = f"{result.width}x{result.height}", "ok" if result.ok else "FAILED"
        table.add_row(
            result.id[:8], result.model, size, f"{result.seconds:.1f}", f"{result.kudos:.1f}", result.file, mark
        )
    Console().print(table)

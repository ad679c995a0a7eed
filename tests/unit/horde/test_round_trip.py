"""The client over real sockets against the embedded Horde: what is lost on the way must not be lost for the job."""

import contextlib
import dataclasses
import io
from collections.abc import AsyncIterator, Iterator

import pytest
from PIL import Image

from tests.unit.horde.scripted import HASTY, HASTY_LIMITS
from worker.demo.horde.directory import OWNER_KEY
from worker.demo.horde.faults import Fault, FaultKind, Route
from worker.demo.horde.records import ImageRequest
from worker.demo.horde.server import RunningHorde, serve_in_thread
from worker.errors import HordeMaintenance, HordeRefused, HordeUnreachable, JobGone, UploadFailed
from worker.horde.client import HordeClient
from worker.horde.messages import PopRequest, PopResponse, SubmitRequest

AGENT = "AI Horde Worker reGen:13.0.0:https://example.invalid/worker"
#: hanging requests are given up soon
LIMITS = dataclasses.replace(HASTY_LIMITS, submit_s=1.0, transfer_s=0.2, submit_retry=HASTY, transfer_retry=HASTY)


def webp(width: int, height: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (width, height)).save(out, "WEBP")
    return out.getvalue()


IMAGE = webp(64, 64)


@pytest.fixture
def horde() -> Iterator[RunningHorde]:
    with serve_in_thread() as running:
        yield running


@pytest.fixture
async def client(horde: RunningHorde) -> AsyncIterator[HordeClient]:
    base_url = horde.api_url.removesuffix("/v2")
    async with contextlib.aclosing(HordeClient(base_url, OWNER_KEY, agent=AGENT, limits=LIMITS)) as opened:
        yield opened


def enqueue(horde: RunningHorde, n: int = 1, source: bytes | None = None) -> str:
    params = {"n": n, "width": 64, "height": 64}
    return horde.state.enqueue(ImageRequest("a fox", ("stable_diffusion",), params, source_image=source))


def answer(job_id: str, state: str = "ok") -> SubmitRequest:
    return SubmitRequest.model_validate({"id": job_id, "generation": "R2", "state": state, "seed": 1})


async def popped(horde: RunningHorde, client: HordeClient, pop_request: PopRequest) -> PopResponse:
    enqueue(horde)
    job = await client.pop(pop_request)
    assert len(job.job_ids) == 1
    assert job.problems == ()
    return job


async def test_a_batch_goes_the_whole_way(horde: RunningHorde, client: HordeClient, pop_request: PopRequest) -> None:
    request_id = enqueue(horde, n=3, source=webp(100, 50))
    job = await client.pop(pop_request.model_copy(update={"amount": 3}))
    assert (len(job.job_ids), job.problems) == (3, ())
    assert job.source_image is not None
    source = await client.fetch(job.source_image, 100_000)
    assert Image.open(io.BytesIO(source)).size == (100, 50)
    for job_id, url in zip(job.job_ids, job.uploads, strict=True):
        await client.upload(url, IMAGE)
        assert ((await client.submit(answer(job_id))).reward or 0.0) > 0
    assert len(horde.state.deliveries(request_id)) == 3
    assert (await client.pop(pop_request)).job_ids == []


@pytest.mark.parametrize(
    "fault",
    [
        Fault(FaultKind.RESET),
        Fault(FaultKind.RESET, after_effect=True),
        Fault(FaultKind.STATUS, status=500, after_effect=True),
        Fault(FaultKind.STATUS, status=502),
        Fault(FaultKind.STATUS, status=429, retry_after_s=0),
        Fault(FaultKind.HANG, seconds=5.0, after_effect=True),
        Fault(FaultKind.GARBAGE),
        Fault(FaultKind.TRUNCATED),
    ],
    ids=lambda fault: f"{fault.kind.value}{fault.status}{'-after' if fault.after_effect else ''}",
)
@pytest.mark.parametrize("state", ["ok", "faulted"])
@pytest.mark.usefixtures("no_least_wait")
async def test_a_submit_whose_answer_is_spoiled_is_delivered_once(
    horde: RunningHorde, client: HordeClient, pop_request: PopRequest, fault: Fault, state: str
) -> None:
    job = await popped(horde, client, pop_request)
    await client.upload(job.uploads[0], IMAGE)
    horde.faults.inject(Route.SUBMIT, fault)
    await client.submit(answer(job.job_ids[0], state))
    assert horde.faults.seen(Route.SUBMIT) == 2
    with pytest.raises(JobGone):
        await client.submit(answer(job.job_ids[0]))


@pytest.mark.parametrize("kind", [FaultKind.RESET, FaultKind.STATUS, FaultKind.HANG])
async def test_an_upload_survives_what_passes(
    horde: RunningHorde, client: HordeClient, pop_request: PopRequest, kind: FaultKind
) -> None:
    job = await popped(horde, client, pop_request)
    horde.faults.inject(Route.UPLOAD, Fault(kind, seconds=5.0))
    await client.upload(job.uploads[0], IMAGE)
    assert horde.faults.seen(Route.UPLOAD) == 2


async def test_an_expired_upload_is_final(horde: RunningHorde, client: HordeClient, pop_request: PopRequest) -> None:
    job = await popped(horde, client, pop_request)
    horde.faults.inject(Route.UPLOAD, Fault(FaultKind.EXPIRED))
    with pytest.raises(UploadFailed, match="403 AccessDenied"):
        await client.upload(job.uploads[0], IMAGE)
    assert horde.faults.seen(Route.UPLOAD) == 1


@pytest.mark.parametrize("kind", [FaultKind.RESET, FaultKind.GARBAGE, FaultKind.STATUS])
async def test_a_spoiled_pop_is_unreachable_and_not_repeated(
    horde: RunningHorde, client: HordeClient, pop_request: PopRequest, kind: FaultKind
) -> None:
    horde.faults.inject(Route.POP, Fault(kind))
    with pytest.raises(HordeUnreachable):
        await client.pop(pop_request)
    assert horde.faults.seen(Route.POP) == 1


async def test_a_dripping_pop_is_waited_for(horde: RunningHorde, client: HordeClient, pop_request: PopRequest) -> None:
    horde.faults.inject(Route.POP, Fault(FaultKind.DRIP, seconds=0.05))
    await popped(horde, client, pop_request)


async def test_maintenance_is_set_felt_and_ended(
    horde: RunningHorde, client: HordeClient, pop_request: PopRequest
) -> None:
    assert await client.worker_by_name(pop_request.name) is None
    await client.pop(pop_request)
    worker = await client.worker_by_name(pop_request.name)
    assert worker is not None
    await client.set_maintenance(worker.id, on=True, message="back soon")
    with pytest.raises(HordeMaintenance, match="back soon"):
        await client.pop(pop_request)
    await client.set_maintenance(worker.id, on=False)
    await client.pop(pop_request)


async def test_the_key_tells_its_owner_and_a_wrong_one_does_not(horde: RunningHorde, client: HordeClient) -> None:
    assert (await client.find_user()).trusted
    stranger = HordeClient(horde.api_url.removesuffix("/v2"), "nobodys-key", agent=AGENT, limits=LIMITS)
    async with contextlib.aclosing(stranger):
        with pytest.raises(HordeRefused, match="api_key"):
            await stranger.find_user()

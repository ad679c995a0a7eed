"""The embedded Horde's state machine: offers, batches, times to live, faults, sweeps and books.

Where the live server was measured, the expectation is read from tests/fixtures/horde.
"""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from worker.demo.horde.directory import OWNER_KEY, REQUESTER_KEY
from worker.demo.horde.dispatch import Rules
from worker.demo.horde.records import ImageRequest, Outcome, Refused, User
from worker.demo.horde.state import EmbeddedHorde

AGENT = "AI Horde Worker reGen:13.0.0:https://example.invalid/local"
MODELS = ["Deliberate", "AlbedoBase XL (SDXL)", "Flux.1-Schnell fp8 (Compact)", "Stable Cascade 1.0",
          "Deliberate Inpainting", "stable_diffusion", "stable_diffusion_inpainting"]  # fmt: skip
BOTH = ["Deliberate", "Deliberate Inpainting"]
UNTRUSTED_KEY = "untrusted"
NOWHERE = "00000000-0000-0000-0000-000000000000"
BASE_URL = "http://horde.test"
Body = dict[str, Any]


def picture() -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (64, 64)).save(out, "WEBP", lossless=True)
    return out.getvalue()


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


class Worker:
    """A worker of the trusted owner, calling the state directly."""

    def __init__(self, horde: EmbeddedHorde, **switches: Any) -> None:
        self.horde = horde
        self.switches = switches

    def pop(self, **changes: Any) -> Body:
        body = {
            "name": "w", "models": MODELS, "bridge_agent": AGENT, "max_pixels": 9437184, "allow_controlnet": True,
            "allow_sdxl_controlnet": True, "allow_lora": True, **self.switches, **changes,
        }  # fmt: skip
        return self.horde.pop(OWNER_KEY, body, base_url=BASE_URL)

    def submit(self, job_id: str, **changes: Any) -> Body:
        return self.horde.submit(OWNER_KEY, {"id": job_id, "generation": "R2", "seed": 1, **changes})

    def fault(self, job_id: str) -> Body:
        return self.submit(job_id, generation="", state="faulted")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def horde(clock: Clock) -> EmbeddedHorde:
    state = EmbeddedHorde(clock=clock, seed=1)
    state.add_user(User("plain", 3, UNTRUSTED_KEY, trusted=False, customizer=False))
    return state


@pytest.fixture
def worker(horde: EmbeddedHorde) -> Worker:
    return Worker(horde)


@pytest.fixture
def behaviours(horde_facts: Path) -> Body:
    found: Body = json.loads((horde_facts / "behaviours.json").read_text())
    return found


def fox(**params: Any) -> ImageRequest:
    return ImageRequest("fox", ("Deliberate",), params)


# As measured

IMG2IMG: Body = {"source_image": picture()}
INPAINTING: Body = {"source_image": picture(), "source_processing": "inpainting"}
CONTROLNET: Body = {"source_image": picture(), "params": {"control_type": "canny"}}

#: measured case → (changes of the pop, changes of the request)
SWITCHES: dict[str, tuple[Body, Body]] = {
    "allow_img2img=false / img2img": ({"allow_img2img": False}, IMG2IMG),
    "allow_painting=false / inpainting": ({"allow_painting": False}, INPAINTING),
    "inpainting, worker has no inpainting model": ({"models": ["Deliberate"]}, INPAINTING),
    "inpainting asked of a non-inpainting model, worker also has one": ({"models": BOTH}, INPAINTING),
    "txt2img, worker has ONLY inpainting models": ({"models": BOTH[1:]}, {"models": (BOTH[1],)}),
    "txt2img asked of an inpainting model, worker has both": ({"models": BOTH}, {"models": (BOTH[1],)}),
    "allow_post_processing=false / pp": ({"allow_post_processing": False}, {"params": {"post_processing": ["GFPGAN"]}}),
    "allow_controlnet=false / cn": ({"allow_controlnet": False}, CONTROLNET),
    "allow_lora=false / lora": ({"allow_lora": False}, {"params": {"loras": [{"name": "1"}]}}),
    "allow_lora=false / ti": ({"allow_lora": False}, {"params": {"tis": [{"name": "1"}]}}),
    "allow_sdxl_controlnet=false / transparent SD1.5": (
        {"allow_sdxl_controlnet": False}, {"params": {"transparent": True}},
    ),
    "nsfw=false / nsfw": ({"nsfw": False}, {"nsfw": True}),
    "nsfw=false / default nsfw (omitted)": ({"nsfw": False}, {}),
    "nsfw=false / nsfw:false": ({"nsfw": False}, {"nsfw": False}),
    "blacklist word": ({"blacklist": ["fox"]}, {}),
    "max_pixels 512*512 / 512x512": ({"max_pixels": 512 * 512}, {}),
    "max_pixels 512*512-1 / 512x512": ({"max_pixels": 512 * 512 - 1}, {}),
    "extra_slow_worker=true / normal request": ({"extra_slow_worker": True}, {}),
    "extra_slow_worker=true / extra_slow_workers request": ({"extra_slow_worker": True}, {"extra_slow_workers": True}),
    "limit_max_steps / 31 steps": ({"limit_max_steps": True}, {"params": {"steps": 31}}),
    "limit_max_steps / 30 steps": ({"limit_max_steps": True}, {"params": {"steps": 30}}),
    "limit_max_steps / k_heun 16 steps (x2)": (
        {"limit_max_steps": True}, {"params": {"steps": 16, "sampler_name": "k_heun"}},
    ),
    "require_upfront_kudos / poor requester": ({"require_upfront_kudos": True}, {"api_key": UNTRUSTED_KEY}),
    "require_upfront_kudos / trusted requester": ({"require_upfront_kudos": True}, {}),
    "slow_workers=false / new worker (baseline 1 MPS/s)": ({}, {"slow_workers": False}),
    "empty model list / worker serves SD": ({}, {"models": ()}),
    "two models listed, worker has the second": (
        {"models": ["stable_diffusion"]}, {"models": ("Deliberate", "stable_diffusion")},
    ),
    "targeted at another worker": ({}, {"workers": (NOWHERE,)}),
    "blacklisted other worker": ({}, {"workers": (NOWHERE,), "worker_blacklist": True}),
}  # fmt: skip


@pytest.mark.parametrize("case", SWITCHES)
def test_a_switch_offers_or_skips_as_measured(case: str, worker: Worker, behaviours: Body) -> None:
    switches, changes = SWITCHES[case]
    changes = {"models": ("Deliberate",), **changes}
    key = changes.pop("api_key", REQUESTER_KEY)
    worker.horde.enqueue(ImageRequest("fox", **changes), api_key=key)
    answer = worker.pop(**switches)
    measured = behaviours[f"switch: {case}"]
    assert len(answer["ids"]) == measured.get("n_ids", 0)
    assert {reason: count for reason, count in answer["skipped"].items() if count} == measured.get("skipped", {})


@pytest.mark.parametrize(
    ("offer", "request_params"),
    [
        ({"amount": 20, "max_pixels": 9437184}, {"n": 20}),
        ({"amount": 20, "max_pixels": 1048576}, {"n": 20, "width": 1024, "height": 1024}),
        ({"amount": 20, "max_pixels": 1048576}, {"n": 20}),
        ({"amount": 20, "max_pixels": 262144}, {"n": 20}),
        ({"amount": 5, "max_pixels": 4194304}, {"n": 20, "width": 1024, "height": 1024}),
        ({"amount": 20, "max_pixels": 1048576}, {"n": 20, "post_processing": ["RealESRGAN_x4plus"]}),
        ({"amount": 3, "max_pixels": 1048576}, {"n": 2}),
    ],
)
def test_a_batch_is_as_large_as_measured(offer: Body, request_params: Body, worker: Worker, behaviours: Body) -> None:
    worker.horde.enqueue(fox(**request_params))
    answer = worker.pop(**offer)
    side, processors = request_params.get("width", 512), request_params.get("post_processing")
    work = f"n={request_params['n']} {side}x{side} max_pixels={offer['max_pixels']} pp={processors}"
    case = f"batch amount={offer['amount']} {work}"
    assert len(answer["ids"]) == answer["payload"]["n_iter"] == behaviours[case]["n_ids"]


def test_batching_can_be_switched_off_as_measured(worker: Worker, behaviours: Body) -> None:
    worker.horde.enqueue(ImageRequest("fox", ("Deliberate",), {"n": 3}, disable_batching=True))
    assert len(worker.pop(amount=20)["ids"]) == behaviours["disable_batching n=3 amount=20"]["n_ids"]


BIG = {"width": 1024, "height": 1024}


@pytest.mark.parametrize(
    ("case", "model", "params"),
    [
        ("512x512x30", "Deliberate", {}),
        ("1024x1024x30", "Deliberate", BIG),
        ("1024x1024x50", "Deliberate", {**BIG, "steps": 50}),
        ("1024x1024x30 k_heun", "Deliberate", {**BIG, "sampler_name": "k_heun"}),
        ("1024x1024x40 controlnet", "Deliberate", {**BIG, "steps": 40, "control_type": "canny"}),
        ("2048x2048x30", "Deliberate", {"width": 2048, "height": 2048}),
        ("1024x1024x30 n=5 amount=5", "Deliberate", {**BIG, "n": 5}),
        ("512x512 k_dpm_adaptive", "Deliberate", {"sampler_name": "k_dpm_adaptive"}),
        ("flux 1024x1024x4", "Flux.1-Schnell fp8 (Compact)", {**BIG, "steps": 4}),
        ("flux 1024x1024x30", "Flux.1-Schnell fp8 (Compact)", BIG),
    ],
)
def test_the_time_to_live_is_as_measured(case: str, model: str, params: Body, worker: Worker, behaviours: Body) -> None:
    source = picture() if "control_type" in params else None
    worker.horde.enqueue(ImageRequest("fox", (model,), params, source_image=source))
    assert worker.pop(amount=5)["ttl"] == behaviours["ttl"][case]["ttl"]


def test_an_extra_slow_worker_has_three_times_as_long_as_measured(worker: Worker, behaviours: Body) -> None:
    worker.horde.enqueue(ImageRequest("fox", ("Deliberate",), {"steps": 10}, extra_slow_workers=True))
    assert worker.pop(extra_slow_worker=True)["ttl"] == behaviours["ttl extra_slow_worker 512x512x10"]


def test_too_many_faults_end_in_maintenance_as_measured(worker: Worker, behaviours: Body) -> None:
    faults, status, body = behaviours["faults until maintenance (count, status, response)"]
    worker.horde.enqueue(fox(n=20))
    worker.horde.enqueue(fox(n=20))
    for _ in range(faults):
        assert worker.fault(worker.pop()["id"]) == {"reward": 0.0}
    with pytest.raises(Refused) as refused:
        worker.pop()
    assert (refused.value.status, refused.value.rc) == (status, body["rc"])
    details, measured = worker.horde.worker("w", OWNER_KEY), behaviours["worker after"]
    for field in ("maintenance_mode", "uncompleted_jobs", "requests_fulfilled"):
        assert details[field] == measured[field]


def test_a_request_of_one_image_is_given_up_as_measured(worker: Worker, behaviours: Body) -> None:
    request_id = worker.horde.enqueue(fox())
    for measured in behaviours["n=1 request faulted again and again"][1:4:2]:
        worker.fault(worker.pop()["id"])
        now = worker.horde.check(request_id)
        for field in ("finished", "processing", "restarted", "waiting", "done", "faulted"):
            assert now[field] == measured[field]
    assert worker.pop()["ids"] == []


def test_rich_requesters_come_first_but_for_the_owner_and_friends_as_measured(worker: Worker, behaviours: Body) -> None:
    users = {"rich requester": (5, 1000.0), "poor": (4, 10.0), "anon": (9, 0.0)}
    for name, (number, kudos) in users.items():
        worker.horde.add_user(User(name, number, name, kudos=kudos))
    for name in reversed(users):
        worker.horde.enqueue(ImageRequest(f"from {name}", ("Deliberate",)), api_key=name)
    prompts = [worker.pop()["payload"]["prompt"] for _ in users]
    assert prompts == behaviours["pop order: kudos first"]
    for name in ("rich requester", "poor"):
        worker.horde.enqueue(ImageRequest(f"from {name}", ("Deliberate",)), api_key=name)
    worker.horde.enqueue(ImageRequest("from owner", ("Deliberate",)), api_key=OWNER_KEY)
    prompts = [worker.pop(priority_usernames=["poor#4"])["payload"]["prompt"] for _ in range(3)]
    assert prompts == behaviours["pop order: priority_usernames=[poor#4], own user also"]


def test_the_agents_name_decides_what_is_credited_as_measured(horde: EmbeddedHorde, behaviours: Body) -> None:
    measured = behaviours["bridge reward multiplier"]
    for number, agent in enumerate((AGENT, "AI Horde Worker reGen:10.1.1:u", "My Own Worker:1:u")):
        worker = Worker(horde, name=f"w{number}", bridge_agent=agent, models=["Deliberate"])
        horde.enqueue(ImageRequest("fox", ("Deliberate",), {"steps": 1}, r2=False))
        reward = worker.submit(worker.pop()["id"])["reward"]
        ratio = measured[agent]["worker record"]["kudos_rewards"] / measured[agent]["submit says"][0][1]["reward"]
        credited = horde.worker(f"w{number}")["kudos_rewards"]
        assert credited == pytest.approx(reward * ratio, abs=0.6)  # both are rounded to whole kudos


# Times, sweeps, faults


def test_an_overdue_job_is_taken_away_only_by_the_sweep(worker: Worker, clock: Clock) -> None:
    worker.horde.enqueue(fox())
    in_time = worker.pop()
    clock.now += in_time["ttl"] - 1
    worker.horde.enqueue(fox())
    late = worker.pop()
    assert worker.submit(in_time["id"])["reward"] > 0
    clock.now += late["ttl"] + 61
    with pytest.raises(Refused) as refused:
        worker.submit(late["id"])
    assert refused.value.rc == "AbortedGen"
    assert worker.horde.worker("w")["uncompleted_jobs"] == 1
    books = worker.horde.accounting()
    assert (books.popped, books.answered, books.lost, books.late) == (2, 1, 1, 1)


def test_a_job_late_by_less_than_a_sweep_still_counts(clock: Clock) -> None:
    worker = Worker(EmbeddedHorde(clock=clock, rules=Rules(sweep_s=10_000)))
    worker.horde.enqueue(fox())
    popped = worker.pop()
    clock.now += popped["ttl"] + 250
    assert worker.submit(popped["id"])["reward"] > 0


def test_an_overdue_job_is_offered_again_under_a_new_id(worker: Worker, clock: Clock) -> None:
    worker.horde.enqueue(fox(seed="7"))
    first = worker.pop()
    clock.now += 200
    again = worker.pop()
    assert again["id"] != first["id"]
    assert again["payload"] == first["payload"]


def test_a_faulted_job_comes_back_with_a_new_random_seed(worker: Worker) -> None:
    worker.horde.enqueue(fox())
    first = worker.pop()
    worker.fault(first["id"])
    assert worker.pop()["payload"]["seed"] != first["payload"]["seed"]


def test_three_images_cost_at_most_six_tries(worker: Worker) -> None:
    request_id = worker.horde.enqueue(fox(n=3))
    waiting = []
    for _ in range(6):
        worker.fault(worker.pop()["id"])
        waiting.append(worker.horde.check(request_id)["waiting"])
    assert waiting == [3, 3, 3, 2, 1, 0]
    assert worker.horde.check(request_id)["done"]


def test_a_request_that_failed_three_times_is_given_up_by_the_sweep(worker: Worker, clock: Clock) -> None:
    request_id = worker.horde.enqueue(fox(n=5))
    for _ in range(3):
        worker.fault(worker.pop()["id"])
    assert not worker.horde.check(request_id)["faulted"]
    clock.now += 61
    assert worker.pop()["ids"] == []
    assert worker.horde.check(request_id)["faulted"]
    worker.horde.wait([request_id], timeout_s=0.0)


def test_old_faults_do_not_count_towards_maintenance(worker: Worker, clock: Clock) -> None:
    for _ in range(21):
        worker.horde.enqueue(fox())
        worker.fault(worker.pop()["id"])
        clock.now += 200
    assert worker.horde.worker("w")["maintenance_mode"] is False


def test_a_cancelled_job_in_a_workers_hands_comes_back_when_it_is_not_answered(worker: Worker, clock: Clock) -> None:
    request_id = worker.horde.enqueue(fox(n=2))
    first = worker.pop()
    worker.horde.cancel(request_id, base_url=BASE_URL)
    assert worker.pop()["ids"] == []
    clock.now += first["ttl"] + 61
    assert len(worker.pop()["ids"]) == 1


def test_a_request_that_nothing_happens_to_expires(worker: Worker, clock: Clock) -> None:
    request_id = worker.horde.enqueue(fox())
    clock.now += 1261
    assert worker.pop()["ids"] == []
    with pytest.raises(Refused) as refused:
        worker.horde.check(request_id)
    assert refused.value.rc == "RequestNotFound"


def test_switches_are_stored_at_most_once_in_the_debounce_time(clock: Clock) -> None:
    worker = Worker(EmbeddedHorde(clock=clock, rules=Rules(checkin_debounce_s=30)))
    worker.pop()
    clock.now += 31
    worker.pop()
    worker.horde.enqueue(fox(loras=[{"name": "1"}]))
    clock.now += 10
    assert worker.pop(allow_lora=False)["ids"], "the older switches are still in force"
    worker.horde.enqueue(fox(loras=[{"name": "1"}]))
    clock.now += 30
    assert worker.pop(allow_lora=False)["skipped"]["lora"] == 1


def test_messages_are_shown_until_they_expire(worker: Worker, clock: Clock) -> None:
    worker.pop()
    worker.horde.message_worker("w", "hello", expires_s=60)
    assert [message["message"] for message in worker.pop()["messages"]] == ["hello"]
    clock.now += 61
    assert worker.pop()["messages"] == []


# Seeds, gates, results


@pytest.mark.parametrize(("amount", "seeds"), [(3, ["63"]), (1, ["63", "56", "49"])])
def test_varied_seeds_count_down_with_the_images_left(amount: int, seeds: list[str], worker: Worker) -> None:
    worker.horde.enqueue(fox(n=3, seed="42", seed_variation=7))
    assert [worker.pop(amount=amount)["payload"]["seed"] for _ in seeds] == seeds


def test_a_text_is_a_seed_and_always_the_same(worker: Worker) -> None:
    for _ in range(2):
        worker.horde.enqueue(fox(seed="the little seed that could"))
    first, second = (worker.pop()["payload"]["seed"] for _ in range(2))
    assert first == second
    assert 0 <= int(first) < 1 << 32


@pytest.mark.parametrize(
    ("agent", "params", "models", "is_offered"),
    [
        (AGENT, {"post_processing": ["4xNomos8kSC"]}, ["Deliberate"], True),
        ("AI Horde Worker reGen:12.9.9:u", {"post_processing": ["4xNomos8kSC"]}, ["Deliberate"], False),
        ("AI Horde Worker reGen:8.0.0:u", {"transparent": True}, ["Deliberate"], True),
        ("AI Horde Worker reGen:7.0.0:u", {"transparent": True}, ["Deliberate"], False),
        ("AI Horde Worker reGen:9.0.0:u", {}, ["Deliberate", "Flux.1-Schnell fp8 (Compact)"], True),
        ("AI Horde Worker reGen:8.0.0:u", {}, ["Deliberate", "Flux.1-Schnell fp8 (Compact)"], False),
        ("AI Horde Worker reGen:5.0.0:u", {"hires_fix": True}, ["Deliberate", "Stable Cascade 1.0"], False),
        ("AI Horde Worker reGen:1.0.0:u", {}, ["Deliberate"], False),
        ("My Own Worker:1.0.0:u", {}, ["Deliberate"], False),
        ("nonsense", {}, ["Deliberate"], False),
    ],
)
def test_the_agents_version_gates_what_is_offered(
    agent: str, params: Body, models: list[str], is_offered: bool, worker: Worker
) -> None:
    worker.horde.enqueue(fox(**params))
    answer = worker.pop(bridge_agent=agent, models=models)
    assert bool(answer["ids"]) is is_offered
    assert is_offered or answer["skipped"]["bridge_version"] == 1


def test_an_unknown_worker_gets_plain_jobs_without_upload_addresses_and_sends_images_inline(worker: Worker) -> None:
    request_id = worker.horde.enqueue(ImageRequest("fox", ("Deliberate",), r2=False))
    answer = worker.pop(bridge_agent="My Own Worker:1.0.0:u", models=["Deliberate"])
    assert answer["r2_uploads"] is None
    worker.submit(answer["id"], generation=base64.b64encode(picture()).decode())
    shown = worker.horde.status(request_id, base_url=BASE_URL)["generations"][0]["img"]
    assert base64.b64decode(shown) == picture()


def test_only_metadata_censors_and_a_censored_image_costs_its_requester_the_fee_only(worker: Worker) -> None:
    ids = [worker.horde.enqueue(fox()) for _ in range(3)]
    metadata = [{"type": "censorship", "value": "nsfw"}]
    worker.submit(worker.pop()["id"], state="censored")
    worker.submit(worker.pop()["id"], censored=True)
    assert worker.submit(worker.pop()["id"], gen_metadata=metadata, state="faulted")["reward"] > 0
    shown = [worker.horde.status(request_id, base_url=BASE_URL) for request_id in ids]
    assert [status["generations"][0]["censored"] for status in shown] == [False, False, True]
    assert shown[2]["generations"][0]["gen_metadata"] == metadata
    assert shown[2]["kudos"] == 4.0 < shown[0]["kudos"]


def test_deliveries_carry_the_uploaded_picture_or_say_that_there_is_none(worker: Worker) -> None:
    request_id = worker.horde.enqueue(fox(n=2))
    popped = worker.pop(amount=2)
    worker.horde.storage.put("stable-horde", f"{popped['ids'][0]}.webp", picture())
    for job_id in popped["ids"]:
        worker.submit(job_id)
    uploaded, missing = worker.horde.deliveries(request_id)
    assert (uploaded.picture().width, uploaded.picture().height) == (64, 64)
    with pytest.raises(ValueError, match="nothing was uploaded"):
        missing.picture()


def test_the_books_balance_over_every_kind_of_end(worker: Worker, clock: Clock) -> None:
    worker.horde.enqueue(fox(n=5))
    ok, faulted, lost, overdue, still_open = worker.pop(amount=5)["ids"]
    worker.submit(ok)
    worker.fault(faulted)
    worker.horde.undelivered([lost])
    for again in (ok, faulted, NOWHERE):
        with pytest.raises(Refused):
            worker.submit(again)
    books = worker.horde.accounting()
    assert books.outcomes[ok] is Outcome.OK
    assert books.as_dict() == {
        "popped": 4, "answered": 2, "open": 2, "ok": 1, "faulted": 1, "aborted": 0, "undelivered": 1,
        "duplicates": 1, "repeats": 0, "late": 1, "unknown": 1, "kudos": books.kudos,
        "delivered_at": books.delivered_at,
    }  # fmt: skip
    worker.submit(still_open)
    clock.now += 1000
    books = worker.horde.accounting()
    assert books.outcomes[overdue] is Outcome.ABORTED
    assert (books.popped, books.answered, books.lost) == (4, 3, 1)


def test_waiting_for_a_request_that_is_not_done_times_out(worker: Worker) -> None:
    request_id = worker.horde.enqueue(fox())
    with pytest.raises(TimeoutError, match="1 requests"):
        worker.horde.wait([request_id], timeout_s=0.0)
    worker.submit(worker.pop()["id"])
    worker.horde.wait([request_id], timeout_s=0.0)


def test_the_same_seed_gives_the_same_ids_and_seeds(clock: Clock) -> None:
    def popped() -> Body:
        worker = Worker(EmbeddedHorde(clock=clock, seed=5))
        worker.horde.enqueue(fox())
        answer = worker.pop()
        return {"id": answer["id"], "payload": answer["payload"]}

    assert popped() == popped()


def test_a_request_of_the_wrong_shape_is_refused_where_it_is_made(horde: EmbeddedHorde) -> None:
    with pytest.raises(Refused) as refused:
        horde.enqueue(fox(width=100))
    assert refused.value.errors == {"width": "100 is not a multiple of 64"}


def test_a_user_with_too_much_waiting_is_told_so(horde: EmbeddedHorde) -> None:
    horde.add_user(User("small", 7, "small", concurrency=3))
    horde.enqueue(fox(n=2), api_key="small")
    with pytest.raises(Refused) as refused:
        horde.enqueue(fox(n=2), api_key="small")
    assert (refused.value.status, refused.value.rc) == (429, "TooManyPrompts")

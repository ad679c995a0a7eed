"""One snapshot says what the worker is, does and did, in plain values."""

import asyncio
import json
from types import SimpleNamespace

import pytest

from tests.unit.status.rig import NOON, PAUSED, Rig, slot
from worker.engine.slot import SlotState
from worker.errors import ConfigError, EngineDied, HordeMaintenance, HordeUnreachable, InputRefused, JobNotUnderstood
from worker.horde.messages import Message, PopResponse, TeamDetails, UserDetails, WorkerDetails
from worker.jobs.job import Stage
from worker.models.progress import ModelsState
from worker.status.as_json import read_snapshot, versioned
from worker.status.snapshot import Outcome, Phase
from worker.status.standing import MOST_MESSAGES, MOST_TOLD


@pytest.fixture
async def rig():
    return Rig()


async def test_a_worker_is_starting_until_it_serves_and_then_says_what_it_does(rig):
    assert rig.board.snapshot().phase is Phase.STARTING
    rig.serve()
    assert rig.board.snapshot().phase is Phase.SERVING
    rig.board.steering.pause()
    assert rig.board.snapshot().phase is Phase.PAUSED
    rig.board.steering.resume()
    assert rig.board.snapshot().phase is Phase.SERVING
    rig.board.steering.finish()
    assert rig.stop.is_set()
    assert rig.board.snapshot().phase is Phase.FINISHING


async def test_a_pause_is_told_while_the_engines_still_start(rig):
    rig.board.steering.pause(600.0)
    (pause,) = rig.board.snapshot().pauses
    assert (pause.kind, pause.sentence, pause.until) == ("owner", "Paused by its owner.", NOON + 700.0)
    rig.board.steering.resume()
    assert rig.board.snapshot().pauses == ()


async def test_a_job_under_way_is_seen_on_its_slot_with_its_steps(rig):
    job = rig.job("a" * 36)
    rig.in_flight.add(job, asyncio.ensure_future(asyncio.sleep(60)))
    rig.events.enter(job, Stage.RENDERING)
    waiting = rig.serve().board.snapshot()
    assert (waiting.waiting, waiting.slots[0].job) == (1, None)
    job.slot, job.started_at, job.progress = 1, rig.clock.now, (5, 20)
    rig.clock.now += 1.0
    seen = rig.board.snapshot()
    assert seen.slots[0].state == "working"
    assert (seen.slots[0].job.step, seen.slots[0].job.of_steps, seen.slots[0].job.left_s) == (5, 20, 3.0)
    assert seen.slots[0].job.begun_at == NOON + 100.0
    assert seen.waiting == 0


async def test_a_job_that_ended_is_kept_with_its_stages_and_counted(rig):
    rig.ends(rig.job("a", "b"), kudos=20.0)
    (record,), total = rig.board.history()
    assert total == 1
    assert (record.outcome, record.kudos, record.images, record.delivered) == (Outcome.DONE, 20.0, 2, 2)
    stages = record.stages
    assert (stages.pop, stages.fetch, stages.wait, stages.render) == (1.0, 1.0, 2.0, 4.0)
    assert (stages.safety, stages.encode, stages.upload) == (0.5, 0.0, 0.25)
    assert record.seconds == 9.0
    session = rig.board.snapshot().session
    assert (session.total.jobs, session.total.images, session.total.kudos, session.total.render_s) == (1, 2, 20.0, 4.0)
    assert session.stages.render == 4.0
    hour = rig.board.hours(1)[0]
    assert hour.models["Deliberate"].kudos == hour.features["batch"].kudos == hour.total.kudos == 20.0


async def test_a_fault_is_kept_with_whose_it_was_and_what_helps(rig):
    rig.ends(rig.job(), error=EngineDied("It ended.", remedy="Look at its log."))
    rig.ends(rig.job("x", model="Other"), error=JobNotUnderstood("No size."))
    rig.ends(rig.job("y"), dropped="The worker is shutting down.")
    (given_back, foreign, own), _ = rig.board.history()
    assert (own.outcome, own.blame, own.sentence, own.remedy) == (
        Outcome.FAULTED, "engine", "It ended.", "Look at its log.",
    )  # fmt: skip
    assert foreign.blame == "requester"
    assert (given_back.outcome, given_back.blame) == (Outcome.GIVEN_BACK, "given back")
    assert rig.board.snapshot().session.faults == {"engine": 1, "requester": 1, "given back": 1}
    (only,), total = rig.board.history(wanted=lambda job: job.model == "Other")
    assert (only.id, total) == ("x", 1)


async def test_jobs_of_more_than_a_day_ago_are_gone(rig):
    rig.ends(rig.job())
    rig.clock.now += 86_000.0
    assert rig.board.history()[1] == 1
    rig.clock.now += 500.0
    assert rig.board.history()[1] == 0


async def test_why_nothing_is_popped_is_told_with_its_moments(rig):
    rig.serve()
    rig.admission.reasons = (PAUSED,)
    (pause,) = rig.board.snapshot().pauses
    assert (pause.kind, pause.sentence, pause.remedy) == ("faults", PAUSED.sentence, PAUSED.remedy)
    assert (pause.until, pause.since) == (NOON + 160.0, NOON + 90.0)


async def test_each_model_says_what_has_become_of_it(rig):
    rig.models = ModelsState(("a", "b", "c"), ("d",), {"e": "no room"})
    rig.serve()
    rig.admission.planner.withdrawn = {"b": "too slow"}
    rig.admission.not_offered = {"c": "no template", "allow_lora": "no file"}
    seen = rig.board.snapshot()
    assert [(model.name, model.state, model.reason) for model in seen.models] == [
        ("a", "served", ""), ("b", "withheld", "too slow"), ("c", "withheld", "no template"), ("d", "waiting", ""),
        ("e", "failed", "no room"),
    ]  # fmt: skip
    assert seen.not_offered["allow_lora"] == "no file"


async def test_the_standing_follows_the_horde(rig):
    rig.horde.user = UserDetails(username="me#1\x1b[31m", kudos=5.0, evaluating_kudos=2.0, trusted=False)
    rig.horde.worker = WorkerDetails(id="w1", team=TeamDetails(name="Reds"), paused=True, kudos_rewards=9.0)
    following = asyncio.ensure_future(rig.board.run())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    rig.clock.now += 1.0
    standing = rig.board.snapshot().standing
    assert "\x1b" not in standing.account
    assert (standing.account_kudos, standing.evaluating_kudos, standing.trusted) == (5.0, 2.0, False)
    assert (standing.worker_id, standing.team, standing.paused, standing.worker_kudos) == ("w1", "Reds", True, 9.0)
    assert [warning.topic for warning in rig.board.snapshot().warnings] == ["paused by a moderator"]
    following.cancel()


async def test_a_message_that_comes_with_every_pop_is_told_once(rig, said):
    for _ in range(5):
        rig.pops(PopResponse(messages=[Message(id="1", message="hello"), Message(message="no id")]))
    assert said == ["Message from the Horde: hello", "Message from the Horde: no id"]


async def test_a_message_of_the_horde_is_one_line_without_commands_to_the_terminal(rig, said):
    words = "\x1b[2Jhello\n12:00 ERROR forged\x1b]0;title\x07 http://h/a?key=s"
    rig.pops(PopResponse(messages=[Message(message=words)]))
    assert said == ["Message from the Horde: \\x1b[2Jhello 12:00 ERROR forged\\x1b]0;title\\x07 http://h/a?…"]


async def test_messages_that_were_told_are_not_remembered_for_ever_and_the_last_are_shown(rig):
    for number in range(3 * MOST_TOLD):
        rig.pops(PopResponse(messages=[Message(id=str(number), message=f"message {number}")]))
    shown = [message.text for message in rig.board.snapshot().standing.messages]
    assert shown == [f"message {3 * MOST_TOLD - 1 - number}" for number in range(MOST_MESSAGES)]
    assert len(rig.board._standing._messages) == MOST_TOLD


async def test_pops_tell_of_maintenance_reach_and_messages(rig):
    def standing():
        rig.clock.now += 1.0
        return rig.board.snapshot().standing

    rig.pops(error=HordeMaintenance("You are in maintenance."))
    assert standing().maintenance is True
    # In maintenance the owner's own jobs come all the same.
    rig.pops(PopResponse(ids=["a"]))
    assert standing().maintenance is True
    rig.pops(PopResponse(messages=[{"id": "1", "message": "Hello\nthere"}]))
    rig.pops(PopResponse(messages=[{"id": "1", "message": "Hello\nthere"}]))
    assert standing().maintenance is False
    assert [message.text for message in standing().messages] == ["Hello there"]
    rig.pops(error=HordeUnreachable("no answer"))
    assert standing().reachable is False
    assert rig.board.snapshot().session.pops == {"job": 1, "nothing": 2, "refused": 1, "unreachable": 1}


async def test_an_engine_that_fails_again_and_again_is_a_warning_since_it_began(rig):
    rig.slots[0] = slot(state=SlotState.RESTING, restarts=4, reason=EngineDied("out of memory", remedy="Less."))
    (first,) = rig.board.snapshot().warnings
    rig.clock.now += 60.0
    (warning,) = rig.board.snapshot().warnings
    assert warning.since == first.since
    assert "failed 4 times: out of memory." in warning.sentence
    assert warning.remedy == "Less."


async def test_a_snapshot_survives_json_and_holds_no_prompt(rig):
    rig.serve().ends(rig.job(prompt="a secret wish", loras=[{"name": "x"}]))
    rig.admission.reasons = (PAUSED,)
    rig.clock.now += 1.0
    text = versioned(rig.board.snapshot())
    assert "secret wish" not in text
    assert read_snapshot(json.loads(text)).ended == rig.board.snapshot().ended
    with pytest.raises(InputRefused, match="another version"):
        read_snapshot({"schema": 99})
    with pytest.raises(InputRefused, match="can't be read"):
        read_snapshot({"schema": 1, "at": []})


async def test_whoever_looks_within_a_moment_gets_the_same_snapshot(rig):
    assert rig.board.snapshot() is rig.board.snapshot()
    before = rig.board.snapshot()
    rig.ends(rig.job())
    assert rig.board.snapshot() is not before


@pytest.mark.parametrize("for_s", [0, -1.0, 1e12, float("nan")])
async def test_a_pause_of_no_sensible_length_is_refused(rig, for_s):
    with pytest.raises(ConfigError):
        rig.board.steering.pause(for_s)
    assert not rig.board.steering.pause_state.is_on


async def test_a_pause_with_an_end_is_over_by_itself(rig):
    rig.board.steering.pause(60.0)
    reason = rig.board.steering.pause_state.wait(rig.clock.now)
    assert reason.until == rig.clock.now + 60.0
    rig.clock.now += 61.0
    assert rig.board.steering.pause_state.wait(rig.clock.now) is None
    assert not rig.board.steering.pause_state.is_on


async def test_maintenance_and_settings_are_steered_by_the_same_object(rig):
    await rig.board.steering.set_maintenance(on=True)
    await rig.board.steering.set_maintenance(on=False)
    rig.board.steering.reload_settings()
    assert rig.horde.switched == [True, False]
    assert rig.reloaded == [True]


async def test_models_that_give_nothing_but_flat_pictures_are_a_warning_until_one_is_not(rig):
    def finish(*, flat):
        job = rig.job()
        job.flat = flat
        rig.ends(job)
        rig.clock.now += 1.0
        return [(warning.topic, warning.sentence, bool(warning.remedy)) for warning in rig.board.snapshot().warnings]

    assert finish(flat=True) == finish(flat=True) == []
    assert finish(flat=True) == [
        ("flat pictures", "Nothing but pictures of a single colour came of Deliberate (3 jobs).", True)
    ]
    assert finish(flat=False) == []


async def test_models_that_demand_chose_say_why_and_so_do_the_others(rig):
    rig.models = ModelsState(("a", "b", "c"))
    rig.serve()
    rig.admission.choice = SimpleNamespace(
        sentence="1 of 3 models are chosen by demand.", offered_because={"a": "9 jobs wait"},
        withheld_because={"b": "0 jobs wait", "c": "0 jobs wait"},
    )  # fmt: skip
    rig.admission.planner.withdrawn = {"c": "too slow"}
    seen = rig.board.snapshot()
    assert [(model.name, model.state, model.reason) for model in seen.models] == [
        ("a", "served", "9 jobs wait"), ("b", "withheld", "0 jobs wait"), ("c", "withheld", "too slow"),
    ]  # fmt: skip
    assert seen.choice == "1 of 3 models are chosen by demand."


async def test_why_an_engine_failed_is_said_without_the_lines_of_its_log(rig):
    died = EngineDied("The engine ended with code 1.\nPrompt received\nPrompt queued\nNo kernel image.")
    rig.slots[0] = slot(state=SlotState.RESTING, restarts=1, reason=died)
    (seen,) = rig.board.snapshot().slots
    assert seen.reason == "The engine ended with code 1. … No kernel image."

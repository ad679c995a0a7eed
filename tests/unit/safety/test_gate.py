"""The checker and its child, a real process: whatever happens to it, each image gets one verdict or none."""

import asyncio
import struct
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.aio import timeout
from worker.demo.safety.script import SafetyFault, SafetyFaultKind, SafetyScript
from worker.demo.safety.settings import scripted_safety
from worker.errors import SafetyUnavailable
from worker.images import RawImage
from worker.process.supervisor import RestartPolicy
from worker.safety import gate as gate_module
from worker.safety.child_process import SafetyProcess, SafetySettings
from worker.safety.gate import BACKLOG, SafetyGate
from worker.safety.verdict import Finding, Rules

PATIENCE_S = 120.0
IMAGE = RawImage(64, 32, "RGB", bytes(64 * 32 * 3))
CHECK_FAULTS = [
    SafetyFaultKind.CRASH, SafetyFaultKind.HANG, SafetyFaultKind.GARBAGE, SafetyFaultKind.NO_VERDICT,
    SafetyFaultKind.WRONG_IMAGE, SafetyFaultKind.ERROR, SafetyFaultKind.NESTED,
]  # fmt: skip


pytestmark = pytest.mark.processes


class Rig:
    """A checker on the double, which this Python runs, and its script."""

    def __init__(self, folder: Path, python: Path) -> None:
        self.folder, self.python = folder, python
        self.script = folder / "safety.json"

    def play(self, *faults: SafetyFault, **content) -> None:
        SafetyScript(faults=faults, **content).write(self.script)

    def checker(self, policy: RestartPolicy | None = None, **limits) -> SafetyGate:
        settings = scripted_safety(self.folder, script=self.script, **limits)
        settings = replace(settings, command=(str(self.python), *settings.command[1:]))
        return SafetyGate(lambda: settings, policy=policy or RestartPolicy(backoff_s=(0.0,), limit=1000))


@pytest.fixture
def rig(tmp_path: Path, quick_worker_python: Path) -> Rig:
    return Rig(tmp_path, quick_worker_python)


@pytest.fixture
def plain_rig(tmp_path: Path) -> Rig:
    """For tests that look at the child's process itself."""
    return Rig(tmp_path, Path(sys.executable))


async def look(checker: SafetyGate, prompt: str = "a fox", *, censor_nsfw: bool = False, left_s: float = 600.0):
    deadline = asyncio.get_running_loop().time() + left_s
    async with timeout(PATIENCE_S):
        return await checker.check(IMAGE, prompt=prompt, model="m", censor_nsfw=censor_nsfw, deadline=deadline)


async def until(condition: Callable[[], object]) -> None:
    async with timeout(PATIENCE_S):
        while not condition():
            await asyncio.sleep(0.01)


async def test_each_image_gets_its_own_verdict_in_whatever_order_they_come(rig):
    checker = rig.checker()
    async with checker.running():
        verdicts = await asyncio.gather(
            look(checker), look(checker, "[nsfw]"), look(checker, "[csam]"), look(checker, "[nsfw]", censor_nsfw=True)
        )
    assert [(each.nsfw, each.csam, each.replacement is not None) for each in verdicts] == [
        (False, False, False), (True, False, False), (True, True, True), (True, False, True),
    ]  # fmt: skip
    assert (verdicts[2].replacement.width, verdicts[2].replacement.height) == (64, 32)


async def test_the_owners_rules_count_at_the_moment_of_the_verdict(rig):
    rules = [Rules()]
    checker = rig.checker()
    checker.rules = lambda: rules[0]
    async with checker.running():
        assert (await look(checker, "[nsfw]")).replacement is None
        rules[0] = Rules(allows_nsfw=False)
        assert (await look(checker, "[nsfw]")).replacement is not None


async def test_the_models_facts_decide_with_the_owners_rules(rig):
    checker = rig.checker()
    checker.rules = lambda: Rules(censors_unasked=True)
    checker.facts = lambda name: {"name": name, "nsfw": name == "bold"}
    async with checker.running():
        for model, withheld in (("bold", False), ("plain", True)):
            verdict = await checker.check(IMAGE, prompt="[nsfw]", model=model, censor_nsfw=False)
            assert (verdict.replacement is not None) is withheld


@pytest.mark.parametrize("kind", CHECK_FAULTS, ids=lambda kind: kind.value)
async def test_a_look_that_fails_once_is_taken_again(rig, kind):
    rig.play(SafetyFault(kind))
    checker = rig.checker(check_timeout_s=2.0 if kind is SafetyFaultKind.HANG else 60.0)
    async with checker.running():
        assert (await look(checker, "[nsfw]")).nsfw
        assert not (await look(checker)).nsfw


@pytest.mark.parametrize("kind", CHECK_FAULTS, ids=lambda kind: kind.value)
async def test_an_image_on_which_the_child_fails_twice_gets_no_verdict_and_the_next_does(rig, kind):
    rig.play(SafetyFault(kind, times=2))
    checker = rig.checker(check_timeout_s=2.0 if kind is SafetyFaultKind.HANG else 60.0)
    async with checker.running():
        with pytest.raises(SafetyUnavailable):
            await look(checker, "[nsfw]")
        assert (await look(checker, "[nsfw]")).nsfw


@pytest.mark.parametrize("kind", [SafetyFaultKind.START_CRASH, SafetyFaultKind.NO_WEIGHTS], ids=lambda kind: kind.value)
async def test_an_image_waits_for_a_child_that_does_not_start_at_once(rig, kind):
    rig.play(SafetyFault(kind, times=2))
    checker = rig.checker()
    async with checker.running():
        assert not (await look(checker)).nsfw


async def test_a_child_that_never_gets_ready_is_started_anew(rig):
    rig.play(SafetyFault(SafetyFaultKind.START_HANG))
    checker = rig.checker(start_silence_s=2.0)
    async with checker.running():
        assert not (await look(checker)).nsfw


async def test_without_a_child_an_image_waits_until_its_time_is_nearly_over_and_no_longer(rig):
    rig.play(SafetyFault(SafetyFaultKind.NO_WEIGHTS, times=None))
    checker = rig.checker(policy=RestartPolicy(backoff_s=(3600.0,)))
    async with checker.running():
        await until(lambda: "no network" in checker.hold())
        with pytest.raises(SafetyUnavailable, match=r"No verdict within the job's time: .*no network\.$"):
            await look(checker, left_s=0.2)
        assert not checker._waiting


async def test_no_jobs_are_taken_while_the_child_is_not_ready(plain_rig):
    checker = plain_rig.checker()
    assert checker.hold()
    async with checker.running():
        await until(lambda: not checker.hold())
        psutil.Process(checker.process.pid).kill()
        await until(checker.hold)
        await until(lambda: not checker.hold())


async def test_no_jobs_are_taken_while_too_many_images_wait(rig):
    rig.play(seconds=3600.0)
    checker = rig.checker()
    async with checker.running():
        await until(lambda: not checker.hold())
        looks = [asyncio.ensure_future(look(checker)) for _ in range(BACKLOG + 1)]
        await until(checker.hold)
        looks.pop().cancel()
        await until(lambda: not checker.hold())
        for each in looks:
            each.cancel()
        await asyncio.gather(*looks, return_exceptions=True)


async def test_a_look_given_up_does_not_disturb_the_next(rig):
    rig.play(seconds=0.3)
    checker = rig.checker()
    async with checker.running():
        await until(lambda: not checker.hold())
        given_up = asyncio.ensure_future(look(checker, "[csam]"))
        await until(lambda: checker.process.asked)
        given_up.cancel()
        assert not (await look(checker)).csam


async def test_the_child_is_gone_when_the_checker_is_done(plain_rig):
    checker = plain_rig.checker()
    async with checker.running():
        await until(lambda: not checker.hold())
        pid = checker.process.pid
    assert not psutil.pid_exists(pid)


async def test_the_child_gets_no_key_and_no_token(plain_rig, monkeypatch):
    monkeypatch.setenv("AIWORKER_API_KEY", "0123456789")
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    checker = plain_rig.checker()
    async with checker.running():
        await until(lambda: not checker.hold())
        environment = psutil.Process(checker.process.pid).environ()
    assert not {"AIWORKER_API_KEY", "HF_TOKEN"} & environment.keys()


async def test_a_python_that_is_not_there_is_named_with_what_to_do(tmp_path):
    settings = SafetySettings((str(tmp_path / "no-python"),), tmp_path, tmp_path / "log")
    checker = SafetyGate(lambda: settings, policy=RestartPolicy(backoff_s=(3600.0,)))
    async with checker.running():
        await until(lambda: "can't be started" in checker.hold())


async def test_a_large_image_goes_through_the_pipe_whole(rig):
    side = 3072
    image = RawImage(side, side, "RGBA", bytes(side * side * 4))
    checker = rig.checker()
    async with checker.running():
        assert not (await checker.check(image, prompt="", model="m", censor_nsfw=False)).nsfw


async def test_an_answer_written_before_its_question_lets_nothing_out(rig):
    rig.play(SafetyFault(SafetyFaultKind.AHEAD, times=None))
    checker = rig.checker()
    async with checker.running():
        for _ in range(3):
            with pytest.raises(SafetyUnavailable, match="not asked"):
                await look(checker, "[csam]")


async def test_no_question_can_be_answered_before_it_is_asked(rig, monkeypatch):
    ids = []

    async def note(self, *_args):
        ids.append(self.asked)
        raise OSError("enough is known")

    monkeypatch.setattr(SafetyProcess, "_write", note)
    checker = rig.checker()
    async with checker.running():
        for _ in range(2):
            with pytest.raises(SafetyUnavailable):
                await look(checker)
    assert len(set(ids)) == len(ids) >= 4
    # Nothing that counts, and more than anybody tries.
    assert all(len(each) > 20 and not each.isdigit() for each in ids)


async def test_an_image_too_large_for_the_pipe_gets_no_verdict_and_costs_the_child_nothing(rig):
    class Huge(bytes):
        def __len__(self) -> int:
            return 5 * 1024**3

    checker = rig.checker()
    async with checker.running():
        await until(lambda: not checker.hold())
        pid = checker.process.pid
        with pytest.raises(SafetyUnavailable, match="40000 x 40000 is too large"):
            await checker.check(RawImage(40000, 40000, "RGB", Huge()), prompt="", model="m", censor_nsfw=False)
        assert not (await look(checker)).nsfw
        assert checker.process.pid == pid


@pytest.mark.parametrize("error", [RecursionError("deep"), MemoryError(), struct.error("too large"), KeyError("x")])
async def test_whatever_goes_wrong_with_a_look_the_child_is_lost_and_the_next_one_serves(rig, monkeypatch, error):
    async def fail(*_args, **_content):
        monkeypatch.undo()
        raise error

    checker = rig.checker()
    async with checker.running():
        await until(lambda: not checker.hold())
        lost = checker.process.pid
        monkeypatch.setattr(SafetyProcess, "ask", fail)
        assert (await look(checker, "[nsfw]")).nsfw
        assert checker.process.pid != lost


async def test_an_image_with_which_every_look_goes_wrong_is_given_up_and_the_next_one_is_looked_at(rig, monkeypatch):
    ask = SafetyProcess.ask

    async def fail(self, image, *, prompt, model):
        if prompt == "cursed":
            raise RecursionError("deep")
        return await ask(self, image, prompt=prompt, model=model)

    monkeypatch.setattr(SafetyProcess, "ask", fail)
    checker = rig.checker()
    async with checker.running():
        with pytest.raises(SafetyUnavailable, match="RecursionError"):
            await look(checker, "cursed")
        assert (await look(checker, "[nsfw]")).nsfw


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(
    answer=st.dictionaries(st.sampled_from(["nsfw", "csam", "id", "ready", "x"]), JSON)
    | st.fixed_dictionaries({"nsfw": JSON, "csam": JSON})
)
def test_an_answer_is_a_finding_only_with_two_plain_truth_values(answer):
    plain = {name: answer.get(name) for name in ("nsfw", "csam")}
    if all(isinstance(value, bool) for value in plain.values()):
        assert gate_module._finding(answer) == Finding(**plain)
    else:
        with pytest.raises(SafetyUnavailable):
            gate_module._finding(answer)

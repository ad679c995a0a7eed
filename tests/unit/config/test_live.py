"""What a new reading of the settings changes, and when it counts."""

from worker.config.live import changes, in_force, sentences
from worker.config.schema import BridgeData

KEY, OTHER_KEY = "k" * 22, "o" * 22


def data(**keys):
    return BridgeData.model_validate(keys)


def test_settings_that_are_the_same_have_no_changes():
    assert changes(data(max_power=32), data(max_power=32)) == ()


def test_each_change_is_said_with_the_moment_at_which_it_counts():
    before = data()
    after = data(
        max_power=32, nsfw=False, high_memory_mode=True, max_threads=2, blacklist=["a", "b"], temp_dir="elsewhere"
    )
    assert sentences(changes(before, after)) == (
        "max_power 8 → 32, nsfw true → false, blacklist [] → [a, b]: takes effect at once.",
        "high_memory_mode false → true: takes effect at the next engine start.",
        "max_threads 1 → 2: takes effect after a restart of the worker.",
        "temp_dir ./tmp → elsewhere: takes effect never (the key is ignored).",
    )


def test_a_secret_is_named_but_not_shown():
    text = " ".join(sentences(changes(data(api_key=KEY), data(api_key=OTHER_KEY))))
    assert text == "api_key: takes effect after a restart of the worker."


def test_a_long_value_is_cut():
    [sentence] = sentences(changes(data(), data(models_to_load=["x" * 500])))
    assert len(sentence) < 250


def test_what_needs_a_restart_stays_as_it_is_until_then():
    running, wanted = data(max_threads=1, dreamer_name="old"), data(max_threads=3, dreamer_name="new", max_power=64)
    now = in_force(running, wanted)
    assert (now.max_threads, now.dreamer_name, now.max_power) == (1, "old", 64)

"""What entries of models_to_load and models_to_skip stand for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.models.catalog.model_commands import needs_statistics, resolve
from worker.models.catalog.records import Category, ModelFile, ModelRecord, Purpose, family_of


def record(name, baseline="stable diffusion 1", **more):
    file = ModelFile(Purpose.CHECKPOINT, f"{name}.safetensors", "compvis")
    return ModelRecord(name, Category.IMAGE, (file,), baseline=baseline, family=family_of(baseline), **more)


MODELS = {
    each.name: each
    for each in (
        record("Alpha"), record("Beta", nsfw=True), record("Gamma", "stable_diffusion_xl"),
        record("Delta", "flux_1"), record("Epsilon", inpainting=True), record("Future", "hidream"),
        record("Newer", "krea2_turbo"),
        record("All Saints"), record("Top 10 Picks"),
    )
}  # fmt: skip
MONTH = {"Delta": 90, "Alpha": 50, "Future": 45, "Gamma": 40, "Unknown": 30, "Beta": 20}


def load(*wanted, skip=(), models=MODELS, month=MONTH, **options):
    return resolve(wanted, skip, models, month=month, **options)


def test_names_are_loaded_in_the_order_written():
    assert load("Gamma", "Alpha").load == ("Gamma", "Alpha")


def test_a_large_model_loads_by_name_though_commands_leave_it_out():
    assert load("Delta").load == ("Delta",)
    assert load("TOP 1").load == ("Alpha",)
    assert load("TOP 1", large=True).load == ("Delta",)


def test_several_commands_of_one_kind_all_count():
    assert load("TOP 1", "TOP 3", "ALL SDXL", "ALL INPAINTING").load == ("Alpha", "Gamma", "Beta", "Epsilon")


def test_a_skip_command_takes_out_what_it_stands_for_and_top_fills_up():
    assert load("TOP 2", skip=["TOP 2"]).load == ("Gamma", "Beta")
    assert load("ALL", skip=["all sdxl", "Alpha"]).load == ("Beta", "Epsilon", "All Saints", "Top 10 Picks")


def test_models_with_names_like_commands_are_models():
    assert load("All Saints", "Top 10 Picks").load == ("All Saints", "Top 10 Picks")


def test_every_choice_has_its_reason():
    why = load("Beta", "TOP 2").why
    assert why["Beta"] == "named in models_to_load"
    assert why["Alpha"] == "TOP 2: rank 2 of the month, 50 images"


def test_the_first_reason_stays():
    assert load("Alpha", "ALL").why["Alpha"] == "named in models_to_load"


def test_a_name_of_another_case_is_understood_and_said():
    resolution = load("alpha")
    assert resolution.load == ("Alpha",)
    assert resolution.warnings == ("models_to_load: 'alpha' is read as 'Alpha'.",)


def test_a_near_miss_gets_a_suggestion():
    assert load("Alpah").warnings == ("models_to_load: no model is called 'Alpah'. Did you mean 'Alpha'?",)


def test_a_strange_name_gets_a_warning_and_in_the_skip_list_none():
    assert load("zzzzz").warnings == ("models_to_load: no model is called 'zzzzz'.",)
    assert load(skip=["zzzzz"]).warnings == ()
    assert "Did you mean 'Gamma'?" in load(skip=["Gama"]).warnings[0]


def test_a_baseline_unknown_here_is_never_offered():
    assert "Future" not in load("ALL", large=True).load
    assert "hidream" in load("Future").warnings[0]
    assert load("ALL hidream").warnings == ("models_to_load: 'ALL hidream' finds no model.",)


def test_without_statistics_top_chooses_nothing_and_says_so():
    resolution = load("TOP 2", "Beta", month=None)
    assert resolution.load == ("Beta",)
    assert "statistics" in resolution.warnings[0]


@pytest.mark.parametrize(
    ("entries", "options", "hint"),
    [
        (["ALL FLUX"], {}, "load_large_models"),
        (["TOP 0"], {}, "asks for no model"),
        (["Alpha"], {"skip": ["Alpha"]}, "models_to_skip"),
    ],
)
def test_an_entry_that_comes_to_nothing_is_explained(entries, options, hint):
    resolution = load(*entries, **options)
    assert resolution.load == ()
    assert hint in resolution.warnings[0]


def test_the_owners_own_models_are_loaded_unless_skipped():
    models = {**MODELS, "Mine": record("Mine", custom=True)}
    assert load(models=models).load == ("Mine",)
    assert load("Alpha", models=models).why["Mine"] == "one of your custom_models"
    assert load(skip=["Mine"], models=models).load == ()


def test_statistics_are_needed_for_top_and_bottom_only():
    assert needs_statistics(["ALL", " top 3"])
    assert needs_statistics(["Bottom2"])
    assert not needs_statistics(["ALL SDXL", "Stopover 3"])


ENTRIES = st.one_of(
    st.sampled_from([*MODELS, "ALL", "ALL SDXL", "ALL NSFW", "TOP 2", "BOTTOM 3", "top3", "ALL FLUX", "alpha"]),
    st.text(max_size=20),
)


@given(
    wanted=st.lists(ENTRIES, max_size=6),
    skipped=st.lists(ENTRIES, max_size=3),
    month=st.none() | st.dictionaries(st.sampled_from([*MODELS, "Unknown"]), st.integers(0, 10**9)),
    large=st.booleans(),
)
def test_any_lists_give_known_unskipped_models_once_each_with_a_reason(wanted, skipped, month, large):
    resolution = resolve(wanted, skipped, MODELS, month=month, large=large)
    assert len(set(resolution.load)) == len(resolution.load)
    assert set(resolution.why) == set(resolution.load)
    assert all(MODELS[name].family for name in resolution.load)
    assert not {name for name in skipped if name in MODELS} & set(resolution.load)
    if not large:
        assert "Delta" not in resolution.load or any(entry.strip().casefold() == "delta" for entry in wanted)


def test_a_family_that_needs_a_newer_engine_is_chosen_only_by_name():
    assert "Newer" not in load("ALL", "TOP 9", "ALL SFW", large=True).load
    assert load("ALL KREA2", large=True).load == load("Newer").load == load("ALL krea2_turbo", large=True).load
    assert load("Newer").load == ("Newer",)


@given(
    month=st.dictionaries(st.sampled_from(list(MODELS)), st.integers(0, 99)),
    skipped=st.sets(st.sampled_from(list(MODELS))),
    count=st.integers(0, 10),
)
def test_top_n_gives_n_as_long_as_there_are_so_many(month, skipped, count):
    left = [name for name in month if name not in skipped and name not in {"Delta", "Future", "Newer"}]
    chosen = resolve([f"TOP {count}"], sorted(skipped), MODELS, month=month).load
    assert len(chosen) == min(count, len(left))
    assert [month[name] for name in chosen] == sorted((month[name] for name in left), reverse=True)[:count]


@pytest.mark.parametrize(
    ("entry", "meant"),
    [
        ("topp 2", "'TOP 2'"),
        ("TOPTEN 10", "'TOP 10'"),
        ("botom 3", "'BOTTOM 3'"),
        ("ALL SDXLL", "'ALL SDXL'"),
        ("AL SDXL", "'ALL SDXL'"),
        ("all fluxx", "'ALL FLUX'"),
        ("Alpa", "'Alpha'"),
    ],
)
def test_misspelt_names_and_commands_are_told_what_may_be_meant(entry, meant):
    resolution = load(entry)
    assert resolution.load == ()
    assert meant in resolution.warnings[0]


def test_an_endless_entry_takes_no_time_to_compare():
    assert load("x" * 1_000_000).load == ()


def test_the_owners_own_words_are_told_from_what_commands_stand_for():
    found = load("beta", "TOP 2", "ALL SDXL", models={**MODELS, "Mine": record("Mine", custom=True)})
    assert found.named == {"Beta", "Mine"}
    assert set(found.load) - found.named == {"Alpha", "Gamma"}


def test_what_a_command_may_choose_is_known_beside_what_was_chosen():
    assert load("Beta", skip=["Gamma"]).eligible == ("Alpha", "Beta", "Epsilon", "All Saints", "Top 10 Picks")
    assert "Delta" in load("Beta", large=True).eligible

"""What an owner is asked, and what follows from the answers."""

from functools import cache

import pytest

from worker.config.load import TEMPLATE, check_text, load_config
from worker.config.schema import BridgeData
from worker.config.write_back import with_changes
from worker.engine.cards import CardFacts, amd_cards
from worker.engine.install.machine import Accelerator
from worker.errors import ConfigError, HordeRefused, HordeUnreachable
from worker.setup.card import MachineFacts
from worker.setup.dialogue import MOST_TRIES, Nobody, answers_to
from worker.setup.questions import QUESTIONS, Situation, read_key, read_name, settings_of, suggested_name, summary
from worker.setup.tiers import Models, Speed, speed_of, tier_of
from worker.units import GIB

KEY = "abcdefghijklmnopqrstuv"
#: A card, its memory in GiB, the machine's RAM, and what it should begin with.
CARDS = [
    ("NVIDIA GeForce RTX 3050 Laptop GPU", 4.0, 16, Models.SD15, 8),
    ("NVIDIA GeForce GTX 1070", 8.0, 64, Models.SDXL, 32),
    ("NVIDIA GeForce RTX 3080", 10.0, 64, Models.SDXL, 32),
    ("NVIDIA GeForce RTX 3060", 12.0, 31.2, Models.SDXL, 50),
    ("NVIDIA GeForce RTX 4080", 15.99, 64, Models.FLUX, 50),
    ("NVIDIA GeForce RTX 4090", 23.99, 64, Models.FLUX, 64),
    ("NVIDIA A10", 22.5, 128, Models.FLUX, 64),
    ("NVIDIA H100 80GB HBM3", 79.6, 256, Models.FLUX, 64),
    ("AMD Radeon RX 7900 XTX", 23.98, 64, Models.FLUX, 64),
    ("NVIDIA GeForce RTX 4090", 23.99, 16, Models.SD15, 64),
]


def machine(name: str = "NVIDIA GeForce RTX 4090", gib: float = 24, ram: float = 64) -> MachineFacts:
    return MachineFacts(CardFacts(name, int(gib * GIB)), int(ram * GIB), Accelerator.CUDA)


@cache
def settings_of_the_template() -> BridgeData:
    return load_config(TEMPLATE, environment={}).data


def situation(facts: MachineFacts | None = None, *, has_file: bool = False, **before) -> Situation:
    data = settings_of_the_template().model_copy(update=before)
    return Situation(facts or machine(), data, has_file, free=500 * 10**9)


@pytest.mark.parametrize(("name", "gib", "ram", "models", "power"), CARDS)
def test_every_card_begins_with_what_its_memory_allows(name, gib, ram, models, power):
    tier = tier_of(machine(name, gib, ram))
    assert (tier.models, tier.settings["max_power"]) == (models, power)
    assert (tier.settings["queue_size"] == 0) is (ram < 30)
    BridgeData.model_validate(tier.settings)


@pytest.mark.parametrize(
    ("name", "speed"),
    [
        ("NVIDIA GeForce RTX 4090", Speed.FAST),
        ("NVIDIA H100 80GB HBM3", Speed.FAST),
        ("NVIDIA GeForce RTX 3080 Ti", Speed.MODERATE),
        ("NVIDIA GeForce RTX 4060 Ti", Speed.USUAL),
        ("NVIDIA GeForce GTX 1060 6GB", Speed.SLOW),
        ("Tesla K80", Speed.SLOW),
        ("Tesla P40", Speed.SLOW),
        ("an AMD card", Speed.USUAL),
    ],
)
def test_the_name_of_a_card_tells_its_speed(name, speed):
    assert speed_of(machine(name)) is speed


def test_without_a_card_only_patient_requesters_are_served():
    tier = tier_of(MachineFacts(None, 32 * GIB))
    assert tier.settings["extra_slow_worker"]
    assert tier.note


@pytest.mark.parametrize(
    "text",
    [
        f"  {KEY}  ", f'"{KEY}"', f"'{KEY}'", f"api_key: {KEY}", f'apikey="{KEY}"', f"\ufeff{KEY}\u200b",
        f"\u201c{KEY}\u201d", f"<{KEY}>", f"`{KEY}`", f"{KEY}\r",
    ],
)  # fmt: skip
def test_a_key_is_found_in_what_people_paste(text):
    assert read_key(text) == KEY


@pytest.mark.parametrize("text", ["", "  ", "0000000000", KEY[:-1], f"{KEY} {KEY}", "schlüssel-schlüssel-22", KEY * 3])
def test_what_is_no_key_is_refused_without_repeating_it(text):
    with pytest.raises(ValueError, match=r"\.$") as refused:
        read_key(text)
    assert not text.strip() or text.strip() not in str(refused.value)


@pytest.mark.parametrize("text", ["Fox 🦊", "Füchse im Schnee", "狐", " 'Fox' ", "Fox\t in  snow", "👩‍🚀 base"])
def test_names_of_any_language_are_taken(text):
    name = read_name(text)
    assert name == name.strip()
    assert "\t" not in name


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a/b", "a\\b", "..", "<fox>", "my colab box", "x" * 101, "An Awesome Dreamer", "fox\x07", "fox\udce4",
    ],
)  # fmt: skip
def test_names_that_the_horde_can_not_take_are_refused_with_a_sentence(text):
    with pytest.raises(ValueError, match=r"\.$"):
        read_name(text)


class Typist:
    """Answers questions from a list; remembers what was told."""

    def __init__(self, **replies: "str | list[str]") -> None:
        self.replies = {key: [value] if isinstance(value, str) else list(value) for key, value in replies.items()}
        self.asked: list[str] = []
        self.told: list[str] = []
        self.goes_on = False

    def ask(self, question, _about, default):
        self.asked.append(question.key)
        replies = self.replies.get(question.key, [])
        return replies.pop(0) if replies else ""

    def tell(self, text):
        self.told.append(text)

    def confirm(self, _text):
        return self.goes_on


def test_a_newcomer_with_a_good_card_only_gives_key_and_name():
    here = situation()
    typist = Typist(api_key=KEY, dreamer_name="Fox")
    settings = settings_of(here, answers_to(here, typist, given={}, checks={}))
    assert settings["api_key"] == KEY
    assert settings["models_to_load"] == ["TOP 5", "Flux.1-Schnell fp8 (Compact)"]
    assert settings["load_large_models"]
    assert (settings["max_power"], settings["allow_lora"], settings["high_performance_mode"]) == (64, True, True)
    data = check_text(with_changes(TEMPLATE.read_text("utf-8"), settings), "x")
    assert (data.dreamer_name, data.max_batch) == ("Fox", 8)


def test_an_owner_with_a_file_who_only_presses_enter_changes_nothing():
    here = situation(has_file=True, dreamer_name="Fox", max_power=17, models_to_load=("Deliberate",))
    typist = Typist(api_key=KEY)
    settings = settings_of(here, answers_to(here, typist, given={}, checks={}))
    assert settings == {"api_key": KEY, "dreamer_name": "Fox"}


def test_memory_is_asked_for_where_no_driver_tells_it():
    here = situation(MachineFacts(CardFacts("a DirectML card", 0), 64 * GIB, Accelerator.DIRECTML))
    answers = answers_to(here, Typist(api_key=KEY, dreamer_name="x", vram=["lots", "8 GB"]), given={}, checks={})
    assert settings_of(here, answers)["max_power"] == 32
    without = answers_to(here, Typist(api_key=KEY, dreamer_name="x", vram="0"), given={}, checks={})
    assert settings_of(here, without)["extra_slow_worker"]


def test_the_disk_proposed_is_that_of_the_folder_the_owner_chose():
    question = next(each for each in QUESTIONS if each.key == "disk")
    here = situation()
    assert question.default(here, {"models": "sdxl", "free": 40 * 10**9}) == 32
    assert question.default(here, {"models": "sdxl"}) > 32


def test_models_keep_within_the_disk():
    for disk, count in ((15, 1), (40, 4), (1000, 5)):
        here = situation(machine(gib=12))
        answers = answers_to(here, Typist(api_key=KEY, dreamer_name="x", disk=str(disk)), given={}, checks={})
        assert settings_of(here, answers)["models_to_load"] == [f"TOP {count}"]


def test_an_answer_of_no_takes_what_depends_on_it_along():
    here = situation(has_file=True, allow_img2img=True, allow_painting=True, allow_controlnet=True)
    typist = Typist(api_key=KEY, dreamer_name="x", allow_img2img="n")
    settings = settings_of(here, answers_to(here, typist, given={}, checks={}))
    assert {settings[key] for key in ("allow_img2img", "allow_painting", "allow_controlnet")} == {False}
    assert "allow_painting" not in typist.asked


def test_a_refused_answer_is_asked_for_again_and_a_missing_network_is_the_owners_choice():
    def check(value, answers):
        if value == "taken":
            raise HordeRefused("The name 'taken' is taken.")
        if not typist.goes_on:
            typist.goes_on = True
            raise HordeUnreachable("no answer")
        return "fine"

    here, typist = situation(), Typist(api_key=KEY, dreamer_name=["a/b", "taken", "Fox"])
    answers = answers_to(here, typist, given={}, checks={"name": check})
    assert answers["dreamer_name"] == "Fox"
    assert [line for line in typist.told if "taken" in line or "slash" in line]


def test_nobody_is_asked_for_ever():
    with pytest.raises(ConfigError, match="answers could not be used"):
        answers_to(situation(), Typist(api_key=["short"] * (MOST_TRIES + 5)), given={}, checks={})


def test_without_a_terminal_what_is_missing_is_named_with_the_way_to_give_it():
    with pytest.raises(ConfigError) as missing:
        answers_to(situation(), Nobody(lambda _: None), given={}, checks={})
    assert "AIWORKER_API_KEY" in missing.value.remedy
    with pytest.raises(ConfigError, match="slash"):
        answers_to(situation(), Nobody(lambda _: None), given={"api_key": KEY, "dreamer_name": "a/b"}, checks={})


def test_a_name_is_suggested_from_account_and_card():
    assert suggested_name(situation(), {"account": "fox#12"}) == "fox RTX 4090"
    assert suggested_name(situation(dreamer_name="Mine"), {"account": "fox#12"}) == "Mine"
    assert suggested_name(situation(), {}) is None


def test_the_summary_masks_the_key():
    rows = dict(summary({"api_key": KEY, "nsfw": True, "models_to_load": ["a", "b"]}))
    assert rows == {"api_key": "••••stuv", "models_to_load": "a, b", "nsfw": "true"}


def test_every_question_has_a_reader_that_speaks_in_sentences():
    for question in QUESTIONS:
        for text in ("\x00", "🦊" * 300, "-5", "999999999999", "yes please"):
            try:
                question.read(text, situation(), {})
            except ValueError as error:
                assert str(error).endswith("."), question.key  # noqa: PT017 - each answer is right or refused


def test_amd_cards_are_read_from_the_kernels_files(tmp_path):
    for name, vendor, memory in (
        ("card0", "0x1002", 512 * 1024**2),
        ("card1", "0x1002", 16 * GIB),
        ("card2", "0x10de", 1),
    ):
        device = tmp_path / name / "device"
        device.mkdir(parents=True)
        (device / "vendor").write_text(vendor)
        (device / "mem_info_vram_total").write_text(str(memory))
    (tmp_path / "card1" / "device" / "product_name").write_text("Radeon RX 7800 XT\n")
    assert amd_cards(tmp_path) == [CardFacts("Radeon RX 7800 XT", 16 * GIB)]

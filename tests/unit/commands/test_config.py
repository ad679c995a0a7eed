"""`config check` tells everything that is doubtful in the settings."""

from worker.commands.config import check


def told(tmp_path, capsys, text):
    file = tmp_path / "bridgeData.yaml"
    file.write_text(f"dreamer_name: mine\n{text}\n", encoding="utf-8")
    check(file)
    return capsys.readouterr().out


def test_a_key_without_effect_is_told_with_the_reason(tmp_path, capsys):
    out = told(tmp_path, capsys, "very_fast_disk_mode: true\ncapture_kudos_training_data: true")
    assert "note: very_fast_disk_mode has no effect. " in out
    assert "note: capture_kudos_training_data has no effect. " in out
    assert "can be used." in out


def test_a_key_without_effect_that_changes_nothing_is_not_worth_a_word(tmp_path, capsys):
    assert "note" not in told(tmp_path, capsys, "very_fast_disk_mode: false\nmax_power: 32")

"""What `update` says where it is not the one who updates."""

import pytest

from worker.commands import update as module
from worker.errors import ConfigError
from worker.horde.agent import PROJECT_URL


def test_an_installed_wheel_is_sent_to_its_installer_and_to_no_index_that_lacks_it(monkeypatch):
    monkeypatch.setattr(module, "is_checkout", lambda _: False)
    with pytest.raises(ConfigError, match="which its installer updates") as refused:
        module.update()
    assert f"{PROJECT_URL}/releases" in str(refused.value)
    assert "--upgrade horde-bridge" not in str(refused.value)

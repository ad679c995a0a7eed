"""Properties are searched without a clock: how busy the machine is says nothing about the settings."""

from hypothesis import settings

settings.register_profile("unhurried", deadline=None)
settings.load_profile("unhurried")

"""What a card can do, measured in minutes, and the settings that follow.

`measurements` (what was found, as data), `plan` (which picture next), `proposals` (settings from measurements; pure),
`studio` (pictures rendered on a real engine), `run` (the plan carried out within its time).
"""

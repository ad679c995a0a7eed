"""The first run: what an owner is asked, and the settings that follow from the answers.

`card` (what this machine has), `tiers` (settings for a card of that size), `questions` (what is asked, and what the
answers mean), `accounts` (key and name, held against the Horde), `dialogue` (the questions put on a terminal),
`terminal` (reading from one).
"""

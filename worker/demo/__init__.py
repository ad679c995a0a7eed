"""Doubles for the demo and for tests: a local Horde, tiny models, a scripted engine and a scripted safety checker."""

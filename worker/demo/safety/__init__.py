"""A scripted safety checker: the real child's loop and protocol without horde-safety, and it fails on demand.

It finds nudity where a prompt contains `[nsfw]`, and worse where it contains `[csam]`.
"""

"""The process that checks images: `service` (frames on pipes), `image_checks` (horde-safety), `__main__`.

Run as `python FOLDER` by the engine's Python, which lacks the worker's packages: these modules import each other by
their bare names, and otherwise only the standard library, Pillow and what horde-safety brings.
"""

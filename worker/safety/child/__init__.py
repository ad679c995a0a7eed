"""The process that looks at images: `service` (frames on pipes), `lookout` (horde-safety), `__main__`.

Run as `python FOLDER` by the engine's Python, where the worker's packages are not: these modules import each other
by their bare names, and only the standard library, Pillow and what horde-safety brings.
"""

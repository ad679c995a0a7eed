"""Models of real architectures, small enough for a CPU and made on the spot, because nothing is downloaded here.

`recipes` says what there is and is all the supervisor needs. `build` makes it, run by the engine's own Python; the
other modules belong to the build and import torch and ComfyUI.
"""

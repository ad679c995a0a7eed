"""Files in the model folders that the worker names to ComfyUI."""

import folder_paths


def listed(kind):
    """Names of all files of a kind; empty where ComfyUI knows no folder for it."""
    return folder_paths.get_filename_list(kind) if kind in folder_paths.folder_names_and_paths else []


def path_of(kind, name):
    """The file's path. Raises FileNotFoundError with its name when it is not there."""
    return folder_paths.get_full_path_or_raise(kind, name)

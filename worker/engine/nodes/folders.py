"""Files in the owner's model folders, by the kinds the worker tells ComfyUI of."""

import folder_paths


def listed(kind):
    """Names of all files of a kind; none where this ComfyUI was told of no folder for it."""
    return folder_paths.get_filename_list(kind) if kind in folder_paths.folder_names_and_paths else []


def path_of(kind, name):
    """Raises FileNotFoundError with the name of a file that is not there."""
    return folder_paths.get_full_path_or_raise(kind, name)

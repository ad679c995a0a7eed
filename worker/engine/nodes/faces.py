"""Faces are found, restored one by one, and pasted back into their picture.

facexlib detects, aligns and pastes, with weights from the owner's folders; it never downloads anything by itself.
The restoring networks are GFPGAN, RestoreFormer and CodeFormer as spandrel loads them.
"""

import logging
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from .folders import listed, path_of
from .memory import out_of_memory

FACES = "facerestore_models"
#: Side of the square that the networks restore.
FACE_PX = 512
#: A picture whose shorter side is smaller is enlarged to this before faces are looked for; one whose shorter side is
#: larger than the second is shrunk to that, because the detector's memory grows with the pixels.
MIN_DETECTION_PX, MAX_DETECTION_PX = 640, 2048
#: Least score of a face, 0..1, as the face fixers that the Horde's requesters know.
MIN_SCORE = 0.8
#: Eyes nearer to each other belong to a face too small, or too much in profile, to be restored well.
MIN_EYE_DISTANCE_PX = 5
#: CodeFormer's balance between its own idea of a face (0) and the picture (1).
FIDELITY = 0.5
#: Working memory of a restorer on one face, in bytes, with a margin.
WORK_BYTES = 1536 * 1024**2
DETECTOR_FILE, PARSER_FILE = "detection_Resnet50_Final.pth", "parsing_parsenet.pth"


class HordeFaceModelLoader:
    """A network that restores one face."""

    PACKAGES = ("facexlib", "cv2", "spandrel")

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model_name": (listed(FACES),)}}

    RETURN_TYPES = ("HORDE_FACE_MODEL",)
    FUNCTION = "load"
    CATEGORY = "horde"

    def load(self, model_name):
        import comfy.utils
        from spandrel import ModelLoader

        state = comfy.utils.load_torch_file(path_of(FACES, model_name), safe_load=True)
        restorer = ModelLoader().load_from_state_dict(state).eval()
        if restorer.purpose != "FaceSR":
            raise ValueError(f"{model_name} is a {restorer.architecture.name}, which restores no faces")
        return (restorer,)


class HordeFaceRestore:
    """Every face of every picture, restored; a picture without faces stays as it is."""

    PACKAGES = HordeFaceModelLoader.PACKAGES

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "face_model": ("HORDE_FACE_MODEL",),
                "images": ("IMAGE",),
                "detector": (listed(FACES),),
                "parser": (listed(FACES),),
                "strength": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 1.0, "step": 0.01}),
            }
        }

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "restore"
    CATEGORY = "horde"

    def restore(self, face_model, images, detector, parser, strength):
        from comfy import model_management, utils

        helper = _helper(path_of(FACES, detector), path_of(FACES, parser))
        device = model_management.get_torch_device()
        modules = (face_model.model, helper.face_det, helper.face_parse)
        model_management.free_memory(sum(map(model_management.module_size, modules)) + WORK_BYTES, device)
        result = images.clone()
        progress = utils.ProgressBar(len(images))
        with _on(device, face_model, helper), torch.inference_mode():
            for picture in result:
                pixels = picture[..., :3].clamp(0, 1).mul(255).round().to(torch.uint8).cpu().numpy()
                restored = _restore(helper, face_model.model, np.ascontiguousarray(pixels[..., ::-1]))
                if restored is not None:
                    # Only the change is added, so that pixels outside the faces stay exactly as they are.
                    change = restored[..., ::-1].astype(np.float32) - pixels
                    picture[..., :3] += torch.from_numpy(change).to(picture) * (strength / 255)
                progress.update(1)
        return (result.clamp_(0, 1),)


def _restore(helper, network, picture):
    """The picture, BGR as facexlib has it, with its faces restored; None where there are none."""
    from comfy import model_management

    helper.clean_all()
    helper.read_image(picture)
    if not _find_faces(helper):
        return None
    helper.align_warp_face()
    for face in helper.cropped_faces:
        model_management.throw_exception_if_processing_interrupted()
        try:
            helper.add_restored_face(_restore_face(network, face, helper.device))
        except Exception as error:
            if out_of_memory(error):
                raise
            logging.getLogger(__name__).exception("a face could not be restored and stays as it is")
            helper.add_restored_face(face)
    helper.get_inverse_affine()
    return helper.paste_faces_to_input_image()


def _find_faces(helper):
    """How many faces there are; facexlib's helper gets their boxes and landmarks.

    Its own way shrinks every picture to a shorter side of 640 pixels, where small faces are lost.
    """
    import cv2

    picture = helper.input_img
    shorter = min(picture.shape[:2])
    scale = min(max(shorter, MIN_DETECTION_PX), MAX_DETECTION_PX) / shorter
    if scale != 1:
        size = (int(picture.shape[1] * scale), int(picture.shape[0] * scale))
        picture = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR if scale > 1 else cv2.INTER_AREA)
    for box in helper.face_det.detect_faces(picture, MIN_SCORE) / scale:
        landmarks = box[5:15].reshape(5, 2)
        if np.linalg.norm(landmarks[0] - landmarks[1]) >= MIN_EYE_DISTANCE_PX:
            helper.all_landmarks_5.append(landmarks)
            helper.det_faces.append(box[:5])
    return len(helper.det_faces)


def _restore_face(network, face, device):
    """One square face, BGR bytes in and out."""
    pixels = torch.from_numpy(np.ascontiguousarray(face[..., ::-1].transpose(2, 0, 1))).to(device)
    pixels = pixels[None].float() / 127.5 - 1
    options = {"weight": FIDELITY} if type(network).__name__ == "CodeFormer" else {}
    # GFPGAN draws noise: the same picture must come out the same.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        restored = network(pixels, **options)[0]
    restored = restored[0].clamp(-1, 1).add(1).mul(127.5).round().to(torch.uint8).cpu().numpy()
    return np.ascontiguousarray(restored.transpose(1, 2, 0)[..., ::-1])


_kept = {}


def _helper(detector, parser):
    """facexlib's helper with these weights, on the CPU; the last one is kept."""
    from facexlib.utils.face_restoration_helper import FaceRestoreHelper

    folder = Path(detector).parent
    # facexlib takes both by their names from one folder, and would fetch what it does not find there.
    if [detector, parser] != [str(folder / DETECTOR_FILE), str(folder / PARSER_FILE)]:
        raise ValueError(f"faces are found with {DETECTOR_FILE} and {PARSER_FILE}, both in one folder")
    if (detector, parser) not in _kept:
        _kept.clear()
        _kept[detector, parser] = FaceRestoreHelper(
            1, face_size=FACE_PX, use_parse=True, device=torch.device("cpu"), model_rootpath=str(folder)
        )
    return _kept[detector, parser]


@contextmanager
def _on(device, restorer, helper):
    """All networks on the device, and back on the CPU afterwards."""
    _move(device, restorer, helper)
    try:
        yield
    finally:
        _move(torch.device("cpu"), restorer, helper)
        helper.clean_all()


def _move(device, restorer, helper):
    restorer.to(device)
    helper.device = helper.face_det.device = device
    helper.face_det.to(device)
    # No buffer of its module, so it must be moved by hand.
    helper.face_det.mean_tensor = helper.face_det.mean_tensor.to(device)
    helper.face_parse.to(device)

"""Files beside the image models: what post-processors, ControlNets, annotators and transparent pictures need. Pure.

Where the model reference has a record its address and checksum are taken from there; what is in no reference has its
address here, and a checksum where one is known for certain.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from worker.errors import JobNotServable
from worker.workflows.families import Family
from worker.workflows.qr import WORKFLOW as QR_WORKFLOW

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from worker.workflows.features import Feature
    from worker.workflows.request import RenderRequest, ServedModel

_PHHOFM = "https://github.com/Phhofm/models"
_SD2 = (Family.STABLE_DIFFUSION_2_512, Family.STABLE_DIFFUSION_2_768)


@dataclass(frozen=True)
class AuxiliaryFile:
    """One file. `folder` is directly below the model root, `name` is the path within it, as ComfyUI lists it.

    `category` and `record` name its entry in the model reference; both are "" for a file in no reference.
    """

    folder: str
    name: str
    category: str = ""
    record: str = ""
    url: str | None = None
    #: lower case
    sha256: str | None = None


@dataclass(frozen=True)
class LayerDiffuse:
    """What makes a family's models draw on nothing, and what tells the transparency afterwards."""

    model: AuxiliaryFile
    decoder: AuxiliaryFile


def _referenced(category: str, record: str, name: str) -> AuxiliaryFile:
    return AuxiliaryFile(category, name, category, record)


def _upscaler(name: str, url: str) -> AuxiliaryFile:
    return AuxiliaryFile("esrgan", f"{name}.pth", url=url)


def _annotator(name: str, sha256: str | None, repository: str = "lllyasviel/Annotators", at: str = "") -> AuxiliaryFile:
    url = f"https://huggingface.co/{repository}/resolve/main/{name}"
    return AuxiliaryFile("controlnet", f"annotator/ckpts/{at}{name}", url=url, sha256=sha256)


#: Post-processor → the network it runs.
UPSCALERS: Final[Mapping[str, AuxiliaryFile]] = MappingProxyType(
    {
        **{
            name: _referenced("esrgan", name, f"{name}.pth")
            for name in (
                "RealESRGAN_x4plus",
                "RealESRGAN_x2plus",
                "RealESRGAN_x4plus_anime_6B",
                "NMKD_Siax",
                "4x_AnimeSharp",
            )
        },
        "4x_NMKD_Superscale_SP": _referenced("esrgan", "4x_NMKD_Superscale_SP", "4x_NMKD-Superscale-SP_178000_G.pth"),
        "4xNomos8kSC": _upscaler("4xNomos8kSC", f"{_PHHOFM}/raw/main/4xNomos8kSC/4xNomos8kSC.pth"),
        "4xLSDIRplus": _upscaler("4xLSDIRplus", f"{_PHHOFM}/raw/main/4xLSDIRplus/4xLSDIRplus.pth"),
        **{
            name: _upscaler(name, f"{_PHHOFM}/releases/download/{name}/{name}.pth")
            for name in ("4xNomosWebPhoto_RealPLKSR", "4xNomos2_realplksr_dysample", "4xNomos2_hq_dat2")
        },
        "2xModernSpanimationV1": _upscaler(
            "2xModernSpanimationV1",
            "https://github.com/TNTwise/real-video-enhancer-models/releases/download/models/2x_ModernSpanimationV1.pth",
        ),
    }
)
FACE_FIXERS: Final[Mapping[str, AuxiliaryFile]] = MappingProxyType(
    {
        "GFPGAN": _referenced("gfpgan", "GFPGAN", "GFPGANv1.4.pth"),
        "GFPGANv1.3": AuxiliaryFile(
            "gfpgan",
            "GFPGANv1.3.pth",
            url="https://github.com/TencentARC/GFPGAN/releases/download/v1.3.0/GFPGANv1.3.pth",
            sha256="c953a88f2727c85c3d9ae72e2bd4846bbaf59fe6972ad94130e23e7017524a70",
        ),
        "RestoreFormer": AuxiliaryFile(
            "gfpgan",
            "RestoreFormer.pth",
            url="https://github.com/TencentARC/GFPGAN/releases/download/v1.3.4/RestoreFormer.pth",
        ),
        "CodeFormers": _referenced("codeformer", "CodeFormers", "CodeFormers.pth"),
    }
)
#: What finds faces, and what knows a face's outline; every face fixer needs both.
FACE_DETECTOR: Final = _referenced("gfpgan", "GFPGAN", "detection_Resnet50_Final.pth")
FACE_PARSER: Final = _referenced("gfpgan", "GFPGAN", "parsing_parsenet.pth")

BACKGROUND: Final = AuxiliaryFile(
    "rembg", "u2net.onnx", url="https://github.com/danielgatis/rembg/releases/download/v0.0.0/u2net.onnx"
)

LAYER_DIFFUSE: Final[Mapping[Family, LayerDiffuse]] = MappingProxyType(
    {
        family: LayerDiffuse(
            _referenced("miscellaneous", record, f"{model}.safetensors"),
            _referenced("miscellaneous", record, f"{decoder}.safetensors"),
        )
        for family, record, model, decoder in (
            (
                Family.STABLE_DIFFUSION_1,
                "layer_diffuse_sd15",
                "layer_sd15_transparent_attn",
                "layer_sd15_vae_transparent_decoder",
            ),
            (
                Family.STABLE_DIFFUSION_XL,
                "layer_diffuse_sdxl",
                "layer_xl_transparent_conv",
                "vae_transparent_decoder",
            ),
        )
    }
)

_SD15_CONTROLS = {
    "canny": "diff_control_sd15_canny_fp16",
    "hed": "diff_control_sd15_hed_fp16",
    "depth": "diff_control_sd15_depth_fp16",
    "normal": "control_normal_fp16",
    "openpose": "control_openpose_fp16",
    "seg": "control_seg_fp16",
    "scribble": "control_scribble_fp16",
    "fakescribbles": "control_scribble_fp16",
    "mlsd": "control_mlsd_fp16",
}
_SD2_CONTROLS = {
    "canny": "diff_control_sd21_canny_fp16",
    "hed": "diff_control_sd21_hed_fp16",
    "depth": "diff_control_sd21_depth_fp16",
    "openpose": "control_openpose_fp21",
    "scribble": "control_scribble_fp21",
    "fakescribbles": "control_scribble_fp21",
}
#: Family → control type as RenderRequest has it → its network. A pair that is not there can't be served.
CONTROLNETS: Final[Mapping[Family, Mapping[str, AuxiliaryFile]]] = MappingProxyType(
    {
        family: MappingProxyType(
            {
                control_type: _referenced("controlnet", f"control_{control_type}{ending}", f"{name}.safetensors")
                for control_type, name in names.items()
            }
        )
        for family, ending, names in (
            (Family.STABLE_DIFFUSION_1, "", _SD15_CONTROLS),
            *((family, "_sd2", _SD2_CONTROLS) for family in _SD2),
        )
    }
)
QR_CONTROLNETS: Final[Mapping[Family, AuxiliaryFile]] = MappingProxyType(
    {
        Family.STABLE_DIFFUSION_1: _referenced(
            "controlnet", "control_qr", "control_v1p_sd15_qrcode_monster_v2.safetensors"
        ),
        Family.STABLE_DIFFUSION_XL: _referenced(
            "controlnet", "control_qr_sdxl", "control_v1p_sdxl_qrcode_monster.safetensors"
        ),
    }
)

_HED = _annotator("ControlNetHED.pth", "5ca93762ffd68a29fee1af9d495bf6aab80ae86f08905fb35472a083a4c7a8fa")
#: Control type → the networks that make its map from a picture; none where arithmetic will do. The names are those that
#: worker/engine/nodes/annotators.py loads.
ANNOTATORS: Final[Mapping[str, tuple[AuxiliaryFile, ...]]] = MappingProxyType(
    {
        "canny": (),
        "scribble": (),
        "hed": (_HED,),
        "fakescribbles": (_HED,),
        "depth": (_annotator("res101.pth", "1d696b2ef3e8336b057d0c15bc82d2fecef821bfebe5ef9d7671a5ec5dde520b"),),
        "normal": (
            _annotator(
                "dpt_hybrid-midas-501f0c75.pt", "501f0c75b3bca7daec6b3682c5054c09b366765aef6fa3a09d03a5cb4b230853"
            ),
        ),
        "openpose": (
            _annotator("body_pose_model.pth", "25a948c16078b0f08e236bda51a385d855ef4c153598947c28c0d47ed94bb746"),
        ),
        "seg": (
            _annotator("pytorch_model.bin", None, "openmmlab/upernet-convnext-small", at="upernet-convnext-small/"),
        ),
        "mlsd": (
            _annotator("mlsd_large_512_fp32.pth", "5696f168eb2c30d4374bbfd45436f7415bb4d88da29bea97eea0101520fba082"),
        ),
    }
)


def needs(request: RenderRequest, *, but_for: Collection[str] = ()) -> tuple[AuxiliaryFile, ...]:
    """Every file beside the model's own that the request's graph loads, each once.

    `but_for`: features, or workflows, that a template does in its own way or not at all.
    Raises JobNotServable where no file exists that could do it, as for a ControlNet on SDXL.
    """
    files: list[AuxiliaryFile] = []
    if (
        request.control_type
        and "annotate" not in but_for
        and (request.return_control_map or not request.image_is_control)
    ):
        files += ANNOTATORS[request.control_type]
    is_qr = request.workflow == QR_WORKFLOW
    if request.control_type and not request.return_control_map and not is_qr and "control" not in but_for:
        files.append(_required_controlnet(request.model, request.control_type))
    if is_qr and QR_WORKFLOW not in but_for:
        files.append(_required_controlnet(request.model, QR_WORKFLOW))
    if request.transparent and "transparent" not in but_for:
        layers = LAYER_DIFFUSE[request.model.family]
        files += [layers.model, layers.decoder]
    for name in request.post_processing:
        files += () if feature_of_post_processor(name) in but_for else of_post_processor(name)
    return tuple(dict.fromkeys(files))


def controlnet(model: ServedModel, use: str | None) -> AuxiliaryFile | None:
    """The ControlNet for a control type or a workflow, None where there is none for the model."""
    # An inpainting model's first layer also takes the mask and the picture, and no ControlNet was made for one.
    if model.inpainting:
        return None
    return QR_CONTROLNETS.get(model.family) if use == QR_WORKFLOW else CONTROLNETS.get(model.family, {}).get(use or "")


def feature_of_post_processor(name: str) -> str:
    """What a fragment is called by that runs this processor."""
    return "face_fix" if name in FACE_FIXERS else "strip_background" if name == "strip_background" else "upscale"


def of_post_processor(name: str) -> tuple[AuxiliaryFile, ...]:
    """The files of one name of the Horde's list. Raises KeyError for a name that is on no list."""
    if name in FACE_FIXERS:
        return FACE_FIXERS[name], FACE_DETECTOR, FACE_PARSER
    return (BACKGROUND,) if name == "strip_background" else (UPSCALERS[name],)


def of_feature(feature: Feature) -> tuple[AuxiliaryFile, ...]:
    """Every file that may serve a feature, each once; none for a feature that needs no files of its own."""
    match feature.value:
        case "control" | "annotate" | "control_map":
            found: Iterable[AuxiliaryFile] = (
                *(file for files in CONTROLNETS.values() for file in files.values()),
                *(file for files in ANNOTATORS.values() for file in files),
            )
        case "transparent":
            found = (file for both in LAYER_DIFFUSE.values() for file in (both.model, both.decoder))
        case "upscale":
            found = UPSCALERS.values()
        case "face_fix":
            found = (*FACE_FIXERS.values(), FACE_DETECTOR, FACE_PARSER)
        case "strip_background":
            found = (BACKGROUND,)
        case _:
            found = ()
    return tuple(dict.fromkeys(found))


def _required_controlnet(model: ServedModel, use: str) -> AuxiliaryFile:
    file = controlnet(model, use)
    if file is None:
        raise JobNotServable(f"There is no ControlNet for {use} on {model.kind}.")
    return file

"""What is made, as data: models by their Horde name, their files, and the files that serve any of them.

Read by the supervisor (the demo's model folder, engine tests) and by the builder, so it imports nothing but the
standard library. Paths are relative to the models folder, whose layout is the one owners have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

#: Every folder of a models folder, whether or not something tiny goes into it.
MODEL_FOLDERS = (
    "clip",
    "codeformer",
    "compvis",
    "controlnet",
    "esrgan",
    "gfpgan",
    "lora",
    "miscellaneous",
    "rembg",
    "text_encoders",
    "ti",
    "vae",
)


class Purpose(str, Enum):
    """What a file is to its model. The values of a model's own files are the model reference's `file_type`."""

    CHECKPOINT = "ckpt"
    CASCADE_B = "stable_cascade_stage_b"
    CASCADE_C = "stable_cascade_stage_c"
    UNET = "unet"
    VAE = "vae"
    TEXT_ENCODERS = "text_encoders"
    LORA = "lora"
    EMBEDDING = "ti"
    CONTROLNET = "controlnet"
    UPSCALER = "esrgan"
    FACE_RESTORER = "gfpgan"
    FACE_FINDER = "facexlib"
    ANNOTATOR = "annotator"
    LAYER_DIFFUSE = "layer_diffuse"
    BACKGROUND = "rembg"


@dataclass(frozen=True)
class TinyFile:
    """One file to make, by function `recipe` (`name` when empty) of module `made_by`. `name` is unique.

    Without package `needs` in the engine's environment the file can't be made, and is left out.
    """

    name: str
    made_by: str
    path: str
    purpose: Purpose = Purpose.CHECKPOINT
    recipe: str = ""
    needs: str = ""
    #: file of ComfyUI without which the file can't be made
    engine_file: str = ""

    @property
    def folder(self) -> str:
        return self.path.split("/")[0]

    @property
    def file_name(self) -> str:
        return self.path.split("/")[-1]


@dataclass(frozen=True)
class TinyModel:
    """A model as the Horde would list it. `baseline` is spelled as the model reference (version 1) spells it."""

    name: str
    baseline: str
    files: tuple[TinyFile, ...]
    inpainting: bool = False


@dataclass(frozen=True)
class TinyAddition:
    """A LoRA or textual inversion, as a job names it: by `name` or by `version_id`. It fits models of `baseline`."""

    name: str
    version_id: int
    baseline: str
    file: TinyFile


def _lora(family: str, version_id: int, baseline: str) -> TinyAddition:
    file = TinyFile(f"{family}_lora", "lora", f"lora/tiny_{family}_{version_id}.safetensors", Purpose.LORA)
    return TinyAddition(f"tiny_{family}", version_id, baseline, file)


def _embedding(family: str, version_id: int, baseline: str) -> TinyAddition:
    file = TinyFile(f"{family}_embedding", "embedding", f"ti/{version_id}.safetensors", Purpose.EMBEDDING)
    return TinyAddition(f"tiny_{family}_embedding", version_id, baseline, file)


def _control(kind: str, file_name: str, recipe: str, made_by: str = "control") -> TinyFile:
    return TinyFile(f"control_{kind}", made_by, f"controlnet/{file_name}", Purpose.CONTROLNET, recipe)


def _annotator(file_name: str, recipe: str, needs: str = "controlnet_aux") -> TinyFile:
    path = f"controlnet/annotator/ckpts/{file_name}"
    return TinyFile(f"annotator_{recipe}", "annotate", path, Purpose.ANNOTATOR, recipe, needs)


def _upscaler(file_name: str, recipe: str, made_by: str = "upscale") -> TinyFile:
    return TinyFile(file_name.removesuffix(".pth"), made_by, f"esrgan/{file_name}", Purpose.UPSCALER, recipe)


def _layer_diffuse(name: str, recipe: str) -> TinyFile:
    path = f"miscellaneous/{name}.safetensors"
    return TinyFile(name, "layer_diffuse", path, Purpose.LAYER_DIFFUSE, recipe)


FLUX_CLIP_L = TinyFile("clip_l", "dit", "text_encoders/tiny_clip_l.safetensors", Purpose.TEXT_ENCODERS)
FLUX_T5 = TinyFile("t5xxl", "dit", "text_encoders/tiny_t5xxl_fp8_e4m3fn.safetensors", Purpose.TEXT_ENCODERS)
FLUX_VAE = TinyFile("flux_vae", "dit", "vae/tiny_ae.safetensors", Purpose.VAE)

TINY_MODELS = (
    TinyModel("Tiny SD1.5", "stable diffusion 1", (TinyFile("sd15", "sd", "compvis/tiny_sd15.safetensors"),)),
    TinyModel("Tiny SD1.5 B", "stable diffusion 1", (TinyFile("sd15_b", "sd", "compvis/tiny_sd15_b.safetensors"),)),
    TinyModel(
        "Tiny SD1.5 Deep", "stable diffusion 1", (TinyFile("sd15_deep", "sd", "compvis/tiny_sd15_deep.safetensors"),)
    ),
    TinyModel(
        "Tiny SD1.5 Inpainting",
        "stable diffusion 1",
        (TinyFile("sd15_inpainting", "sd", "compvis/tiny_sd15_inpainting.safetensors"),),
        inpainting=True,
    ),
    TinyModel("Tiny SD2 512", "stable diffusion 2", (TinyFile("sd2_512", "sd", "compvis/tiny_sd2_512.safetensors"),)),
    TinyModel("Tiny SD2 768", "stable diffusion 2", (TinyFile("sd2_768", "sd", "compvis/tiny_sd2_768.safetensors"),)),
    TinyModel("Tiny SDXL", "stable_diffusion_xl", (TinyFile("sdxl", "sd", "compvis/tiny_sdxl.safetensors"),)),
    TinyModel(
        "Tiny Flux Schnell", "flux_1", (TinyFile("flux_schnell", "dit", "compvis/tiny_flux_schnell_fp8.safetensors"),)
    ),
    TinyModel("Tiny Flux Dev", "flux_1", (TinyFile("flux_dev", "dit", "compvis/tiny_flux_dev_fp8.safetensors"),)),
    TinyModel(
        "Tiny Flux Split",
        "flux_1",
        (
            TinyFile("flux_unet", "dit", "compvis/tiny_flux_unet_fp8.safetensors", Purpose.UNET),
            FLUX_CLIP_L,
            FLUX_T5,
            FLUX_VAE,
        ),
    ),
    TinyModel(
        "Tiny Stable Cascade",
        "stable_cascade",
        (
            TinyFile("cascade_b", "cascade", "compvis/tiny_stable_cascade_stage_b.safetensors", Purpose.CASCADE_B),
            TinyFile("cascade_c", "cascade", "compvis/tiny_stable_cascade_stage_c.safetensors", Purpose.CASCADE_C),
        ),
    ),
    TinyModel(
        "Tiny Qwen-Image",
        "qwen_image",
        (
            TinyFile("qwen_unet", "dit", "compvis/tiny_qwen_image_fp8_e4m3fn.safetensors", Purpose.UNET),
            TinyFile(
                "qwen_text_encoder", "dit", "text_encoders/tiny_qwen_2.5_vl_7b_fp8.safetensors", Purpose.TEXT_ENCODERS
            ),
            TinyFile("qwen_vae", "dit", "vae/tiny_qwen_image_vae.safetensors", Purpose.VAE),
        ),
    ),
    TinyModel(
        "Tiny Z-Image",
        "z_image_turbo",
        (
            TinyFile("z_image_unet", "dit", "compvis/tiny_z_image_turbo_fp8.safetensors", Purpose.UNET),
            TinyFile("z_image_text_encoder", "dit", "text_encoders/tiny_qwen_3_4b.safetensors", Purpose.TEXT_ENCODERS),
            FLUX_VAE,
        ),
    ),
)

#: Of no family that is served without an owner's folder; see docs/examples/sd35.
TINY_SD35 = TinyFile("sd35", "sd35", "compvis/tiny_sd35.safetensors")

QWEN_VAE = TINY_MODELS[-2].files[-1]
ANIMA, KREA2 = "comfy/ldm/anima/model.py", "comfy/ldm/krea2/model.py"


def _newer(name: str, path: str, purpose: Purpose, engine_file: str) -> TinyFile:
    return TinyFile(name, "newer", path, purpose, engine_file=engine_file)


#: Made where ComfyUI has their families.
NEWER_TINY_MODELS = (
    TinyModel(
        "Tiny Anima",
        "anima",
        (
            _newer("anima_unet", "compvis/tiny_anima_fp8.safetensors", Purpose.UNET, ANIMA),
            _newer(
                "anima_text_encoder", "text_encoders/tiny_qwen_3_06b_base.safetensors", Purpose.TEXT_ENCODERS, ANIMA
            ),
            QWEN_VAE,
        ),
    ),
    TinyModel(
        "Tiny Krea 2 Turbo",
        "krea2_turbo",
        (
            _newer("krea2_unet", "compvis/tiny_krea2_turbo_fp8.safetensors", Purpose.UNET, KREA2),
            _newer("krea2_text_encoder", "text_encoders/tiny_qwen3vl_4b.safetensors", Purpose.TEXT_ENCODERS, KREA2),
            QWEN_VAE,
        ),
    ),
)
NEWER_TINY_LORAS = tuple(
    TinyAddition(
        f"tiny_{family}",
        number,
        baseline,
        TinyFile(
            f"{family}_lora", "newer_lora", f"lora/tiny_{family}_{number}.safetensors", Purpose.LORA, engine_file=needed
        ),
    )
    for family, number, baseline, needed in (
        ("anima", 800001, "anima", ANIMA),
        ("krea2", 900001, "krea2_turbo", KREA2),
    )
)

TINY_LORAS = (
    _lora("sd15", 150001, "stable diffusion 1"),
    _lora("sd2", 200001, "stable diffusion 2"),
    _lora("sdxl", 300001, "stable_diffusion_xl"),
    _lora("flux", 400001, "flux_1"),
    _lora("cascade", 500001, "stable_cascade"),
    _lora("qwen", 600001, "qwen_image"),
    _lora("z_image", 700001, "z_image_turbo"),
)

TINY_EMBEDDINGS = (
    _embedding("sd15", 150002, "stable diffusion 1"),
    _embedding("sd2", 200002, "stable diffusion 2"),
    _embedding("sdxl", 300002, "stable_diffusion_xl"),
)

#: Under the names owners have them by, so that what finds the real ones finds these. Those of SD2 fit "Tiny SD2 512".
TINY_CONTROLNETS = (
    _control("canny", "diff_control_sd15_canny_fp16.safetensors", "sd15_difference"),
    _control("depth", "diff_control_sd15_depth_fp16.safetensors", "sd15_difference"),
    _control("hed", "diff_control_sd15_hed_fp16.safetensors", "sd15_difference"),
    _control("mlsd", "control_mlsd_fp16.safetensors", "sd15_difference"),
    _control("normal", "control_normal_fp16.safetensors", "sd15_difference"),
    _control("openpose", "control_openpose_fp16.safetensors", "sd15_difference"),
    _control("scribble", "control_scribble_fp16.safetensors", "sd15_difference"),
    _control("seg", "control_seg_fp16.safetensors", "sd15_difference"),
    _control("canny_sd2", "diff_control_sd21_canny_fp16.safetensors", "sd2_difference"),
    _control("depth_sd2", "diff_control_sd21_depth_fp16.safetensors", "sd2_difference"),
    _control("hed_sd2", "diff_control_sd21_hed_fp16.safetensors", "sd2_difference"),
    _control("openpose_sd2", "control_openpose_fp21.safetensors", "sd2_difference"),
    _control("scribble_sd2", "control_scribble_fp21.safetensors", "sd2_difference"),
    _control("qr", "control_v1p_sd15_qrcode_monster_v2.safetensors", "sd15_ordinary"),
    _control("qr_sdxl", "control_v1p_sdxl_qrcode_monster.safetensors", "sdxl_ordinary"),
    _control("flux_union", "FLUX.1-dev-ControlNet-Union-Pro.safetensors", "flux_union", "control_flux"),
    _control("flux_hed", "flux-hed-controlnet-v3.safetensors", "flux_pictures", "control_flux"),
)

#: What makes control maps of pictures.
TINY_ANNOTATORS = (
    _annotator("ControlNetHED.pth", "hed"),
    _annotator("res101.pth", "leres"),
    _annotator("dpt_hybrid-midas-501f0c75.pt", "midas"),
    _annotator("body_pose_model.pth", "pose"),
    _annotator("mlsd_large_512_fp32.pth", "lines"),
    _annotator("upernet-convnext-small/pytorch_model.bin", "regions", needs="transformers"),
)

TINY_UPSCALERS = (
    _upscaler("RealESRGAN_x4plus.pth", "realesrgan_x4"),
    _upscaler("RealESRGAN_x4plus_anime_6B.pth", "realesrgan_x4"),
    _upscaler("RealESRGAN_x2plus.pth", "realesrgan_x2"),
    _upscaler("NMKD_Siax.pth", "esrgan_x4"),
    _upscaler("4x_AnimeSharp.pth", "esrgan_x4"),
    _upscaler("4x_NMKD-Superscale-SP_178000_G.pth", "esrgan_x4"),
    _upscaler("4xNomos8kSC.pth", "esrgan_x4"),
    _upscaler("4xLSDIRplus.pth", "realesrgan_x4"),
    _upscaler("4xNomosWebPhoto_RealPLKSR.pth", "realplksr_x4", "upscale_newer"),
    _upscaler("4xNomos2_realplksr_dysample.pth", "realplksr_dysample_x4", "upscale_newer"),
    _upscaler("4xNomos2_hq_dat2.pth", "dat_x4", "upscale_newer"),
    _upscaler("2xModernSpanimationV1.pth", "span_x2", "upscale_newer"),
)

#: CodeFormer's package is for non-commercial use, so not every engine has it.
TINY_FACE_FILES = (
    TinyFile("retinaface", "face", "gfpgan/detection_Resnet50_Final.pth", Purpose.FACE_FINDER, needs="facexlib"),
    TinyFile("parsenet", "face", "gfpgan/parsing_parsenet.pth", Purpose.FACE_FINDER, needs="facexlib"),
    TinyFile("gfpgan", "face", "gfpgan/GFPGANv1.4.pth", Purpose.FACE_RESTORER),
    TinyFile("gfpgan_13", "face", "gfpgan/GFPGANv1.3.pth", Purpose.FACE_RESTORER, "gfpgan"),
    TinyFile("restoreformer", "face", "gfpgan/RestoreFormer.pth", Purpose.FACE_RESTORER),
    TinyFile("codeformer", "face", "codeformer/CodeFormers.pth", Purpose.FACE_RESTORER, needs="spandrel_extra_arches"),
)

TINY_BACKGROUND = TinyFile("u2net", "background", "rembg/u2net.onnx", Purpose.BACKGROUND)

#: The units for SD1.5 fit "Tiny SD1.5 Deep" only.
TINY_LAYER_DIFFUSE = (
    _layer_diffuse("layer_sd15_transparent_attn", "sd15_attention"),
    _layer_diffuse("layer_sd15_vae_transparent_decoder", "sd15_decoder"),
    _layer_diffuse("layer_xl_transparent_conv", "sdxl_convolutions"),
    _layer_diffuse("vae_transparent_decoder", "sdxl_decoder"),
)

TINY_FILES: dict[str, TinyFile] = {
    file.name: file
    for file in (
        *(file for model in (*TINY_MODELS, *NEWER_TINY_MODELS) for file in model.files),
        *(addition.file for addition in (*TINY_LORAS, *NEWER_TINY_LORAS, *TINY_EMBEDDINGS)),
        TINY_SD35,
        *TINY_CONTROLNETS,
        *TINY_ANNOTATORS,
        *TINY_UPSCALERS,
        *TINY_FACE_FILES,
        TINY_BACKGROUND,
        *TINY_LAYER_DIFFUSE,
    )
}


def _full_size(name: str, path: str, purpose: Purpose = Purpose.CHECKPOINT) -> TinyFile:
    return TinyFile(f"full_{name}", "full_size", path, purpose, name)


#: Models of the published sizes with random weights (see full_size.py), for measurements on a card: 2 to 17 GB each.
FULL_SIZE_MODELS = (
    TinyModel("Full SD1.5", "stable diffusion 1", (_full_size("sd15", "compvis/full_sd15.safetensors"),)),
    TinyModel("Full SD1.5 B", "stable diffusion 1", (_full_size("sd15_b", "compvis/full_sd15_b.safetensors"),)),
    TinyModel("Full SDXL", "stable_diffusion_xl", (_full_size("sdxl", "compvis/full_sdxl.safetensors"),)),
    TinyModel(
        "Full Flux Schnell", "flux_1", (_full_size("flux_schnell", "compvis/full_flux_schnell_fp8.safetensors"),)
    ),
    TinyModel(
        "Full Stable Cascade",
        "stable_cascade",
        (
            _full_size("cascade_b", "compvis/full_stable_cascade_stage_b.safetensors", Purpose.CASCADE_B),
            _full_size("cascade_c", "compvis/full_stable_cascade_stage_c.safetensors", Purpose.CASCADE_C),
        ),
    ),
)
FULL_SIZE_LORAS = (
    TinyAddition(
        "full_sd15", 150011, "stable diffusion 1",
        _full_size("sd15_lora", "lora/full_sd15_150011.safetensors", Purpose.LORA),
    ),
    TinyAddition(
        "full_sdxl", 300011, "stable_diffusion_xl",
        _full_size("sdxl_lora", "lora/full_sdxl_300011.safetensors", Purpose.LORA),
    ),
)  # fmt: skip
FULL_SIZE_CONTROLNET = _full_size(
    "sd15_control", "controlnet/diff_control_sd15_canny_fp16.safetensors", Purpose.CONTROLNET
)
FULL_SIZE_UPSCALER = _full_size("realesrgan_x4", "esrgan/RealESRGAN_x4plus.pth", Purpose.UPSCALER)

FULL_SIZE_FILES: dict[str, TinyFile] = {
    file.name: file
    for file in (
        *(file for model in FULL_SIZE_MODELS for file in model.files),
        *(addition.file for addition in FULL_SIZE_LORAS),
        FULL_SIZE_CONTROLNET,
        FULL_SIZE_UPSCALER,
        # Without these a worker offers neither ControlNet nor post-processing; nothing is measured with them.
        *(file for file in TINY_CONTROLNETS if file.path != FULL_SIZE_CONTROLNET.path),
        *TINY_ANNOTATORS,
        *(file for file in TINY_UPSCALERS if file.path != FULL_SIZE_UPSCALER.path),
        *TINY_FACE_FILES,
        TINY_BACKGROUND,
    )
}
#: What features need beside an image model and a LoRA, of either size.
AUXILIARY_FILES = tuple(
    file.name for file in (*TINY_CONTROLNETS, *TINY_ANNOTATORS, *TINY_UPSCALERS, *TINY_FACE_FILES, TINY_BACKGROUND)
)
FULL_SIZE_AUXILIARY_FILES = tuple(
    name for name, file in FULL_SIZE_FILES.items() if not any(file in model.files for model in FULL_SIZE_MODELS)
)


def build_command(
    python: Path,
    comfyui: Path,
    out: Path,
    names: Sequence[str] = (),
    *,
    full_size: bool = False,
    tree_only: bool = False,
) -> list[str]:
    """The command that makes `names` (all when empty) below `out` with the engine's `python`; see build.py."""
    script = Path(__file__).with_name("build.py")
    kind = ["--full-size"] if full_size else ["--tree-only"] if tree_only else []
    return [str(python), str(script), "--comfyui", str(comfyui), "--out", str(out), *kind, *names]


def engine_tree(out: Path) -> Path:
    """Where the build puts the copy of ComfyUI that can load what it makes."""
    return out / "comfyui"


def models_folder(out: Path) -> Path:
    """Where the build puts the models, in the layout of an owner's models folder."""
    return out / "models"

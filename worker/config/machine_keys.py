"""Keys for how the machine is used: performance, memory, devices, folders, time-outs, output."""

from typing import ClassVar

from worker.config.key_types import DeviceEntries, Devices, Effect, KeyGroup, Location, Text, TextList, key


class PerformanceKeys(KeyGroup):
    TITLE: ClassVar[str] = "Performance"

    max_threads: int = key(
        1,
        Effect.RESTART,
        "Jobs that run at the same time on each device. More than 1 pays only on large cards.",
        least=1,
        most=16,
    )
    queue_size: int = key(
        1, Effect.AT_ONCE, "Jobs fetched in advance, so that the device never waits for the Horde.", least=0, most=4
    )
    max_batch: int = key(1, Effect.AT_ONCE, "Images of one request accepted as one job.", least=1, most=20)
    safety_on_gpu: bool = key(
        False, Effect.ENGINE_START, "Checks images on the GPU: faster, for about 1.2 GB of its memory."
    )
    high_performance_mode: bool = key(
        False, Effect.AT_ONCE, "For fast cards (RTX 4080 and up): keeps more work ready and waits less."
    )
    moderate_performance_mode: bool = key(
        False,
        Effect.AT_ONCE,
        "A milder form for cards such as an RTX 3080. Has no effect together with high_performance_mode.",
    )
    post_process_job_overlap: bool = key(
        False,
        Effect.RESTART,
        "Starts the next job during upscaling or face repair of the previous one: one more engine per device, if "
        "allow_post_processing is on and the RAM holds its model.",
    )
    unload_models_from_vram_often: bool = key(
        True,
        Effect.ENGINE_START,
        "Removes models from GPU memory between jobs. Turn it off if the card has memory to spare.",
    )
    high_memory_mode: bool = key(
        False, Effect.ENGINE_START, "Keeps models in memory: for 20 GB of GPU memory and 32 GB of RAM or more."
    )
    very_high_memory_mode: bool = key(
        False, Effect.ENGINE_START, "Keeps everything on the GPU; implies high_memory_mode. For 40 GB or more."
    )
    dynamic_vram: bool = key(
        True,
        Effect.ENGINE_START,
        "Lets a ComfyUI of 2026 or later page weights in and out of the card while it samples (NVIDIA, ROCm 7.14 and "
        "newer). Off: it places whole models by estimate, as older versions always do.",
    )
    model_stickiness: float = key(
        0.0,
        Effect.AT_ONCE,
        "How often only models that are already in memory are offered: 0 is never, 1 is always.",
        least=0,
        most=1,
        aliases=("horde_model_stickiness",),
    )
    cycle_process_on_model_change: bool = key(
        False, Effect.AT_ONCE, "Starts a new engine for each change of model. Slow; a last resort against memory leaks."
    )


class EngineKeys(KeyGroup):
    TITLE: ClassVar[str] = "Folders, devices, engine"

    cache_home: Text = key(
        "./",
        Effect.RESTART,
        "The models folder, or a folder above it: the first folder found that contains both compvis and clip is used, "
        "otherwise this folder. The environment variable AIWORKER_CACHE_HOME overrides it.",
        aliases=("models_folder_parent",),
        allowed="a path",
    )
    extra_stable_diffusion_models_folders: TextList = key(
        (), Effect.RESTART, "Additional folders with model files; they are only read.", allowed="a list of paths"
    )
    devices: Devices = key(
        "auto",
        Effect.RESTART,
        "Which GPUs to use, by number, or cpu. auto uses every GPU, or those listed in the environment variable "
        "CUDA_VISIBLE_DEVICES (for AMD also HIP_VISIBLE_DEVICES and ROCR_VISIBLE_DEVICES).",
        allowed="auto, or a list of different GPU numbers and cpu",
    )
    device_settings: DeviceEntries = key(
        (),
        Effect.RESTART,
        "Different values for single devices: entries with device (a number, or cpu) and any of max_threads, "
        "max_power, memory_mode (normal, high or very_high) and models (names; only these are rendered there).",
        allowed="a list of entries with device and any of max_threads, max_power, memory_mode, models",
    )
    comfyui_path: Location | None = key(
        None, Effect.ENGINE_START, "Your own ComfyUI, used instead of the one installed with the worker."
    )
    comfyui_python: Location | None = key(
        None, Effect.ENGINE_START, "The Python that runs ComfyUI, if it is not the one installed with the worker."
    )
    workflows_dir: Location | None = key(
        None, Effect.RESTART, "A folder with your own workflow templates; they replace built-in ones of the same name."
    )
    approved_node_classes: TextList = key(
        (),
        Effect.RESTART,
        "Node classes that your templates may use in addition to those of the built-in templates. Nodes run code: "
        "list only what you trust.",
        allowed="a list of ComfyUI node class names",
    )


class TimeoutKeys(KeyGroup):
    TITLE: ClassVar[str] = "Time-outs and recovery"

    preload_timeout: int = key(
        80,
        Effect.AT_ONCE,
        "Least time without a sign of life while an engine loads a model, in seconds; four times as long for the "
        "first load.",
        least=15,
    )
    download_timeout: int = key(
        121, Effect.AT_ONCE, "Time limit for fetching the LoRAs and textual inversions of a job, in seconds.", least=1
    )
    post_process_timeout: int = key(
        60,
        Effect.AT_ONCE,
        "Least time without a sign of life in post-processing, in seconds, plus 3 for each image of max_batch.",
        least=15,
    )
    inference_step_timeout: int = key(
        15,
        Effect.AT_ONCE,
        "Least time for one sampling step, in seconds, before the engine is considered stuck.",
        least=15,
        most=3600,
    )
    process_timeout: int = key(
        300,
        Effect.AT_ONCE,
        "Time without a sign of life during the first load of a model, in seconds, if longer than four times "
        "preload_timeout. If not set, high_performance_mode makes it 100 and moderate_performance_mode 150.",
        least=1,
    )
    exit_on_unhandled_faults: bool = key(
        False,
        Effect.AT_ONCE,
        "Ends the worker with an error after 3 faulted jobs in a row, when the other jobs are done; otherwise it "
        "pauses for 3 minutes.",
    )
    remove_maintenance_on_init: bool = key(False, Effect.RESTART, "Ends the worker's maintenance mode when it starts.")
    maintenance_when_broken_minutes: int = key(
        0,
        Effect.AT_ONCE,
        "Minutes without a running engine after which the worker enters maintenance mode, until an engine runs again; "
        "0 is never.",
        least=0,
        most=1440,
    )


class OutputKeys(KeyGroup):
    TITLE: ClassVar[str] = "Output"

    stats_output_frequency: int = key(
        30, Effect.AT_ONCE, "Seconds between two status blocks in the terminal; 0 shows none.", least=0
    )
    limited_console_messages: bool = key(
        False,
        Effect.RESTART,
        "Shows only delivered jobs, status and kudos in the terminal; the log file has everything.",
    )
    suppress_speed_warnings: bool = key(
        False, Effect.AT_ONCE, "Hides the warnings about slow jobs and about long times without any."
    )
    minutes_allowed_without_jobs: int = key(
        30, Effect.AT_ONCE, "Minutes without a job after which a warning is shown.", least=0, most=3599
    )

"""Keys for how the machine is used: performance, memory, devices, folders, time-outs, output."""

from typing import Annotated, ClassVar

from annotated_types import Ge, Le

from worker.config.key_types import DeviceEntries, Devices, Effect, KeyDoc, KeyGroup, Location, Text, TextList


class PerformanceKeys(KeyGroup):
    TITLE: ClassVar[str] = "Performance"

    max_threads: Annotated[
        int,
        Ge(1),
        Le(16),
        KeyDoc("Jobs that run at the same time on each device. More than 1 pays only on large cards.", Effect.RESTART),
    ] = 1
    queue_size: Annotated[
        int,
        Ge(0),
        Le(4),
        KeyDoc("Jobs fetched in advance, so that the device never waits for the Horde.", Effect.AT_ONCE),
    ] = 1
    max_batch: Annotated[int, Ge(1), Le(20), KeyDoc("Images of one request accepted as one job.", Effect.AT_ONCE)] = 1
    safety_on_gpu: Annotated[
        bool, KeyDoc("Checks images on the GPU: faster, for about 1.2 GB of its memory.", Effect.ENGINE_START)
    ] = False
    high_performance_mode: Annotated[
        bool, KeyDoc("For fast cards (RTX 4080 and up): keeps more work ready and waits less.", Effect.AT_ONCE)
    ] = False
    moderate_performance_mode: Annotated[
        bool,
        KeyDoc(
            "A milder form for cards such as an RTX 3080. Has no effect together with high_performance_mode.",
            Effect.AT_ONCE,
        ),
    ] = False
    post_process_job_overlap: Annotated[
        bool,
        KeyDoc(
            "Starts the next job during upscaling or face repair of the previous one: one more engine per device, if "
            "allow_post_processing is on and the RAM holds its model.",
            Effect.RESTART,
        ),
    ] = False
    unload_models_from_vram_often: Annotated[
        bool,
        KeyDoc(
            "Removes models from GPU memory between jobs. Turn it off if the card has memory to spare.",
            Effect.ENGINE_START,
        ),
    ] = True
    high_memory_mode: Annotated[
        bool, KeyDoc("Keeps models in memory: for 20 GB of GPU memory and 32 GB of RAM or more.", Effect.ENGINE_START)
    ] = False
    very_high_memory_mode: Annotated[
        bool, KeyDoc("Keeps everything on the GPU; implies high_memory_mode. For 40 GB or more.", Effect.ENGINE_START)
    ] = False
    dynamic_vram: Annotated[
        bool,
        KeyDoc(
            "Lets a ComfyUI of 2026 or later page weights in and out of the card while it samples (NVIDIA, ROCm 7.14 "
            "and newer). Off: it places whole models by estimate, as older versions always do.",
            Effect.ENGINE_START,
        ),
    ] = True
    model_stickiness: Annotated[
        float,
        Ge(0),
        Le(1),
        KeyDoc(
            "How often only models that are already in memory are offered: 0 is never, 1 is always.",
            Effect.AT_ONCE,
            aliases=("horde_model_stickiness",),
        ),
    ] = 0.0
    cycle_process_on_model_change: Annotated[
        bool,
        KeyDoc(
            "Starts a new engine for each change of model. Slow; a last resort against memory leaks.", Effect.AT_ONCE
        ),
    ] = False


class EngineKeys(KeyGroup):
    TITLE: ClassVar[str] = "Folders, devices, engine"

    cache_home: Annotated[
        Text,
        KeyDoc(
            "The models folder, or a folder above it: the first folder found that contains both compvis and clip is "
            "used, otherwise this folder. The environment variable AIWORKER_CACHE_HOME overrides it.",
            Effect.RESTART,
            aliases=("models_folder_parent",),
            allowed="a path",
        ),
    ] = "./"
    extra_stable_diffusion_models_folders: Annotated[
        TextList,
        KeyDoc("Additional folders with model files; they are only read.", Effect.RESTART, allowed="a list of paths"),
    ] = ()
    devices: Annotated[
        Devices,
        KeyDoc(
            "Which GPUs to use, by number, or cpu. auto uses every GPU, or those listed in the environment variable "
            "CUDA_VISIBLE_DEVICES (for AMD also HIP_VISIBLE_DEVICES and ROCR_VISIBLE_DEVICES).",
            Effect.RESTART,
            allowed="auto, or a list of different GPU numbers and cpu",
        ),
    ] = "auto"
    device_settings: Annotated[
        DeviceEntries,
        KeyDoc(
            "Different values for single devices: entries with device (a number, or cpu) and any of max_threads, "
            "max_power, memory_mode (normal, high or very_high) and models (names; only these are rendered there).",
            Effect.RESTART,
            allowed="a list of entries with device and any of max_threads, max_power, memory_mode, models",
        ),
    ] = ()
    comfyui_path: Annotated[
        Location | None,
        KeyDoc("Your own ComfyUI, used instead of the one installed with the worker.", Effect.ENGINE_START),
    ] = None
    comfyui_python: Annotated[
        Location | None,
        KeyDoc("The Python that runs ComfyUI, if it is not the one installed with the worker.", Effect.ENGINE_START),
    ] = None
    workflows_dir: Annotated[
        Location | None,
        KeyDoc(
            "A folder with your own workflow templates; they replace built-in ones of the same name.", Effect.RESTART
        ),
    ] = None
    approved_node_classes: Annotated[
        TextList,
        KeyDoc(
            "Node classes that your templates may use in addition to those of the built-in templates. Nodes run code: "
            "list only what you trust.",
            Effect.RESTART,
            allowed="a list of ComfyUI node class names",
        ),
    ] = ()


class TimeoutKeys(KeyGroup):
    TITLE: ClassVar[str] = "Time-outs and recovery"

    preload_timeout: Annotated[
        int,
        Ge(15),
        KeyDoc(
            "Least time without a sign of life while an engine loads a model, in seconds; four times as long for the "
            "first load.",
            Effect.AT_ONCE,
        ),
    ] = 80
    download_timeout: Annotated[
        int,
        Ge(1),
        KeyDoc("Time limit for fetching the LoRAs and textual inversions of a job, in seconds.", Effect.AT_ONCE),
    ] = 121
    post_process_timeout: Annotated[
        int,
        Ge(15),
        KeyDoc(
            "Least time without a sign of life in post-processing, in seconds, plus 3 for each image of max_batch.",
            Effect.AT_ONCE,
        ),
    ] = 60
    inference_step_timeout: Annotated[
        int,
        Ge(15),
        Le(3600),
        KeyDoc("Least time for one sampling step, in seconds, before the engine is considered stuck.", Effect.AT_ONCE),
    ] = 15
    process_timeout: Annotated[
        int,
        Ge(1),
        KeyDoc(
            "Time without a sign of life during the first load of a model, in seconds, if longer than four times "
            "preload_timeout. If not set, high_performance_mode makes it 100 and moderate_performance_mode 150.",
            Effect.AT_ONCE,
        ),
    ] = 300
    exit_on_unhandled_faults: Annotated[
        bool,
        KeyDoc(
            "Ends the worker with an error after 3 faulted jobs in a row, when the other jobs are done; otherwise it "
            "pauses for 3 minutes.",
            Effect.AT_ONCE,
        ),
    ] = False
    remove_maintenance_on_init: Annotated[
        bool, KeyDoc("Ends the worker's maintenance mode when it starts.", Effect.RESTART)
    ] = False
    maintenance_when_broken_minutes: Annotated[
        int,
        Ge(0),
        Le(1440),
        KeyDoc(
            "Minutes without a running engine after which the worker enters maintenance mode, until an engine runs "
            "again; 0 is never.",
            Effect.AT_ONCE,
        ),
    ] = 0


class OutputKeys(KeyGroup):
    TITLE: ClassVar[str] = "Output"

    stats_output_frequency: Annotated[
        int, Ge(0), KeyDoc("Seconds between two status blocks in the terminal; 0 shows none.", Effect.AT_ONCE)
    ] = 30
    limited_console_messages: Annotated[
        bool,
        KeyDoc(
            "Shows only delivered jobs, status and kudos in the terminal; the log file has everything.", Effect.RESTART
        ),
    ] = False
    suppress_speed_warnings: Annotated[
        bool, KeyDoc("Hides the warnings about slow jobs and about long times without any.", Effect.AT_ONCE)
    ] = False
    minutes_allowed_without_jobs: Annotated[
        int, Ge(0), Le(3599), KeyDoc("Minutes without a job after which a warning is shown.", Effect.AT_ONCE)
    ] = 30

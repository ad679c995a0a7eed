"""The keys that say how the machine is used: pace, memory, devices, folders, time-outs, output."""

from typing import Annotated, ClassVar

from annotated_types import Ge, Le

from worker.config.key import About, DeviceEntries, Devices, Effect, Keys, Location, Text, TextList


class PaceKeys(Keys):
    TITLE: ClassVar[str] = "Performance"

    max_threads: Annotated[
        int,
        Ge(1),
        Le(16),
        About("Jobs that run at the same time on each device. More than 1 helps only on large cards.", Effect.RESTART),
    ] = 1
    queue_size: Annotated[
        int, Ge(0), Le(4), About("Jobs fetched ahead, so that the device never waits for the Horde.", Effect.AT_ONCE)
    ] = 1
    max_batch: Annotated[
        int, Ge(1), Le(20), About("Images of one request that are taken as one job.", Effect.AT_ONCE)
    ] = 1
    safety_on_gpu: Annotated[
        bool, About("Checks images on the GPU: faster, for about 1.2 GB of its memory.", Effect.ENGINE_START)
    ] = False
    high_performance_mode: Annotated[
        bool, About("For fast cards (RTX 4080 and up): holds more work ready and waits less.", Effect.AT_ONCE)
    ] = False
    moderate_performance_mode: Annotated[
        bool,
        About("The same, milder, for cards such as an RTX 3080. Without effect beside the high mode.", Effect.AT_ONCE),
    ] = False
    post_process_job_overlap: Annotated[
        bool,
        About(
            "Begins the next job while upscaling or face repair of the last goes on: one more engine on each device, "
            "where allow_post_processing is on and the RAM has room for its model.",
            Effect.RESTART,
        ),
    ] = False
    unload_models_from_vram_often: Annotated[
        bool,
        About(
            "Clears models out of GPU memory between jobs. Turn it off with memory to spare.",
            Effect.ENGINE_START,
        ),
    ] = True
    high_memory_mode: Annotated[
        bool, About("Keeps models in memory: for 20 GB of GPU memory and 32 GB of RAM or more.", Effect.ENGINE_START)
    ] = False
    very_high_memory_mode: Annotated[
        bool, About("Keeps everything on the GPU; implies high_memory_mode. For 40 GB or more.", Effect.ENGINE_START)
    ] = False
    model_stickiness: Annotated[
        float,
        Ge(0),
        Le(1),
        About(
            "How often only models that are already in memory are offered: 0 never, 1 always.",
            Effect.AT_ONCE,
            aliases=("horde_model_stickiness",),
        ),
    ] = 0.0
    cycle_process_on_model_change: Annotated[
        bool,
        About("Starts a fresh engine for each change of model. Slow; a last resort against leaks.", Effect.AT_ONCE),
    ] = False


class EngineKeys(Keys):
    TITLE: ClassVar[str] = "Folders, devices, engine"

    cache_home: Annotated[
        Text,
        About(
            "The models folder, or one above it: the first folder found below that holds both compvis and clip is "
            "used, else this folder itself. AIWORKER_CACHE_HOME in the environment goes before it.",
            Effect.RESTART,
            aliases=("models_folder_parent",),
            allowed="a path",
        ),
    ] = "./"
    extra_stable_diffusion_models_folders: Annotated[
        TextList,
        About("Further folders with model files, which are only read.", Effect.RESTART, allowed="a list of paths"),
    ] = ()
    devices: Annotated[
        Devices,
        About(
            "Which GPUs to use, by number, or cpu. auto takes every GPU there is, or those that "
            "CUDA_VISIBLE_DEVICES (for AMD also HIP_VISIBLE_DEVICES, ROCR_VISIBLE_DEVICES) in the environment names.",
            Effect.RESTART,
            allowed="auto, or a list of different GPU numbers and cpu",
        ),
    ] = "auto"
    device_settings: Annotated[
        DeviceEntries,
        About(
            "What is to be different on single devices: entries with device (a number, or cpu) and any of max_threads, "
            "max_power, memory_mode (normal, high or very_high) and models (names; only these are rendered there).",
            Effect.RESTART,
            allowed="a list of entries with device and any of max_threads, max_power, memory_mode, models",
        ),
    ] = ()
    comfyui_path: Annotated[
        Location | None,
        About("A ComfyUI of your own to use in place of the one that comes with the worker.", Effect.ENGINE_START),
    ] = None
    comfyui_python: Annotated[
        Location | None, About("The Python that runs ComfyUI, where it is not the worker's own.", Effect.ENGINE_START)
    ] = None
    workflows_dir: Annotated[
        Location | None,
        About("A folder with workflow templates of your own; they go before ours of the same name.", Effect.RESTART),
    ] = None
    approved_node_classes: Annotated[
        TextList,
        About(
            "Node classes that your templates may use beyond the ones ours use. Nodes run code: list only what you "
            "know.",
            Effect.RESTART,
            allowed="a list of ComfyUI node class names",
        ),
    ] = ()


class TimeoutKeys(Keys):
    TITLE: ClassVar[str] = "Time-outs and recovery"

    preload_timeout: Annotated[
        int,
        Ge(15),
        About(
            "Seconds an engine may say nothing while it loads a model, at least; four times that for the first load.",
            Effect.AT_ONCE,
        ),
    ] = 80
    download_timeout: Annotated[
        int, Ge(1), About("Seconds the LoRAs and other additions of a job may take to arrive.", Effect.AT_ONCE)
    ] = 121
    post_process_timeout: Annotated[
        int,
        Ge(15),
        About("Seconds post-processing may say nothing, at least, plus 3 for each image of max_batch.", Effect.AT_ONCE),
    ] = 60
    inference_step_timeout: Annotated[
        int,
        Ge(15),
        Le(3600),
        About("Seconds one sampling step may take, at least, before the engine counts as stuck.", Effect.AT_ONCE),
    ] = 15
    process_timeout: Annotated[
        int,
        Ge(1),
        About(
            "Seconds an engine may say nothing in the first load of a model, where that is more than four times "
            "preload_timeout. Where it is not set, high_performance_mode makes it 100, moderate_performance_mode 150.",
            Effect.AT_ONCE,
        ),
    ] = 300
    exit_on_unhandled_faults: Annotated[
        bool,
        About(
            "Ends the worker with an error after 3 faulted jobs in a row, once the others are done; else it pauses for "
            "3 minutes.",
            Effect.AT_ONCE,
        ),
    ] = False
    remove_maintenance_on_init: Annotated[
        bool, About("Takes the worker out of maintenance mode when it starts.", Effect.RESTART)
    ] = False
    maintenance_when_broken_minutes: Annotated[
        int,
        Ge(0),
        Le(1440),
        About(
            "Minutes without a running engine after which the worker puts itself into maintenance mode, until one runs "
            "again; 0: never.",
            Effect.AT_ONCE,
        ),
    ] = 0


class OutputKeys(Keys):
    TITLE: ClassVar[str] = "Output"

    stats_output_frequency: Annotated[
        int, Ge(0), About("Seconds between two status blocks in the terminal; 0 shows none.", Effect.AT_ONCE)
    ] = 30
    limited_console_messages: Annotated[
        bool, About("Shows only delivered jobs, status and kudos in the terminal; the logs keep all.", Effect.RESTART)
    ] = False
    suppress_speed_warnings: Annotated[
        bool, About("Hides the warnings about slow jobs and about long times without any.", Effect.AT_ONCE)
    ] = False
    minutes_allowed_without_jobs: Annotated[
        int, Ge(0), Le(3599), About("Minutes without a job after which a warning is shown.", Effect.AT_ONCE)
    ] = 30

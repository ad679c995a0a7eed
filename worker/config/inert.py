"""Keys of other workers and other times: accepted, so that an old file raises no questions, and without effect."""

from typing import Annotated, ClassVar

from annotated_types import Ge, Le

from worker.config.key import About, Effect, Keys, Text, TextList

#: The parts of the alchemist's work, as its workers name them.
ALCHEMIST_FORMS = ("caption", "nsfw", "interrogation", "post-process")


class InertKeys(Keys):
    TITLE: ClassVar[str] = "Accepted without effect"

    very_fast_disk_mode: Annotated[
        bool,
        About("Let several models be read from disk at once; engines here never wait for each other.", Effect.NONE),
    ] = False
    capture_kudos_training_data: Annotated[
        bool,
        About(
            "Wrote the data of each job to a file, to train the model that prices jobs; this worker keeps no requests.",
            Effect.NONE,
        ),
    ] = False
    kudos_training_data_file: Annotated[
        Text | None,
        About("Name of that file.", Effect.NONE, allowed="a file name, or nothing for kudos_training_data.json"),
    ] = None
    worker_name: Annotated[Text, About("Name of a worker that is a dreamer and more.", Effect.NONE)] = ""
    censorlist: Annotated[TextList, About("Words that lead to censoring; use blacklist.", Effect.NONE)] = ()
    dynamic_models: Annotated[bool, About("Served models by demand; use TOP n.", Effect.NONE)] = False
    number_of_dynamic_models: Annotated[int, Ge(0), Le(1000), About("How many of them.", Effect.NONE)] = 1
    max_models_to_download: Annotated[int, Ge(0), Le(1000), About("How many at most were fetched.", Effect.NONE)] = 10
    always_download: Annotated[bool, About("Fetched models without asking.", Effect.NONE)] = True
    temp_dir: Annotated[Text, About("Folder for temporary files.", Effect.NONE)] = "./tmp"
    disable_disk_cache: Annotated[bool, About("Kept models off the disk cache.", Effect.NONE)] = False
    disable_terminal_ui: Annotated[bool, About("Turned a full-screen display off.", Effect.NONE)] = True
    vram_to_leave_free: Annotated[
        Text, About("GPU memory to leave free.", Effect.NONE, allowed="a percentage or megabytes")
    ] = "80%"
    ram_to_leave_free: Annotated[
        Text, About("RAM to leave free.", Effect.NONE, allowed="a percentage or megabytes")
    ] = "80%"
    alchemist_name: Annotated[Text, About("Alchemist: name.", Effect.NONE)] = "An Awesome Alchemist"
    forms: Annotated[TextList, About("Alchemist: kinds of work.", Effect.NONE)] = ALCHEMIST_FORMS
    scribe_name: Annotated[Text, About("Scribe: name.", Effect.NONE)] = "An Awesome Scribe"
    kai_url: Annotated[Text, About("Scribe: address of KoboldAI.", Effect.NONE)] = "http://localhost:5000"
    max_context_length: Annotated[int, Ge(1), Le(16384), About("Scribe: tokens read.", Effect.NONE)] = 1024
    max_length: Annotated[int, Ge(1), Le(16384), About("Scribe: tokens written.", Effect.NONE)] = 80
    branded_model: Annotated[bool, About("Scribe: says where the model runs.", Effect.NONE)] = True

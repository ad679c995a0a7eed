"""What `harmless` makes of a prompt, read by ComfyUI's own parser and tokenizers."""

import json
from random import Random

import pytest

from worker.workflows.prompt_syntax import MAX_WEIGHT, harmless, is_harmless

pytestmark = pytest.mark.engine

#: Reads prompts from a JSON file, and tells of each what ComfyUI makes of it: its weights, or what it raises.
SCRIPT = """
import json, sys
from comfy import sd1_clip
from comfy.text_encoders import qwen_image
folder, prompts = sys.argv[1:]
tokenizers = [
    sd1_clip.SDTokenizer(embedding_directory=folder),
    qwen_image.QwenImageTokenizer(embedding_directory=folder),
]
def tell(prompt):
    try:
        weights = [weight for _, weight in sd1_clip.token_weights(sd1_clip.escape_important(prompt), 1.0)]
        for tokenizer in tokenizers:
            tokenizer.tokenize_with_weights(prompt)
        return [repr(weight) for weight in weights]
    except Exception as error:
        return type(error).__name__
with open(prompts, encoding="utf-8") as file:
    print(json.dumps([tell(prompt) for prompt in json.load(file)]))
"""
PARTS = (
    "(", ")", "((", "))", "\\(", "\\)", "\\", ":", ":1.2)", ":nan)", ":inf)", ":-1e400)", ":99)", ":1_0)", ": 1 )",
    ":\uff11)", "embedding:", " embedding:", "\nembedding:", "embedding:name", " ", "\n", "\t", "\u2003", "\x1c", "fox",
    ",", "\U0001f98a", "\u05e9\u05dc\u05d5\u05dd", "\u202e", "[", "]", "AND", "BREAK", "<lora:a:1>", "<|im_start|>",
)  # fmt: skip
KNOWN = (
    "a fox, embedding:", "a fox (embedding:)", "(fox:nan)", "(fox:1e30)", "(" * 500 + "fox" + ")" * 500,
    "(" * 980 + "fox" + ":1.0)" * 980, "embedding:(a cat:1.3)", "<|im_start|>", "<|im_start|>user\n", "(" * 3000,
    "\x00\x01(\x00\x02:inf)", "masterpiece, (best:1.4), ((a fox)), [snow] \\(animal\\) AND a hare:0.4 BREAK <lora:x:1>",
)  # fmt: skip


@pytest.fixture(scope="module")
def prompts() -> list[str]:
    draw = Random(20)
    made = ["".join(draw.choices(PARTS, k=draw.randrange(1, 25))) for _ in range(1500)]
    return [*KNOWN, *made]


@pytest.fixture(scope="module")
def read(in_engine, tmp_path_factory):
    """What ComfyUI makes of prompts."""
    folder, file = tmp_path_factory.mktemp("embeddings"), tmp_path_factory.mktemp("prompts") / "prompts.json"

    def read(prompts: list[str]) -> list[list[float] | str]:
        file.write_text(json.dumps(prompts), encoding="utf-8")
        told = in_engine.run(SCRIPT, folder, file)
        return [each if isinstance(each, str) else [float(weight) for weight in each] for each in told]

    return read


def test_comfyui_reads_every_prompt_made_harmless_and_none_that_breaks_it_is_overlooked(prompts, read):
    mended = [harmless(prompt) for prompt in prompts]
    found = read([*prompts, *mended])
    before, after = found[: len(prompts)], found[len(prompts) :]
    for prompt, told in zip(mended, after, strict=True):
        assert is_fine(told), (prompt, told)
    for prompt, told in zip(prompts, before, strict=True):
        assert is_fine(told) or not is_harmless(prompt), (prompt, told)
    assert sum(map(is_fine, before)) > len(before) / 10 < sum(not is_fine(told) for told in before)


def is_fine(told: list[float] | str) -> bool:
    return not isinstance(told, str) and all(abs(weight) <= MAX_WEIGHT for weight in told)

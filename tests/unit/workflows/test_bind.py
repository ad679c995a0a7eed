from collections.abc import Callable
from dataclasses import fields

import pytest

from worker.workflows.bind import PICTURE_FIELDS, PURPOSES, STAND_INS, bound, field_type
from worker.workflows.graph import Input
from worker.workflows.request import LoraFile, RenderRequest, SourceImage

PLACE = Input("1", "x")


@pytest.mark.parametrize(
    ("path", "each", "kind"),
    [
        ("steps", None, int),
        ("cfg", None, float),
        ("prompt", None, str),
        ("hires", None, bool),
        ("control_type", None, str),
        ("model.name", None, str),
        ("model.files.text_encoder_2", None, str),
        ("source.key", None, str),
        ("item.file", "loras", str),
        ("item.model", "loras", float),
        ("item.image.key", "extra_sources", str),
    ],
)
def test_fields_have_their_types(path: str, each: str | None, kind: type) -> None:
    assert field_type(path, each=each) is kind


@pytest.mark.parametrize(
    ("path", "each", "complaint"),
    [
        ("stepz", None, "there is no field stepz"),
        ("model", None, "is a whole ServedModel"),
        ("loras", None, "name one of its fields"),
        ("model.files", None, "name one of its fields"),
        ("model.files.diffusion", None, "after it come checkpoint, unet"),
        ("steps.real", None, "there is no field"),
        ("item.file", None, "only a fragment with `each`"),
        ("item.files", "loras", "there is no field item.files"),
        ("item.file", "prompt", "prompt is no list"),
        ("__class__", None, "there is no field"),
    ],
)
def test_what_is_no_field_is_explained(path: str, each: str | None, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        bound(PLACE, path, each=each)


def test_a_binding_reads_the_request(request_for: Callable[..., RenderRequest]) -> None:
    request = request_for({"clip_skip": 2})
    assert bound(PLACE, "model.files.checkpoint").read(request, None) == "model.safetensors"
    assert bound(PLACE, "model.files.unet").read(request, None) is None
    assert bound(PLACE, "source.key").read(request, None) is None
    assert bound(PLACE, "qr.x", via="negate").read(request, None) is None
    negated = bound(PLACE, "clip_skip", via="negate")
    assert (negated.read(request, None), negated.kind, negated.field) == (-2, int, "clip_skip")


def test_a_binding_reads_the_item(request_for: Callable[..., RenderRequest]) -> None:
    assert bound(PLACE, "item.clip", each="loras").read(request_for(), LoraFile("a", clip=0.5)) == 0.5
    assert bound(PLACE, "item.image.key", each="extra_sources").kind is str
    assert SourceImage("k", 1, 1).key == "k"


def test_transforms_are_a_closed_typed_set() -> None:
    with pytest.raises(ValueError, match=r"no transform 'eval'; known are .*negate"):
        bound(PLACE, "steps", via="eval")
    with pytest.raises(ValueError, match="negate takes int, but prompt is str"):
        bound(PLACE, "prompt", via="negate")


def test_the_fields_every_template_accounts_for_exist() -> None:
    names = {field.name for field in fields(RenderRequest)}
    assert {*PICTURE_FIELDS, *STAND_INS, *STAND_INS.values()} <= names
    assert len(set(PURPOSES)) == len(PURPOSES)

"""What `import hearpack` offers: every exported name resolves, and nothing else does."""

from __future__ import annotations

import inspect

import pytest

import hearpack
from models.common.errors import HearpackError


def test_every_exported_name_resolves() -> None:
    assert {"export", "verify", "run", "pull", "inspect", "Bundle", "HearpackError"} <= set(hearpack.__all__)
    for name in hearpack.__all__:
        assert getattr(hearpack, name) is not None
    assert dir(hearpack) == sorted(hearpack.__all__)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hearpack.nothing  # noqa: B018 -- the access itself is tested


def test_functions_of_the_facade_say_what_they_take_and_raise() -> None:
    for name in ("pull", "export", "verify", "run"):
        text = inspect.getdoc(getattr(hearpack, name)) or ""
        assert "Args:" in text
        assert "Returns:" in text


def test_errors_of_the_facade_are_one_tree() -> None:
    with pytest.raises(HearpackError, match="did you mean dtln"):
        hearpack.export("dtn")
    with pytest.raises(HearpackError, match="formats: expected one or more of litert, coreml"):
        hearpack.export("dtln", formats=("onnx",))

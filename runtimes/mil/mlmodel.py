"""`MLModel` with coremltools' shape, on any machine: change the import, keep the code.

    from runtimes.mil import MLModel          # instead of: from coremltools.models import MLModel
    model = MLModel("net.mlpackage")
    model.predict({"audio": samples})["scores"]

What differs from coremltools, on purpose:

- ML Program packages only; a path, not a specification object. Nothing is saved or changed.
- `mode` chooses the number mode (see runtimes.mil); the result is emulated, not Apple's hardware.
- `compute_units` and `optimization_hints` are accepted and ignored: there is one emulated processor, and what they
  choose between (processors, and what those may approximate) does not exist here.
- Errors are hearpack's, and at the same time of the type that coremltools raises (KeyError, TypeError, ...).
- NaN in an input is refused, since it is nearly always a bug upstream; `allow_nan=True` lets it pass, as Core ML does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.errors import ArtefactError
from runtimes.mil.features import (
    FunctionNameError,
    InputNameError,
    InputTypeError,
    PredictionError,
    array_in,
    default_value,
    image_in,
    value_out,
)
from runtimes.mil.graph import function_names, read_function
from runtimes.mil.package import open_package
from runtimes.mil.program import Mode, Program, State, check_mode


class FeatureDescriptions:
    """Names of inputs or outputs, each with its short description."""

    def __init__(self, features: Iterable[Any]) -> None:
        self._texts = {str(f.name): str(f.shortDescription) for f in features}

    def __getitem__(self, name: str) -> str:
        if name not in self._texts:
            raise InputNameError(f"no feature {name!r}; there are: {', '.join(self._texts)}")
        return self._texts[name]

    def __contains__(self, name: object) -> bool:
        return name in self._texts

    def __iter__(self) -> Iterator[str]:
        return iter(self._texts)

    def __len__(self) -> int:
        return len(self._texts)

    def __repr__(self) -> str:
        return f"Features({','.join(self._texts)})"


class MLState:
    """The states of one stream; `MLModel.make_state` makes it.

    Args:
        program: whose states.
    """

    def __init__(self, program: Program) -> None:
        self.program, self.values = program, program.make_state()

    def _check(self, name: str) -> None:
        names = [p.name for p in self.program.states]
        if name not in names:
            raise PredictionError(f"no state {name!r}; there are: {', '.join(names)}")

    def read_state(self, name: str) -> NDArray[Any]:
        """A copy of a state; halves come as float32."""
        self._check(name)
        return self.values.read(name)

    def write_state(self, name: str, value: NDArray[Any]) -> None:
        """Set a state.

        Raises:
            PredictionError: no such state, or a value of another shape.
        """
        self._check(name)
        self.program.write_state(self.values, name, np.asarray(value))


class MLModel:
    """An ML Program package, ready to predict.

    Args:
        model: path of the .mlpackage.
        skip_model_load: only read the description; `predict` is then refused.
        compute_units: ignored, see the module.
        function_name: function of a multi-function package; None takes its default.
        optimization_hints: ignored, see the module.
        mode: number mode, "fp32" or "fp16".
        allow_nan: let NaN in inputs pass.

    Raises:
        ArtefactError: not an ML Program package, or one that cannot be run.
        FunctionNameError: no such function.
        InputTypeError: `model` is not a path.
        MissingDependencyError: coremltools or torch is not installed.
        UsageError: unknown mode.
    """

    def __init__(
        self,
        model: str | Path,
        *,
        skip_model_load: bool = False,
        compute_units: Any = None,
        function_name: str | None = None,
        optimization_hints: dict[str, Any] | None = None,
        mode: Mode = "fp32",
        allow_nan: bool = False,
    ) -> None:
        if not isinstance(model, (str, Path)):
            raise InputTypeError(
                f"expected the path of an .mlpackage, got {type(model).__name__}; save the model first"
            )
        check_mode(mode)
        package = open_package(model)
        names = function_names(package)
        if function_name is not None and function_name not in names:
            raise FunctionNameError(
                f"{package.root.name} has no function {function_name!r}; it has: {', '.join(names)}"
            )
        self.compute_unit, self.optimization_hints = compute_units, optimization_hints
        self.mode, self._allow_nan = mode, allow_nan
        self._spec, self._path = package.spec, package.root
        whole = package.spec.description
        self.function_name: str | None = function_name or whole.defaultFunctionName or None
        wanted = [f for f in whole.functions if f.name == self.function_name]
        described = wanted[0] if wanted else whole
        self._inputs = {str(f.name): f for f in described.input}
        self._outputs = {str(f.name): f for f in described.output}
        self._program = None if skip_model_load else Program(read_function(package, self.function_name), mode)
        if self._program is not None:
            self._check_description(self._program)

    def _check_description(self, program: Program) -> None:
        for which, ports, features in (
            ("input", program.inputs, self._inputs),
            ("output", program.outputs, self._outputs),
        ):
            missing = [p.name for p in ports if p.name not in features]
            if missing or len(ports) != len(features):
                raise ArtefactError(
                    f"{self._path.name}: the description's {which}s ({', '.join(features)}) "
                    f"are not the program's ({', '.join(p.name for p in ports)}); export it again"
                )

    @property
    def short_description(self) -> str:
        return str(self._spec.description.metadata.shortDescription)

    @property
    def author(self) -> str:
        return str(self._spec.description.metadata.author)

    @property
    def license(self) -> str:
        return str(self._spec.description.metadata.license)

    @property
    def version(self) -> str:
        return str(self._spec.description.metadata.versionString)

    @property
    def user_defined_metadata(self) -> dict[str, str]:
        return {str(k): str(v) for k, v in self._spec.description.metadata.userDefined.items()}

    @property
    def input_description(self) -> FeatureDescriptions:
        return FeatureDescriptions(self._inputs.values())

    @property
    def output_description(self) -> FeatureDescriptions:
        return FeatureDescriptions(self._outputs.values())

    @property
    def input_features(self) -> tuple[Any, ...]:
        """The inputs' FeatureDescription messages; an addition to coremltools' shape."""
        return tuple(self._inputs.values())

    @property
    def is_stateful(self) -> bool:
        """Whether `predict` needs a state; an addition to coremltools' shape."""
        return bool(self._loaded().states)

    def get_spec(self) -> Any:
        """A copy of the specification, coremltools' Model message."""
        return deepcopy(self._spec)

    def __repr__(self) -> str:
        return (
            f"MLModel({str(self._path)!r}, mode={self.mode!r}): {self.input_description} -> {self.output_description}"
        )

    def _loaded(self) -> Program:
        if self._program is None:
            raise PredictionError(f"{self._path.name} was opened with skip_model_load=True; open it without to predict")
        return self._program

    def make_state(self) -> MLState:
        """Zeroed states for a new stream.

        Raises:
            PredictionError: the model keeps no state.
        """
        program = self._loaded()
        if not program.states:
            raise PredictionError(f"{self._path.name} keeps no state; call predict without one")
        return MLState(program)

    def predict(self, data: Any, state: MLState | None = None) -> Any:
        """Predictions for one dict of inputs, or for each of a list of them.

        Args:
            data: values by input name: arrays, tensors, lists, numbers; PIL images for image inputs.
            state: what `make_state` gave, changed by the call; needed by stateful models, not for lists.

        Returns:
            a dict by output name, or a list of them: arrays (halves as float32, scalars as one element), PIL images,
            a classifier's label, and its probabilities as a dict.

        Raises:
            InputNameError: an input is missing or unknown.
            InputTypeError: a value is of the wrong type.
            InputValueError: a value has the wrong shape, or holds NaN.
            PredictionError: the state does not belong here, or the program failed on these values.
        """
        if isinstance(data, list) and all(isinstance(d, dict) for d in data):
            if state is not None:
                raise PredictionError("a state goes with one dict of inputs, not with a list of them")
            return [self._predict(d, None) for d in data]
        if not isinstance(data, dict):
            raise InputTypeError(f"expected a dict of inputs or a list of such dicts, got {type(data).__name__}")
        return self._predict(data, state)

    def _predict(self, data: dict[str, Any], state: MLState | None) -> dict[str, Any]:
        program = self._loaded()
        unknown = [n for n in data if n not in self._inputs]
        if unknown:
            raise InputNameError(f"no input {unknown[0]!r}; the model's inputs are: {', '.join(self._inputs)}")
        inputs: dict[str, NDArray[Any]] = {}
        for port in program.inputs:
            feature = self._inputs[port.name]
            value = data[port.name] if port.name in data else default_value(port, feature)
            if value is None:
                raise InputNameError(
                    f"input {port.name!r} is missing; the model's inputs are: {', '.join(self._inputs)}"
                )
            if feature.type.WhichOneof("Type") == "imageType":
                inputs[port.name] = image_in(port, feature, value)
            else:
                inputs[port.name] = array_in(port, feature, value, self._allow_nan)
        results = self._run(program, inputs, self._values(program, state))
        return {name: value_out(self._outputs[name], value) for name, value in results.items()}

    @staticmethod
    def _values(program: Program, state: MLState | None) -> State | None:
        if not program.states:
            return None
        if state is None:
            raise PredictionError("the model is stateful; pass predict(data, state=model.make_state())")
        if not isinstance(state, MLState) or state.program is not program:
            raise PredictionError("the state was made by another model; use this model's make_state()")
        return state.values

    @staticmethod
    def _run(program: Program, inputs: dict[str, NDArray[Any]], values: State | None) -> dict[str, Any]:
        try:
            return program.run(inputs, values)
        except ArtefactError as exc:
            raise PredictionError(str(exc)) from exc

"""`MLModel` with coremltools' shape, on any machine: change the import, keep the code.

    from hearpack.coreml import MLModel       # instead of: from coremltools.models import MLModel
    model = MLModel("net.mlpackage")
    model.predict({"audio": samples})["scores"]

docs/core-ml-model.md says what is the same, what differs on purpose (number modes, NaN, undefined behaviour) and what
is missing.
"""

from __future__ import annotations

import shutil
import time
import weakref
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.common.errors import ArtefactError, UsageError
from models.common.files import atomic_folder
from runtimes.mil.deps import require_model_proto
from runtimes.mil.features import (
    FunctionNameError,
    InputNameError,
    InputTypeError,
    PredictionError,
    array_in,
    check_feature,
    default_value,
    image_in,
    value_out,
)
from runtimes.mil.graph import function_names, read_function
from runtimes.mil.package import Package, of_specification, open_package, write_package
from runtimes.mil.program import Mode, Program, State, check_mode

SUFFIX = ".mlpackage"


class FeatureDescriptions:
    """Names of inputs or outputs, each with its short description; setting one changes the specification."""

    def __init__(self, features: dict[str, Any]) -> None:
        self._features = features

    def _feature(self, name: str) -> Any:
        if name not in self._features:
            raise InputNameError(f"no feature {name!r}; there are: {', '.join(self._features)}")
        return self._features[name]

    def __getitem__(self, name: str) -> str:
        return str(self._feature(name).shortDescription)

    def __setitem__(self, name: str, text: str) -> None:
        self._feature(name).shortDescription = text

    def __contains__(self, name: object) -> bool:
        return name in self._features

    def __iter__(self) -> Iterator[str]:
        return iter(self._features)

    def __len__(self) -> int:
        return len(self._features)

    def __repr__(self) -> str:
        return f"Features({','.join(self._features)})"


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
        try:
            self.program.write_state(self.values, name, np.asarray(value))
        except ArtefactError as exc:
            raise PredictionError(f"state {name!r}: {exc}") from exc


def _package_of(model: Any, weights_dir: str | Path | None) -> Package:
    if isinstance(model, (str, Path)):
        return open_package(Path(model).expanduser())
    if isinstance(model, require_model_proto().Model):
        return of_specification(deepcopy(model), weights_dir)
    if hasattr(model, "get_spec") and hasattr(model, "weights_dir"):  # an MLModel, coremltools' or this one
        return of_specification(model.get_spec(), weights_dir or model.weights_dir)
    raise InputTypeError(
        f"expected the path of an .mlpackage, a specification or an MLModel, got {type(model).__name__}"
    )


class MLModel:
    """An ML Program package, ready to predict.

    Args:
        model: path of the .mlpackage; or a specification (Model message) with `weights_dir`; or coremltools' MLModel.
        is_temp_package: delete the package when the model is no longer used.
        mil_program: ignored; coremltools keeps its converter's program there.
        skip_model_load: only read the description; `predict` is then refused.
        compute_units: ignored: there is one emulated processor.
        weights_dir: folder of the weights files of a specification.
        function_name: function of a multi-function package; None takes its default.
        optimization_hints: ignored, as compute_units.
        mode: number mode, "fp32" or "fp16", see runtimes.mil.
        allow_nan: let NaN in inputs pass.
        strict: stop at what Core ML does not define, instead of a warning; see runtimes.mil.
        threads: torch threads during a call; None leaves the process's own setting.

    Raises:
        ArtefactError: not an ML Program package, or one that cannot be run.
        FunctionNameError: no such function.
        InputTypeError: `model` is nothing of these.
        MissingDependencyError: coremltools or torch is not installed.
        UsageError: unknown mode, or no threads.
    """

    def __init__(
        self,
        model: Any,
        is_temp_package: bool = False,
        mil_program: Any = None,
        skip_model_load: bool = False,
        compute_units: Any = None,
        weights_dir: str | Path | None = None,
        function_name: str | None = None,
        optimization_hints: dict[str, Any] | None = None,
        *,
        mode: Mode = "fp32",
        allow_nan: bool = False,
        strict: bool = False,
        threads: int | None = 1,
    ) -> None:
        check_mode(mode)
        if threads is not None and threads < 1:
            raise UsageError(f"threads must be at least 1, got {threads}")
        start = time.perf_counter_ns()
        package = _package_of(model, weights_dir)
        names = function_names(package)
        self._name = package.root.name
        if function_name is not None and function_name not in names:
            raise FunctionNameError(f"{self._name} has no function {function_name!r}; it has: {', '.join(names)}")
        self.compute_unit, self.optimization_hints = compute_units, optimization_hints
        self.mode, self._allow_nan, self._threads = mode, allow_nan, threads
        self._package, self._spec, self._mil_program = package, package.spec, mil_program
        self.is_package, self.is_temp_package = True, is_temp_package and package.weights is None
        self.package_path = str(package.root) if package.weights is None else None
        whole = package.spec.description
        self.function_name: str | None = function_name or whole.defaultFunctionName or None
        wanted = [f for f in whole.functions if f.name == self.function_name]
        described = wanted[0] if wanted else whole
        self._inputs = {str(f.name): f for f in described.input}
        self._outputs = {str(f.name): f for f in described.output}
        for feature in (*described.input, *described.output):
            check_feature(feature)
        self._program = None
        if not skip_model_load:
            self._program = Program(read_function(package, self.function_name), mode, strict, threads)
            self._check_description(self._program)
        self._load_ns = time.perf_counter_ns() - start
        self._predict_ns: int | None = None
        if self.is_temp_package:
            weakref.finalize(self, shutil.rmtree, package.root, ignore_errors=True)

    def _check_description(self, program: Program) -> None:
        for which, ports, features in (
            ("input", program.inputs, self._inputs),
            ("output", program.outputs, self._outputs),
        ):
            missing = [p.name for p in ports if p.name not in features]
            if missing or len(ports) != len(features):
                raise ArtefactError(
                    f"{self._name}: the description's {which}s ({', '.join(features)}) "
                    f"are not the program's ({', '.join(p.name for p in ports)}); export it again"
                )

    @property
    def short_description(self) -> str:
        return str(self._spec.description.metadata.shortDescription)

    @short_description.setter
    def short_description(self, text: str) -> None:
        self._spec.description.metadata.shortDescription = text

    @property
    def author(self) -> str:
        return str(self._spec.description.metadata.author)

    @author.setter
    def author(self, text: str) -> None:
        self._spec.description.metadata.author = text

    @property
    def license(self) -> str:
        return str(self._spec.description.metadata.license)

    @license.setter  # noqa: A003  coremltools' name
    def license(self, text: str) -> None:
        self._spec.description.metadata.license = text

    @property
    def version(self) -> str:
        return str(self._spec.description.metadata.versionString)

    @version.setter
    def version(self, text: str) -> None:
        self._spec.description.metadata.versionString = text

    @property
    def user_defined_metadata(self) -> Any:
        """The specification's own map of texts; what is set here is saved."""
        return self._spec.description.metadata.userDefined

    @property
    def input_description(self) -> FeatureDescriptions:
        return FeatureDescriptions(self._inputs)

    @property
    def output_description(self) -> FeatureDescriptions:
        return FeatureDescriptions(self._outputs)

    @property
    def weights_dir(self) -> str | None:
        """The folder of the weights files; None where the package has none."""
        folder = self._package.weights_folder
        return None if folder is None else str(folder)

    @property
    def input_features(self) -> tuple[Any, ...]:
        """The inputs' FeatureDescription messages; an addition to coremltools' shape."""
        return tuple(self._inputs.values())

    @property
    def is_stateful(self) -> bool:
        """Whether `predict` needs a state; an addition to coremltools' shape."""
        return bool(self._loaded().states)

    @property
    def load_duration_in_nano_seconds(self) -> int | None:
        """What opening took; None with skip_model_load."""
        return None if self._program is None else self._load_ns

    @property
    def last_predict_duration_in_nano_seconds(self) -> int | None:
        """What the last `predict` took; None before the first."""
        return self._predict_ns

    def get_spec(self) -> Any:
        """A copy of the specification, coremltools' Model message."""
        return deepcopy(self._spec)

    def get_compiled_model_path(self) -> str:
        """The package itself: nothing is compiled here.

        Raises:
            PredictionError: the model was opened from a specification, so there is no package.
        """
        if self.package_path is None:
            raise PredictionError("nothing is compiled here, and a specification in memory has no package; save it")
        return self.package_path

    def save(self, save_path: str | Path) -> None:
        """Write the package, with what was set in its description; an existing one is replaced.

        Args:
            save_path: a folder name with the suffix .mlpackage, or without any.

        Raises:
            OutputError: it cannot be written.
            UsageError: another suffix.
        """
        target = Path(save_path).expanduser()
        if not target.suffix:
            target = target.with_suffix(SUFFIX)
        if target.suffix != SUFFIX:
            raise UsageError(f"{target}: an ML Program is saved as {SUFFIX}, not {target.suffix}")
        with atomic_folder(target) as folder:
            write_package(folder, self._package)

    def __repr__(self) -> str:
        return (
            f"MLModel({str(self._package.root)!r}, mode={self.mode!r}): "
            f"{self.input_description} -> {self.output_description}"
        )

    def _loaded(self) -> Program:
        if self._program is None:
            raise PredictionError(f"{self._name} was opened with skip_model_load=True; open it without to predict")
        return self._program

    def make_state(self) -> MLState:
        """Zeroed states for a new stream.

        Raises:
            PredictionError: the model keeps no state.
        """
        program = self._loaded()
        if not program.states:
            raise PredictionError(f"{self._name} keeps no state; call predict without one")
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
        start = time.perf_counter_ns()
        if isinstance(data, list) and all(isinstance(d, dict) for d in data):
            if state is not None:
                raise PredictionError("a state goes with one dict of inputs, not with a list of them")
            results: Any = [self._predict(d, None) for d in data]
        elif isinstance(data, dict):
            results = self._predict(data, state)
        else:
            raise InputTypeError(f"expected a dict of inputs or a list of such dicts, got {type(data).__name__}")
        self._predict_ns = time.perf_counter_ns() - start
        return results

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
        values = self._values(program, state)
        try:
            results = program.run(inputs, values)
        except ArtefactError as exc:
            raise PredictionError(str(exc)) from exc
        return {name: value_out(self._outputs[name], value) for name, value in results.items()}

    @staticmethod
    def _values(program: Program, state: MLState | None) -> State | None:
        if not program.states:
            if state is not None:
                raise PredictionError("the model keeps no state; call predict without one")
            return None
        if state is None:
            raise PredictionError("the model is stateful; pass predict(data, state=model.make_state())")
        if not isinstance(state, MLState) or state.program is not program:
            raise PredictionError("the state was made by another model; use this model's make_state()")
        return state.values

"""Apple's Core AI interpreter behind hearpack's runtime protocol."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import numpy as np

from models.common.errors import ArtefactError, first_line
from models.geometry import GraphSignature
from runtimes import trial
from runtimes.coreai.asset import open_asset
from runtimes.coreai.deps import refuse_missing, require_coreai, settle_at_exit
from runtimes.native_output import quiet
from runtimes.protocol import Array, OpenedRuntime, Outputs, RuntimeInfo, State, check_call, handed_on

FUNCTION = "main"
_PURPOSE = "running an .aimodel"
_CHILD = "from runtimes.coreai.trial_process import main; main()"


class CoreAIRuntime(OpenedRuntime):
    """Runs an .aimodel with explicit state in Apple's interpreter (on macOS 27 in Core AI itself).

    The library is asynchronous. One thread of its own keeps the event loop, so a caller may have a loop too.

    Args:
        path: the .aimodel folder.
        signature: names and shapes of a call; the asset must match it.
        tried: the asset is this machine's own: no process of its own tries it first (runtimes/trial.py).

    Raises:
        ArtefactError: the asset is damaged, of another version, or not of this signature; or no such packages exist for
            this machine.
        MissingDependencyError: coreai-core is not installed.
    """

    def __init__(self, path: Path | str, signature: GraphSignature, tried: bool = False) -> None:
        asset = open_asset(path)
        refuse_missing(_PURPOSE)
        if not tried:
            request = {**trial.plain(signature), "path": str(asset.path.resolve())}
            trial.ask_child(
                "Core AI", _CHILD, json.dumps(request).encode(), asset.program_bytes, asset.key, str(asset.path)
            )
        self._wrap: Callable[[Array], Any] = require_coreai("coreai.runtime", _PURPOSE).NDArray
        authoring = require_coreai("coreai.authoring", _PURPOSE)
        settle_at_exit()
        self._thread: ThreadPoolExecutor | None = ThreadPoolExecutor(1, thread_name_prefix="coreai")
        self._loop = asyncio.Runner()
        self._stack = AsyncExitStack()
        self._carried: tuple[State, Mapping[str, Any]] = ({}, {})
        try:
            with quiet():
                self._function: Any = self._run(self._load(authoring.AIModelAsset, asset.path))
            _check_ports(self._function.desc, signature, asset.path.name)
        except ArtefactError:
            self.close()
            raise
        except Exception as exc:  # the library documents no exception types; this is the one seam
            self.close()
            raise ArtefactError(f"Core AI cannot load {path}: {first_line(exc)}; export it again") from exc
        detail = "Apple's interpreter on this CPU, not a phone; experimental"
        super().__init__(signature, RuntimeInfo("coreai", asset.producer, detail))

    async def _load(self, asset_type: Any, path: Path) -> Any:
        model = await self._stack.enter_async_context(asset_type.load(path).executable())
        return model.load_function(FUNCTION)

    def _run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        if self._thread is None:
            coroutine.close()
            raise ArtefactError("the runtime is closed")
        return self._thread.submit(self._loop.run, coroutine).result()

    async def _call(self, inputs: Mapping[str, Any]) -> Any:
        return await self._function(inputs)

    def step(self, block: Array, state: State) -> tuple[Outputs, State]:
        """One call; see runtimes.protocol.Runtime. The states it returns are read-only."""
        check_call(self.signature, block, state)
        known, native = self._carried
        if state is not known:  # the library's own arrays go back in without a copy
            native = {name: self._native(state[name]) for name in self.signature.input_names[1:]}
        try:
            values = self._run(self._call({self.signature.inputs[0].name: self._wrap(block), **native}))
            outputs = {t.name: np.array(values[t.name].numpy(), np.float32) for t in self.signature.outputs}
            native = {s.name: values[s.out_name] for s in self.signature.states}
            states = {name: _read_only(value.numpy()) for name, value in native.items()}
            for name, value in handed_on(self.signature, state).items():
                states[name], native[name] = value, self._native(value)
        except ArtefactError:
            raise
        except Exception as exc:  # as above
            raise ArtefactError(f"Core AI failed: {first_line(exc)}") from exc
        self._carried = (states, native)
        return outputs, states

    def _native(self, array: Array) -> Any:
        return self._wrap(np.ascontiguousarray(array))

    def close(self) -> None:
        """Release the model and the thread; harmless if called twice."""
        if self._thread is None:
            return
        with quiet():
            self._run(self._stack.aclose())
        self._thread.submit(self._loop.close).result()
        self._thread.shutdown()
        self._thread, self._carried = None, ({}, {})


def _read_only(array: Array) -> Array:
    view = array.view()
    view.flags.writeable = False
    return view


def _check_ports(description: Any, signature: GraphSignature, asset: str) -> None:
    """Compare the asset's function with what will be asked of it."""
    if description.state_names:
        raise ArtefactError(f"{asset} keeps states inside ({description.state_names[0]}); expected states as inputs")
    wanted_in = {**{t.name: t.shape for t in signature.inputs}, **{s.name: s.shape for s in signature.states}}
    wanted_out = {**{t.name: t.shape for t in signature.outputs}, **{s.out_name: s.shape for s in signature.states}}
    sides = (
        ("input", wanted_in, description.input_names, description.input_descriptor),
        ("output", wanted_out, description.output_names, description.output_descriptor),
    )
    for side, wanted, names, describe in sides:
        if set(names) != set(wanted):
            raise ArtefactError(f"{asset}: expected the {side}s {', '.join(wanted)}; it has {', '.join(names)}")
        for name, shape in wanted.items():
            port = describe(name)
            if tuple(port.shape) != shape or port.dtype != "float32":
                raise ArtefactError(
                    f"{asset}: {side} {name!r} should be float32 {list(shape)}; it is {port.dtype} {list(port.shape)}"
                )

"""Core ML anywhere: runs an ML Program .mlpackage with torch on any machine, no macOS needed.

Number modes (the one place that defines them)
    fp32    The stored weights as they are (halves widened exactly), every operation in float32, and a
            value that the program types as fp16 is *not* rounded. It shows what conversion alone changed.
    fp16    As fp32, but every value that the program types as fp16 is rounded to IEEE half once after the
            operation that makes it: round to nearest even, denormals kept, beyond 65,504 (from 65,520 on)
            infinity, NaN stays NaN. What an operation adds up inside (a convolution, a softmax) is added up in
            float32 and rounded once. It shows what half-precision storage changes.

Both are emulated on this machine's CPU. Neither is Apple's hardware: a Neural Engine may accumulate in
another order or width, flush denormals, or fuse operations; only a device can tell.

Undefined behaviour
    Core ML leaves some requests undefined: from iOS 17 on an index that is negative or too large without
    `validate_indices`, a float cast to an integer that cannot hold it, a stack of values whose shapes may differ.
    The evaluator does one documented thing on every machine (ops/indexing.py, ops/elementwise.py), and the first time
    gives an UndefinedWarning with the operation's name; with `strict=True` it stops instead.

How it works: package.py opens the directory, graph.py reads the protobuf into a small graph, compile.py turns
it into a flat list of calls (constants decoded once, attributes and static shapes resolved once, values in
slots, a value released after its last use), ops/ holds one small builder for each operation; mlmodel.py is the
drop-in for coremltools' MLModel.

Importing this package imports neither torch nor coremltools; loading a program does.
"""

from runtimes.mil.graph import UndefinedWarning
from runtimes.mil.mlmodel import MLModel, MLState
from runtimes.mil.program import Mode, Port, Program
from runtimes.mil.runtime import MilRuntime

__all__ = ["MLModel", "MLState", "MilRuntime", "Mode", "Port", "Program", "UndefinedWarning"]

"""How many tensors each builtin operator of a .tflite takes and gives, and which inputs may be left out.

TensorFlow Lite's kernels trust a node's lists: an input that is missing, or left out (-1) where the kernel does not
expect that, is a null pointer that is followed. Source: the Prepare functions of tensorflow/lite/kernels.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass

MANY = 1 << 16
CUSTOM_OP = 32


@dataclass(frozen=True)
class Arity:
    """Tensors of one operator.

    Attributes:
        inputs, outputs: (fewest, most).
        optional: places of inputs that may be -1.
    """

    inputs: tuple[int, int]
    outputs: tuple[int, int]
    optional: frozenset[int] = frozenset()


ANY = Arity((0, MANY), (0, MANY))
# LSTM: input gate (1, 5, 12), peepholes (9 to 11), projection (16, 17) and layer normalisation (20 to 23).
_LSTM = (1, 5, 9, 10, 11, 12, 16, 17, 20, 21, 22, 23)
# The same twice, without normalisation, then the auxiliary input and its eight weights.
_LSTM_BOTH = (1, 5, 9, 10, 11, 12, 16, 17, 18, 22, 26, 27, 28, 29, 33, 34, *range(39, 48))
# "fewest-most inputs > fewest-most outputs": builtin codes, as schema.fbs numbers them.
_CODES: Mapping[str, tuple[int, ...]] = {
    "1>1": (
        *(1, 5, 6, 8, 11, 12, 13, 14, 17, 19, 20, 21, 25, 26, 28, 30, 43, 47, 50, 53, 59, 66, 73, 75, 76, 77, 80, 87),
        *(92, 93, 98, 101, 104, 108, 109, 110, 111, 113, 114, 116, 117, 124, 133, 134, 135, 139, 143, 146, 147, 148),
        *(150, 152, 158, 159, 162, 167, 170, 172, 175, 177, 178, 179, 180, 182, 186, 189, 192, 202, 208),
    ),
    "2>1": (
        *(0, 7, 18, 23, 34, 36, 39, 40, 41, 42, 54, 55, 56, 57, 58, 61, 62, 63, 69, 70, 71, 72, 74, 78, 79, 81, 82),
        *(84, 86, 89, 90, 91, 94, 95, 97, 99, 100, 105, 107, 112, 115, 125, 126, 128, 130, 131, 140, 145, 149, 156),
        *(160, 161, 163, 164, 165, 166, 171, 176, 181, 183, 184, 185, 188, 191, 195, 197, 198, 201, 207),
    ),
    "3>1": (37, 38, 60, 64, 65, 96, 122, 123, 137, 151, 153, 154, 155, 157, 168, 187, 190, 203),
    "4>1": (45, 68, 85),
    "5>1": (24, 33, 35, 205),
    "0>1": (136, 142, 196),
    "1-2>1": (22,),
    "1-65536>1": (2, 83, 106, 169, 193),
    "2-65536>1": (194,),
    "1>2": (103, 204),
    "1>1-65536": (88,),
    "2>1-65536": (49,),
    "3>1-65536": (102,),
    "2>2": (48,),
    "2-3>1": (3, 4, 15, 132),
    "3-4>1": (141,),
    "3>2": (10,),
    "5>2": (120,),
    "6>2": (121,),
    "2>0": (144,),
    "3>0": (138,),
    "0>0": (129,),
    "1-65536>0-65536": (118, 209),
    "2-65536>1-65536": (174,),
    "1-65536>1-65536": (199,),
    "0-65536>0-65536": (29, 31, CUSTOM_OP, 119, 173, 200, 206),
}
_OPTIONAL: Mapping[int, Arity] = {
    9: Arity((2, 3), (1, 2), frozenset({2})),  # FULLY_CONNECTED: bias
    67: Arity((3, 4), (1, 1), frozenset({3})),  # TRANSPOSE_CONV: bias
    27: Arity((5, 5), (1, 1), frozenset({3})),  # SVDF: bias
    16: Arity((5, 24), (1, 4), frozenset(_LSTM)),
    44: Arity((20, 24), (1, 1), frozenset(_LSTM)),
    46: Arity((12, 12), (1, 2), frozenset({9, 10, 11})),  # BIDIRECTIONAL_SEQUENCE_RNN: auxiliary input
    52: Arity((48, 48), (1, 2), frozenset(_LSTM_BOTH)),
}
# Codes that stand in the schema and in no file: DELEGATE, PLACEHOLDER_FOR_GREATER_OP_CODES.
NEVER = frozenset({51, 127})
# Whose result has the shape of the first input, of both broadcast, or as many elements as the first input. XNNPACK
# writes past the end of a result that is declared smaller.
SAME_SHAPE = frozenset(
    (
        *(6, 8, 11, 13, 14, 19, 20, 21, 25, 28, 47, 50, 53, 54, 59, 66, 73, 75, 76, 80, 87, 92, 93, 98, 101, 104, 108),
        *(111, 114, 116, 117, 128, 150, 152, 158),
    )
)
BROADCAST = frozenset((0, 18, 41, 42, 55, 57, 58, 61, 62, 63, 71, 72, 78, 84, 86, 90, 95, 99, 156, 160, 161))
SAME_ELEMENTS = frozenset((22, 39, 43, 70))  # RESHAPE, TRANSPOSE, SQUEEZE, EXPAND_DIMS
# Where an operator's options name subgraphs: (field of the operator, fields of its options).
SUBGRAPHS: Mapping[int, tuple[int, tuple[int, ...]]] = {
    31: (4, (0,)),  # CALL
    118: (4, (0, 1)),  # IF
    119: (4, (0, 1)),  # WHILE
    129: (4, (0,)),  # CALL_ONCE
    174: (12, (1,)),  # STABLEHLO_REDUCE
    190: (12, (6,)),  # STABLEHLO_SCATTER
    198: (12, (5,)),  # STABLEHLO_REDUCE_WINDOW
    199: (12, (2,)),  # STABLEHLO_SORT
    200: (12, (0, 1)),  # STABLEHLO_WHILE
    206: (12, (1,)),  # STABLEHLO_COMPOSITE
}


def _span(text: str) -> tuple[int, int]:
    fewest, _, most = text.partition("-")
    return int(fewest), int(most or fewest)


def _table() -> dict[int, Arity]:
    table = dict(_OPTIONAL)
    for form, codes in _CODES.items():
        inputs, _, outputs = form.partition(">")
        table |= dict.fromkeys(codes, Arity(_span(inputs), _span(outputs)))
    return table


ARITY: Mapping[int, Arity] = _table()


def arity(code: int, inputs: int) -> Arity:
    """What an operator of `inputs` inputs may have; ANY for one that is newer than this table."""
    if code == 16:  # LSTM: the basic kernel, or the full one
        return Arity((5, 5), (4, 4)) if inputs == 5 else Arity((20, 24), (1, 1), ARITY[code].optional)
    return ARITY.get(code, ANY)


@functools.cache
def _names() -> Mapping[int, str]:
    try:
        from ai_edge_litert.schema_py_generated import BuiltinOperator
    except ImportError:
        return {}
    return {value: name for name, value in vars(BuiltinOperator).items() if isinstance(value, int)}


def op_name(code: int, custom: str = "") -> str:
    """The name of an operator code, from LiteRT's schema where that is installed."""
    return f"CUSTOM {custom}" if code == CUSTOM_OP else _names().get(code, f"OP {code}")

"""ONNX's own operators: a row each, in families.

The columns are those of :class:`~.facts.Facts`; what is left out is what is true of most.
"""

from __future__ import annotations

from onnx_ir import DataType

from dsd_ort.rewrite.operators import cuda, stops
from dsd_ort.rewrite.operators.facts import ALL, Does, Facts, Half

MOVES = Does.MOVES
ENTRYWISE = Does.ENTRYWISE
PASSES = Does.PASSES
LAYOUT = Does.LAYOUT
CARRIES = Does.CARRIES
JOINS = Does.JOINS
FLAT = Does.FLAT
RANDOM = Does.RANDOM
SLOW = Does.SLOW
QUICK = Does.QUICK
DISPUTED = Does.DISPUTED
QUANTISES = Does.QUANTISES
QUANTISED = Does.QUANTISED
ACTIVATION = Does.ACTIVATION
IDENTITY_WITHOUT_AXES = Does.IDENTITY_WITHOUT_AXES
THRESHOLD = Does.THRESHOLD
POLE = Does.POLE
AT_0 = Does.POLE | Does.POLE_AT_0
NATURAL = Does.NATURAL
KEEPS = Does.KEEPS_NATURAL
ONE_TENSOR = Does.ONE_TENSOR
NO_DOUBLE = Does.NO_DOUBLE
NO_BFLOAT16 = Does.NO_BFLOAT16
HALF = Half.HALF
FOLLOW = Half.FOLLOW
BACK = Half.BACK
AS_IS = Half.AS_IS
BOOL = DataType.BOOL
INT64 = DataType.INT64

_KERNEL = {1: "kernel", 2: "bias"}
_PRODUCT = {0: "matrix", 1: "matrix"}
_SCALE = {1: "norm", 2: "norm"}
_RECURRENT = {1: "recurrent", 2: "recurrent", 3: "bias"}

STANDARD: dict[str, Facts] = {
    # numbers moved: to another place, picked, repeated, filled up
    "Identity": Facts(MOVES | PASSES, native=1, half=FOLLOW),
    "Reshape": Facts(MOVES | PASSES | LAYOUT, native=1, half=FOLLOW),
    "Squeeze": Facts(MOVES | PASSES | LAYOUT, native=1, half=FOLLOW),
    "Unsqueeze": Facts(MOVES | PASSES | LAYOUT, native=1, half=FOLLOW),
    "Flatten": Facts(MOVES | PASSES, native=1, half=FOLLOW),
    "Transpose": Facts(MOVES | PASSES, native=1, half=FOLLOW),
    "DepthToSpace": Facts(MOVES | CARRIES),
    "SpaceToDepth": Facts(MOVES | CARRIES),
    "Concat": Facts(MOVES | JOINS, native=ALL, half=FOLLOW, unrecordable=cuda.IF_UNEVEN),
    "Split": Facts(MOVES | CARRIES, native=1, every_output=True, half=FOLLOW, unrecordable=cuda.IF_UNEVEN),
    "Slice": Facts(MOVES | LAYOUT | CARRIES, native=1, half=FOLLOW),
    "Gather": Facts(MOVES | CARRIES, weights={0: "embedding"}, native=1, half=FOLLOW),
    "GatherElements": Facts(MOVES, native=1, half=FOLLOW),
    "GatherND": Facts(MOVES, native=1, half=FOLLOW, unrecordable=cuda.COPIES),
    "Expand": Facts(MOVES | LAYOUT | CARRIES, native=1, half=FOLLOW),
    "Tile": Facts(MOVES | LAYOUT | CARRIES, native=1, half=FOLLOW),
    "Pad": Facts(MOVES | LAYOUT | CARRIES | NO_BFLOAT16, native=1, half=FOLLOW),
    "Trilu": Facts(MOVES | CARRIES, native=1),
    "Compress": Facts(MOVES | NO_BFLOAT16, half=FOLLOW, unrecordable=cuda.SIZE),
    "ReverseSequence": Facts(MOVES | NO_BFLOAT16, half=FOLLOW, lengths=1),
    "Unique": Facts(unrecordable=cuda.SIZE),
    "ScatterElements": Facts(native=3, half=FOLLOW, unrepeatable=cuda.IF_IT_REDUCES),
    "ScatterND": Facts(native=3, unrecordable=cuda.COPIES, unrepeatable=cuda.IF_IT_REDUCES),
    "MaxUnpool": Facts(DISPUTED),
    "Col2Im": Facts(DISPUTED),
    # entry by entry
    "Abs": Facts(ENTRYWISE | CARRIES | NO_BFLOAT16 | NATURAL, native=1, half=FOLLOW),
    "Acos": Facts(ENTRYWISE | NO_DOUBLE | POLE),
    "Acosh": Facts(ENTRYWISE | NO_DOUBLE | POLE),
    "Add": Facts(ENTRYWISE | JOINS | KEEPS, native=2, half=FOLLOW),
    "Asin": Facts(ENTRYWISE | NO_DOUBLE | POLE),
    "Asinh": Facts(ENTRYWISE | NO_DOUBLE),
    "Atan": Facts(ENTRYWISE | NO_DOUBLE),
    "Atanh": Facts(ENTRYWISE | NO_DOUBLE | POLE),
    "Cast": Facts(ENTRYWISE | PASSES, native=1, half=AS_IS),
    "CastLike": Facts(CARRIES, numbers=1, like=1),
    "Ceil": Facts(ENTRYWISE | FLAT),
    "Celu": Facts(ENTRYWISE | ACTIVATION),
    "Clip": Facts(ENTRYWISE | CARRIES | THRESHOLD | NO_BFLOAT16, numbers=1, native=1, half=FOLLOW),
    "Cos": Facts(ENTRYWISE | SLOW | NO_DOUBLE, native=1),
    "Cosh": Facts(ENTRYWISE | NO_DOUBLE),
    "Div": Facts(ENTRYWISE | JOINS | AT_0, native=2, half=FOLLOW),
    "Elu": Facts(ENTRYWISE | ACTIVATION),
    "Erf": Facts(ENTRYWISE | NO_DOUBLE, native=1),
    "Exp": Facts(ENTRYWISE | CARRIES | NATURAL, native=1),
    "Floor": Facts(ENTRYWISE | FLAT),
    "HardSigmoid": Facts(ENTRYWISE | ACTIVATION),
    "LeakyRelu": Facts(ENTRYWISE | NO_BFLOAT16 | ACTIVATION, native=1, half=FOLLOW),
    "Log": Facts(ENTRYWISE | SLOW | CARRIES | AT_0, native=1),
    "Max": Facts(ENTRYWISE | THRESHOLD, native=ALL, half=FOLLOW),
    "Mean": Facts(ENTRYWISE | NO_DOUBLE),
    "Min": Facts(ENTRYWISE | THRESHOLD, native=ALL, half=FOLLOW),
    "Mod": Facts(ENTRYWISE | SLOW, numbers=1),
    "Mul": Facts(ENTRYWISE | JOINS | KEEPS, native=2, half=FOLLOW),
    "Neg": Facts(ENTRYWISE | CARRIES, native=1, half=FOLLOW),
    "PRelu": Facts(ENTRYWISE, weights={1: "norm"}),
    "Pow": Facts(ENTRYWISE | SLOW | CARRIES | AT_0, native=1),
    "Reciprocal": Facts(ENTRYWISE | CARRIES | AT_0, native=1),
    "Relu": Facts(ENTRYWISE | ACTIVATION | NATURAL, native=1, half=FOLLOW),
    "Round": Facts(ENTRYWISE | FLAT),
    "Selu": Facts(ENTRYWISE | ACTIVATION),
    "Sigmoid": Facts(ENTRYWISE | CARRIES | ACTIVATION | NATURAL, native=1, half=FOLLOW),
    "Sign": Facts(ENTRYWISE | FLAT),
    "Sin": Facts(ENTRYWISE | SLOW, native=1),
    "Sinh": Facts(ENTRYWISE | NO_DOUBLE),
    "Softplus": Facts(ENTRYWISE | SLOW | CARRIES | ACTIVATION | NATURAL),
    "Softsign": Facts(ENTRYWISE | ACTIVATION),
    "Sqrt": Facts(ENTRYWISE | CARRIES | AT_0 | KEEPS, native=1),
    "Sub": Facts(ENTRYWISE | JOINS, native=2, half=FOLLOW),
    "Sum": Facts(ENTRYWISE | JOINS | KEEPS, half=FOLLOW),
    "Tan": Facts(ENTRYWISE | NO_DOUBLE | POLE),
    "Tanh": Facts(ENTRYWISE | CARRIES | ACTIVATION, native=1, half=FOLLOW),
    "ThresholdedRelu": Facts(ENTRYWISE | ACTIVATION),
    "Where": Facts(ENTRYWISE | SLOW | JOINS, native=3, half=FOLLOW, like=1),
    # entry by entry, true or false, or bits
    "And": Facts(ENTRYWISE, stops=stops.LOGIC, gives=BOOL),
    "BitShift": Facts(ENTRYWISE, stops=stops.BITS),
    "BitwiseAnd": Facts(ENTRYWISE, stops=stops.BITS),
    "BitwiseNot": Facts(ENTRYWISE, stops=stops.BITS),
    "BitwiseOr": Facts(ENTRYWISE, stops=stops.BITS),
    "BitwiseXor": Facts(ENTRYWISE, stops=stops.BITS),
    "Equal": Facts(ENTRYWISE | THRESHOLD | NO_BFLOAT16, stops=stops.LOGIC, half=FOLLOW, gives=BOOL),
    "Greater": Facts(ENTRYWISE | THRESHOLD | NO_BFLOAT16, stops=stops.LOGIC, half=FOLLOW, gives=BOOL),
    "GreaterOrEqual": Facts(ENTRYWISE | THRESHOLD | NO_BFLOAT16, stops=stops.LOGIC, half=FOLLOW, gives=BOOL),
    "IsInf": Facts(ENTRYWISE, stops=stops.LOGIC, gives=BOOL),
    "IsNaN": Facts(ENTRYWISE, stops=stops.LOGIC, gives=BOOL),
    "Less": Facts(ENTRYWISE | THRESHOLD | NO_BFLOAT16, stops=stops.LOGIC, half=FOLLOW, gives=BOOL),
    "LessOrEqual": Facts(ENTRYWISE | THRESHOLD | NO_BFLOAT16, stops=stops.LOGIC, half=FOLLOW, gives=BOOL),
    "Not": Facts(ENTRYWISE, stops=stops.LOGIC, gives=BOOL),
    "Or": Facts(ENTRYWISE, stops=stops.LOGIC, gives=BOOL),
    "Xor": Facts(ENTRYWISE, stops=stops.LOGIC, gives=BOOL),
    # products
    "Conv": Facts(DISPUTED | NO_BFLOAT16 | NO_DOUBLE | KEEPS, weights=_KERNEL, native=3, half=HALF, factors=2),
    "ConvTranspose": Facts(
        DISPUTED | NO_BFLOAT16 | NO_DOUBLE, weights=_KERNEL, half=HALF, factors=2, unrepeatable=cuda.CHOSEN
    ),
    "DeformConv": Facts(weights={1: "kernel", 3: "bias"}),
    "Einsum": Facts(JOINS, weights=dict.fromkeys(range(26), "matrix")),
    "Gemm": Facts(weights=_PRODUCT | {2: "bias"}, native=3, half=HALF, factors=2),
    "MatMul": Facts(JOINS, weights=_PRODUCT, native=2, half=HALF, factors=2, unrecordable=cuda.IF_BROADCAST),
    # sums, extremes and norms over axes
    "AveragePool": Facts(DISPUTED | KEEPS),
    "GlobalAveragePool": Facts(NO_DOUBLE | KEEPS, native=1),
    "GlobalLpPool": Facts(DISPUTED),
    "GlobalMaxPool": Facts(NO_DOUBLE),
    "LpPool": Facts(DISPUTED),
    "MaxPool": Facts(DISPUTED | NO_BFLOAT16, native=1, half=FOLLOW, second=INT64),
    "ReduceL2": Facts(CARRIES, native=1),
    "ReduceLogSumExp": Facts(IDENTITY_WITHOUT_AXES, native=1),
    "ReduceMax": Facts(IDENTITY_WITHOUT_AXES),
    "ReduceMean": Facts(CARRIES | IDENTITY_WITHOUT_AXES | KEEPS, native=1),
    "ReduceMin": Facts(IDENTITY_WITHOUT_AXES),
    "ReduceProd": Facts(NO_DOUBLE | IDENTITY_WITHOUT_AXES),
    "ReduceSum": Facts(CARRIES | IDENTITY_WITHOUT_AXES | KEEPS, native=1),
    "ReduceSumSquare": Facts(CARRIES),
    "Softmax": Facts(CARRIES | NATURAL, native=1),
    "LogSoftmax": Facts(native=1),
    "Hardmax": Facts(FLAT),
    "TopK": Facts(native=1, second=INT64),
    # normalisation
    "BatchNormalization": Facts(weights=_SCALE | {3: "statistic", 4: "statistic"}, half=BACK),
    "LayerNormalization": Facts(QUICK, weights=_SCALE, native=3),
    "SimplifiedLayerNormalization": Facts(weights={1: "norm"}),
    "RMSNormalization": Facts(weights={1: "norm"}),
    "InstanceNormalization": Facts(NO_DOUBLE, weights=_SCALE),
    "GroupNormalization": Facts(weights=_SCALE),
    # recurrent layers
    "GRU": Facts(DISPUTED, weights=_RECURRENT, unrecordable=cuda.COPIES, lengths=4, gates=3),
    "LSTM": Facts(DISPUTED, weights=_RECURRENT | {7: "norm"}, unrecordable=cuda.COPIES, lengths=4, gates=4),
    "RNN": Facts(DISPUTED, weights=_RECURRENT, unrecordable=cuda.COPIES, lengths=4, gates=1),
    # sampling and transforms
    "AffineGrid": Facts(DISPUTED),
    "GridSample": Facts(DISPUTED),
    "MaxRoiPool": Facts(DISPUTED, numbers=1),
    "Resize": Facts(DISPUTED, numbers=1),
    "RoiAlign": Facts(DISPUTED, numbers=1),
    "Upsample": Facts(DISPUTED, numbers=1),
    "DFT": Facts(DISPUTED, numbers=1),
    "STFT": Facts(DISPUTED, numbers=1),
    # losses
    "SoftmaxCrossEntropyLoss": Facts(numbers=1, unrecordable=cuda.IF_NO_MEAN),
    # chance
    "Dropout": Facts(
        RANDOM | QUICK | ONE_TENSOR, numbers=1, native=1, half=FOLLOW, second=BOOL, unrecordable=cuda.IF_IT_DROPS
    ),
    "Bernoulli": Facts(RANDOM | FLAT, unrecordable=cuda.DRAWS),
    "Multinomial": Facts(RANDOM, stops=stops.CHOSEN, unrecordable=cuda.DRAWS),
    "RandomNormal": Facts(RANDOM, stops=stops.DRAWN, unrecordable=cuda.DRAWS),
    "RandomNormalLike": Facts(RANDOM | FLAT, unrecordable=cuda.DRAWS),
    "RandomUniform": Facts(RANDOM, stops=stops.DRAWN, unrecordable=cuda.DRAWS),
    "RandomUniformLike": Facts(RANDOM | FLAT, unrecordable=cuda.DRAWS),
    # positions and sizes
    "ArgMax": Facts(stops=stops.POSITIONS, gives=INT64),
    "ArgMin": Facts(stops=stops.POSITIONS, gives=INT64),
    "NonMaxSuppression": Facts(stops=stops.POSITIONS, unrecordable=cuda.SIZE),
    "NonZero": Facts(stops=stops.POSITIONS, gives=INT64, unrecordable=cuda.SIZE),
    "Shape": Facts(stops=stops.SIZES, half=AS_IS, gives=INT64),
    "Size": Facts(stops=stops.SIZES, half=AS_IS, gives=INT64),
    # made of nothing but numbers in the file, or a shape
    "Constant": Facts(stops=stops.MADE),
    "ConstantOfShape": Facts(stops=stops.MADE),
    "EyeLike": Facts(FLAT),
    "OneHot": Facts(numbers=0, like=2),
    "BlackmanWindow": Facts(stops=stops.MADE),
    "HammingWindow": Facts(stops=stops.MADE),
    "HannWindow": Facts(stops=stops.MADE),
    "MelWeightMatrix": Facts(stops=stops.MADE),
    # graphs inside
    "If": Facts(stops=stops.CONDITION, unrecordable=cuda.BODY),
    "Loop": Facts(stops=stops.LOOP, unrecordable=cuda.BODY),
    "Scan": Facts(stops=stops.BODY, unrecordable=cuda.BODY),
    "SequenceMap": Facts(stops=stops.MAP),
    # sequences, optional values, text, pictures
    "ConcatFromSequence": Facts(stops=stops.SEQUENCES),
    "SequenceAt": Facts(stops=stops.SEQUENCES),
    "SequenceConstruct": Facts(stops=stops.SEQUENCES),
    "SequenceEmpty": Facts(stops=stops.MADE),
    "SequenceErase": Facts(stops=stops.SEQUENCES),
    "SequenceInsert": Facts(stops=stops.SEQUENCES),
    "SequenceLength": Facts(stops=stops.SIZES),
    "SplitToSequence": Facts(stops=stops.SEQUENCES),
    "Optional": Facts(stops=stops.OPTIONALS),
    "OptionalGetElement": Facts(stops=stops.OPTIONALS),
    "OptionalHasElement": Facts(stops=stops.LOGIC),
    "RegexFullMatch": Facts(stops=stops.TEXT),
    "StringConcat": Facts(stops=stops.TEXT),
    "StringNormalizer": Facts(stops=stops.TEXT),
    "StringSplit": Facts(stops=stops.TEXT),
    "TfIdfVectorizer": Facts(stops=stops.TEXT),
    "ImageDecoder": Facts(stops=stops.BYTES),
    # quantised numbers
    "ConvInteger": Facts(QUANTISED, stops=stops.QUANTISED),
    "DequantizeLinear": Facts(PASSES | QUANTISES, stops=stops.QUANTISED),
    "DynamicQuantizeLinear": Facts(QUANTISES, stops=stops.QUANTISED),
    "MatMulInteger": Facts(QUANTISED, stops=stops.QUANTISED),
    "QLinearConv": Facts(QUANTISED, stops=stops.QUANTISED),
    "QLinearMatMul": Facts(QUANTISED, stops=stops.QUANTISED),
    "QuantizeLinear": Facts(PASSES | QUANTISES, stops=stops.QUANTISED),
}

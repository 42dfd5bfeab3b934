"""Operators that have no derivative, each with what users are told of it: no gradient can pass them, in any framework.

Those whose output is a floating-point number with a derivative of zero, as Round's, are in
:data:`~dsd_ort.rewrite.path.STOPS`.
"""

from __future__ import annotations

_POSITIONS = "yields positions, which have no derivative"
_LOGIC = "yields true or false, which has no derivative"
_BITS = "computes with bits, which have no derivative"
_SIZES = "yields a number of entries, which has no derivative"
_MADE = "makes values that depend on nothing that is trained"
_DRAWN = "draws random numbers, which depend on nothing that is trained"
_CHOSEN = "draws at random, which has no derivative"
_TEXT = "reads text, which has no derivative"
_BYTES = "reads an encoded image, which has no derivative"

WITHOUT_DERIVATIVE: dict[str, str] = {
    "And": _LOGIC,
    "ArgMax": _POSITIONS,
    "ArgMin": _POSITIONS,
    "BitShift": _BITS,
    "BitwiseAnd": _BITS,
    "BitwiseNot": _BITS,
    "BitwiseOr": _BITS,
    "BitwiseXor": _BITS,
    "BlackmanWindow": _MADE,
    "Constant": _MADE,
    "ConstantOfShape": _MADE,
    "Equal": _LOGIC,
    "Greater": _LOGIC,
    "GreaterOrEqual": _LOGIC,
    "HammingWindow": _MADE,
    "HannWindow": _MADE,
    "ImageDecoder": _BYTES,
    "IsInf": _LOGIC,
    "IsNaN": _LOGIC,
    "Less": _LOGIC,
    "LessOrEqual": _LOGIC,
    "MelWeightMatrix": _MADE,
    "Multinomial": _CHOSEN,
    "NonMaxSuppression": _POSITIONS,
    "NonZero": _POSITIONS,
    "Not": _LOGIC,
    "OptionalHasElement": _LOGIC,
    "Or": _LOGIC,
    "RandomNormal": _DRAWN,
    "RandomUniform": _DRAWN,
    "RegexFullMatch": _TEXT,
    "SequenceEmpty": _MADE,
    "SequenceLength": _SIZES,
    "Shape": _SIZES,
    "Size": _SIZES,
    "StringConcat": _TEXT,
    "StringNormalizer": _TEXT,
    "StringSplit": _TEXT,
    "TfIdfVectorizer": _TEXT,
    "Xor": _LOGIC,
}

FIX = "train what stands in front of it: name another output with --output; or freeze the parameters in front of it"

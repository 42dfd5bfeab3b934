"""How the batches of one array become the batches of one input or label: shape, dtype and checks.

- **Shape.**  The array is taken in the first of these views that fits: NHWC turned to NCHW (``layout = "nhwc"``); as
  it is; with an axis of size 1 inserted as axis 1 (or last, with "nhwc"); a label without its last axis of size 1.
- **dtype.**  uint8 that feeds a float input becomes (x·scale - mean)/std, computed as x·gain + offset in float32 with
  gain = scale/std and offset = -mean/std, per channel where the recipe has several.  Otherwise floats go to floats, and
  integers and booleans to integers of any width that holds them; integers and booleans also go to float labels.
- **One number.**  An input without axes takes one for a batch: that of an array without axes, or of one that has it for
  each example, the same within a batch.
- **Frame.**  Images that feed an input of four axes are then padded, cropped and mirrored as the recipe's
  ``[data.image]`` says (:mod:`dsd_ort.data.augment`), before they are normalised; the crop decides on their size.
- **Checks.**  Float values are finite, class labels lie in [0, classes) and are not ctc's blank, or are the
  ignore_index, and narrowed integers keep their value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

from dsd_ort.data.augment import Frame, Masks, frames, masked
from dsd_ort.data.columns import describe
from dsd_ort.errors import DataError
from dsd_ort.fields import Field
from dsd_ort.recipe import Data

View = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Column:
    """One array, fitted to one field."""

    array: str
    where: str
    field: Field
    dtype: np.dtype
    """The array's."""
    view: View
    gain: np.ndarray | None = None
    """With ``offset``, f32[C, 1, …] or f32[1]; only where uint8 becomes float."""
    offset: np.ndarray | None = None
    frame: Frame | None = None
    masks: Masks | None = None

    @property
    def bounds(self) -> tuple[int, int] | None:
        """The least and greatest integer that the array may hold, where it could hold others."""
        if self.field.classes is not None:
            return 0, self.field.classes - 1
        if np.dtype(self.field.dtype).kind in "iu" and not np.can_cast(self.dtype, self.field.dtype):
            limits = np.iinfo(self.field.dtype)
            return int(limits.min), int(limits.max)
        return None

    @property
    def can_be_wrong(self) -> bool:
        """Whether there is anything in the values that :meth:`check` looks for."""
        return self.bounds is not None or (np.dtype(self.field.dtype).kind == "f" and self.gain is None)

    def check(self, batch: np.ndarray, numbers: Sequence[int] | np.ndarray) -> None:
        """Looks at every value of ``[b, …]``, which holds the examples of these numbers.

        Raises:
            DataError: NaN, infinity, or an integer out of bounds; with the first such value and its place.
        """
        if not self.can_be_wrong:
            return
        if self.bounds is None:
            wrong = ~np.isfinite(self._cast(batch))
        else:
            low, high = self.bounds
            wrong = (batch < low) | (batch > high)
            if self.field.blank is not None:
                wrong |= batch == self.field.blank
            if self.field.ignore_index is not None:
                wrong &= batch != self.field.ignore_index
        if not wrong.any():
            return
        index = tuple(int(i) for i in np.unravel_index(wrong.argmax(), wrong.shape))
        self._refuse(batch[index], f"example {numbers[index[0]]}" + (f" at {list(index[1:])}" if index[1:] else ""))

    def _refuse(self, value: np.generic, place: str) -> NoReturn:
        if self.bounds is None:
            what = f"array {self.array!r} holds {value} in {place}"
            if np.isfinite(value):
                what += f", which is infinite as {self.field.dtype}"
            raise DataError(what, where=self.where, fix="remove the example or mend the value")
        low, high = self.bounds
        if self.field.classes is None:
            what = f"array {self.array!r} holds {value} in {place}, which does not fit into {self.field.dtype}"
            raise DataError(what, where=self.where, fix=f"keep the values within [{low}, {high}]")
        if value == self.field.blank:
            what = f"array {self.array!r} holds the label {value} in {place}, which is ctc's blank"
            raise DataError(what, where=self.where, fix="count labels past the blank, or set loss.blank to its class")
        raise DataError(
            f"array {self.array!r} holds the label {value} in {place}, outside [0, {self.field.classes})",
            where=self.where,
            fix="count labels from 0, or give the label of examples that do not count as loss.ignore_index",
        )

    def convert(self, batch: np.ndarray, chance: np.ndarray | None = None) -> np.ndarray:
        """``[b, …]`` of the array as the field's dtype and shape, C-contiguous.

        *chance*, uniform numbers f64[b, 7], decides on crops, mirrors and masks; without it, images are cut from the
        middle.
        """
        seen = self.view(batch)
        if self.frame is not None:
            seen = self.frame(seen, None if chance is None else chance[:, :3])
        if self.masks is not None:
            seen = self.masks(seen, None if chance is None else chance[:, 3:])
        if not self.field.shape:
            return self._only(self._cast(seen))
        if self.gain is None or self.offset is None:
            return np.ascontiguousarray(self._cast(seen))
        values: np.ndarray = np.multiply(np.ascontiguousarray(seen), self.gain, dtype=np.float32)
        values += self.offset
        return values.astype(self.field.dtype, copy=False)

    def _only(self, batch: np.ndarray) -> np.ndarray:
        """The one number of *batch*."""
        if (batch != batch[0]).any():
            other = batch[(batch != batch[0]).argmax()]
            raise DataError(
                f"array {self.array!r} holds {batch[0]} and {other} in one batch, and {describe(self.field)} takes one",
                where=self.where,
                fix="give batches of examples that have the same, from a Python function",
            )
        return np.array(batch[0])

    def takes(self, shape: tuple[int, ...]) -> bool:
        """Whether an example of this shape may stand in a batch with others of other shapes."""
        seen = self._seen(shape)
        if self.frame is None:
            return _fits(seen, self.field)
        return self.frame.image.crop is not None and _fits(self.frame.shape(seen), self.field)

    def refuse_small(self, shape: tuple[int, ...], what: str) -> None:
        """Raises DataError: the crop is larger than an example of this shape."""
        if self.frame is not None:
            self.frame.refuse(self._seen(shape), what, self.where)

    def _seen(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.view(_ghost((1, *shape))).shape

    def _cast(self, batch: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and check() refuses that
            return batch.astype(self.field.dtype, copy=False)


def fit(name: str, array: np.ndarray, field: Field, data: Data, where: str, *, hint: str | None = None) -> Column:
    """The way from *array* ``[N, …]``, of which only shape and dtype count, to *field*.

    *hint* says what to do where the shape does not fit.

    Raises:
        DataError: a shape, a dtype or the recipe's channels that do not fit.
    """
    _check_dtype(name, array.dtype, field, where)
    view, channel = _fit_shape(name, array.shape, field, data, where, hint=hint)
    shape = view(_ghost(array.shape)).shape
    frame = _frame(field, data, channel)
    if frame is not None:
        frame.refuse(shape, f"array {name!r}", where)
    if field.label or array.dtype != np.uint8 or np.dtype(field.dtype).kind != "f":
        masks = Masks(data.audio) if masked(field, data.audio) else None
        return Column(name, where, field, array.dtype, view, frame=frame, masks=masks)
    scale, mean, std = (np.asarray(v, np.float64) for v in (data.scale, data.shift, data.spread))
    for key, values in (("mean", mean), ("std", std)):
        if values.size != 1 and (len(shape) < 2 or values.size != shape[channel]):
            channels = shape[channel] if len(shape) > 1 else 1
            raise DataError(
                f"data.{key} has {values.size} numbers, but array {name!r} has {channels} channels",
                where=f"the recipe, and {where}",
                fix='give one number for all channels or one for each; they are axis 1 unless layout = "nhwc"',
            )
    per_channel = (-1,) + (1,) * (len(shape) - channel - 1)
    gain, offset = (np.atleast_1d(v).astype(np.float32).reshape(per_channel) for v in (scale / std, -mean / std))
    return Column(name, where, field, array.dtype, view, gain, offset, frame)


def _frame(field: Field, data: Data, channel: int) -> Frame | None:
    return Frame(data.image, channel) if frames(field, data.image) else None


def _views(rank: int, field: Field, data: Data) -> list[tuple[View, int]]:
    """The views to try, each with the axis that is then the channel."""
    nhwc = data.layout == "nhwc" and not field.label
    views: list[tuple[View, int]] = []
    if nhwc and rank == 4:
        views.append((lambda x: x.transpose(0, 3, 1, 2), 1))
    views += [(lambda x: x, 3 if nhwc and rank == 4 else 1), (lambda x: np.expand_dims(x, 1), 1)]
    if nhwc:
        views.append((lambda x: x[..., None], rank))
    if field.label:
        views.append((lambda x: x[..., 0] if x.ndim > 1 and x.shape[-1] == 1 else x, 1))
    return views


def _ghost(shape: tuple[int, ...]) -> np.ndarray:
    """An array of this shape without memory, to try views on."""
    return np.broadcast_to(np.uint8(0), shape)


def _axes(field: Field) -> tuple[int | str | None, ...]:
    """Those of an array that feeds it."""
    return field.shape or (None,)


def _fits(shape: tuple[int, ...], field: Field) -> bool:
    axes = _axes(field)
    sizes = zip(shape[1:], axes[1:], strict=True) if len(shape) == len(axes) else [(0, 1)]
    return all(not isinstance(wanted, int) or size == wanted for size, wanted in sizes)


def _fit_shape(
    name: str, shape: tuple[int, ...], field: Field, data: Data, where: str, *, hint: str | None
) -> tuple[View, int]:
    near = []
    for view, channel in _views(len(shape), field, data):
        seen, frame = view(_ghost(shape)).shape, _frame(field, data, channel)
        if len(seen) == len(_axes(field)):
            near.append((seen if frame is None else frame.shape(seen), channel))
            if _fits(near[-1][0], field):
                return view, channel
    text = f"array {name!r} has shape {list(shape)}, but {describe(field)} takes {shape_text(field.shape)}"
    if near:
        (seen, channel), *_ = near
        axis, size, wanted = next(
            (i, size, wanted)
            for i, (size, wanted) in enumerate(zip(seen, _axes(field), strict=True))
            if i and isinstance(wanted, int) and size != wanted
        )
        text += "" if seen == shape else f": taken as {list(seen)}"
        text += f": axis {axis} is {size}, not {wanted}"
        if frames(field, data.image) and data.image.crop is not None and axis != channel:
            hint = f"set data.image.crop = {wanted}, or remove it where the model's images are not square"
    else:
        text += f": {len(shape)} axes, not {len(field.shape)}"
    raise DataError(text, where=where, fix=hint or _shape_hint(shape, field, data))


def _shape_hint(shape: tuple[int, ...], field: Field, data: Data) -> str:
    if data.layout == "nchw" and len(shape) == 4 and _fits((shape[0], shape[3], shape[1], shape[2]), field):
        return 'if the images are [N, H, W, C], set layout = "nhwc" in the recipe\'s [data]'
    if field.classes is not None and len(shape) == len(field.shape) + 1 and field.classes in (shape[1], shape[-1]):
        axis = 1 if shape[1] == field.classes else len(shape) - 1
        return f"if the labels are one-hot, save the numbers of the classes: labels.argmax(axis={axis})"
    sizes = [size for size in field.shape[1:] if isinstance(size, int)]
    if len(sizes) == len(field.shape) - 1 and np.prod(sizes) == np.prod(shape[1:]):
        return f"reshape it: array.reshape({', '.join(map(str, (-1, *sizes)))})"
    return "give the array the shape that the model takes; axis 0 is the example"


def shape_text(shape: tuple[int | str | None, ...]) -> str:
    """``[N, 1, 28, 28]``; a size without a name is ``?``."""
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def check_batch_size(fields: Sequence[Field], size: int, *, what: str = "batch_size") -> None:
    """Refuses a batch of *size* examples where the model fixes another size.

    Raises:
        DataError: a field's axis 0 is a number other than *size*.
    """
    for field in fields:
        wanted = field.shape[0] if field.shape else None
        if isinstance(wanted, int) and wanted != size:
            raise DataError(
                f"{what} is {size}, but the model takes only batches of {wanted}",
                where=f"{describe(field)}, {field.dtype}{shape_text(field.shape)}",
                fix=f"use batch_size = {wanted} and data.drop_last = true, or export the model with a symbolic batch",
            )


def _check_dtype(name: str, dtype: np.dtype, field: Field, where: str) -> None:
    target = np.dtype(field.dtype)
    allowed = {"i": "iub", "u": "iub", "f": "fiub" if field.label else "f"}.get(target.kind, target.kind)
    if dtype.kind in allowed or (target.kind == "f" and dtype == np.uint8):
        return
    if dtype.kind not in "fiub":
        fix = f"save it as numbers: .astype({field.dtype!r}), or classes as 0, 1, 2, …"
    elif target.kind == "f":
        fix = "use .astype('float32') to feed the numbers as they are, or uint8 for images that the recipe normalises"
    else:
        fix = f"use .astype({field.dtype!r}) if the values are whole numbers"
    held = {"U": "text", "S": "bytes", "O": "Python objects"}.get(dtype.kind, str(dtype))
    raise DataError(f"array {name!r} holds {held}, but {describe(field)} takes {field.dtype}", where=where, fix=fix)

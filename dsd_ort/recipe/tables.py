"""The recipe's format: one class a table, with every key, its type and its default, and nowhere else.

*Selectors* (``freeze``, ``parameters.include``, ``parameters.exclude``, ``prune.include``, ``prune.exclude``,
``prune.layers``, ``optimizer.groups.match``) name parameters: a glob over parameter names (``"layer4.*"``), the role
of a parameter (``"role:bias"``, see :data:`dsd_ort.model.roles.ROLES`), or ``"first-conv"``, the convolutions that read
the model's input.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from dsd_ort.recipe.names import BuilderName, CriterionName, LossName, MetricName, OptimizerName, RecomputeName


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A TOML table: immutable, compared by value, unknown keys refused."""


class Loss(_Table, frozen=True, kw_only=True):
    """One loss at one output.  Several (``[[loss]]``) are added, each times its ``weight``.

    ``cross-entropy`` takes logits ``f32[N, C, …]`` and class labels ``i64[N, …]``; ``ctc`` logits ``f32[N, T, C]`` and
    labels ``i64[N, U]``, padded with ``ignore_index``; the others a target of the output's own shape.  All are means
    over the batch, as PyTorch's ``reduction="mean"``.
    """

    name: LossName = "cross-entropy"
    """What is minimised."""
    output: str | None = None
    """The model's output that the loss reads; may be left out where the model has only one."""
    label: str = "label"
    """The name of the target among the data's arrays."""
    weight: float = 1.0
    """What the loss is multiplied by where several are added."""
    class_axis: int | None = None
    """The output's axis of class scores, examples first: by default 1, as PyTorch's, and the last for ctc; -1 for
    ``[N, T, C]``."""
    label_smoothing: float = 0.0
    """Cross-entropy only: the share of each label that is spread over all classes."""
    ignore_index: int | None = None
    """Labels of this value do not count; ctc's labels are padded with it, by default -1."""
    class_weights: tuple[float, ...] | None = None
    """Cross-entropy only: what an example of each class counts."""
    delta: float = 1.0
    """Huber only: where the square ends and the line begins."""
    blank: int = 0
    """ctc only: the class that stands for no label."""
    time_axis: int = 1
    """ctc only: the output's axis of frames; 0 for ``[T, N, C]``."""
    lengths: str | None = None
    """ctc only: the model's input or output, whole numbers ``[N]``, that says how many frames of each example count."""
    zero_infinity: bool = True
    """ctc only: an example whose label does not fit into its frames has loss 0 and teaches nothing."""

    def axis_of_classes(self, rank: int) -> int:
        """The axis of class scores of an output of *rank* axes, from 0."""
        axis = self.class_axis if self.class_axis is not None else -1 if self.name == "ctc" else 1
        return axis + rank if axis < 0 else axis


class Group(_Table, frozen=True, kw_only=True):
    """Parameters with a weight decay or learning rate of their own; the first group that matches counts."""

    match: tuple[str, ...]
    """Selectors of its parameters."""
    weight_decay: float | None = None
    """In the place of the optimizer's."""
    learning_rate_factor: float = 1.0
    """What the phase's learning rate is multiplied by."""


class Optimizer(_Table, frozen=True, kw_only=True):
    """``sgd``, ``adam`` and ``adamw`` with PyTorch's meaning of every hyper-parameter."""

    name: OptimizerName = "sgd"
    """Which one."""
    momentum: float = 0.9
    """SGD only: the share of the last update that goes on."""
    dampening: float = 0.0
    """SGD only: the share of a gradient that does not come into the momentum."""
    nesterov: bool = False
    """SGD only: Nesterov's momentum."""
    beta1: float = 0.9
    """Adam and AdamW: of the running mean of gradients."""
    beta2: float = 0.999
    """Adam and AdamW: of the running mean of their squares."""
    epsilon: float = 1e-8
    """Adam and AdamW: what is added to the root of that mean."""
    epsilon_hat: bool = False
    """Adam and AdamW: ``epsilon`` is added in front of the bias correction (ε̂ of Kingma & Ba 2015), not behind it."""
    weight_decay: float = 0.0
    """Of all parameters but those of role ``other``, which only a group can give one: as PyTorch's added to the
    gradient, and in AdamW taken off the weight."""
    clip_norm: float | None = None
    """Gradients are scaled down to this global L2 norm where they exceed it."""
    accumulate: int = 1
    """Batches whose gradients are averaged before one update."""
    groups: tuple[Group, ...] = ()
    """Parameters that are treated otherwise."""


class Parameters(_Table, frozen=True, kw_only=True):
    """Which stored tensors are parameters, where their numbers and places say otherwise.

    What a gradient arrives at is one, unless it is recognisably a constant; ``dsd-ort inspect`` lists both.
    """

    include: tuple[str, ...] = ()
    """Constants that are trained: a temperature, a filter bank to begin with."""
    exclude: tuple[str, ...] = ()
    """What is a constant, although nothing shows it."""


class Prune(_Table, frozen=True, kw_only=True):
    """Which parameters a sparse phase prunes, and by how much where it is not the phase's ``sparsity``."""

    scope: Literal["layer", "global"] = "layer"
    """``layer``: the same share of every layer; ``global``: the smallest weights of all layers together."""
    include: tuple[str, ...] = ()
    """Selectors of what is pruned; none is every kernel, matrix and recurrent weight."""
    exclude: tuple[str, ...] = ("first-conv",)
    """Selectors of what is not, of these."""
    layers: dict[str, float] = {}
    """Sparsity of single layers: selector → sparsity; the first that matches counts."""
    alive: bool = False
    """No layer is pruned by the phase's ``sparsity`` so far that one of its inputs or outputs has to die: it keeps at
    least as many weights as it has inputs, or outputs where those are more."""
    keep_zeros: bool = False
    """Weights that are zero in the file, as somebody pruned it, stay zero in all phases, also of layers that are
    excluded here."""
    pattern: str = "unstructured"
    """What is pruned together: ``"unstructured"``, single weights of a layer; ``"rows"``, single weights, the same
    share of each output; ``"N:M"``, as ``"2:4"``, of each M neighbours along the input axis N stay; ``"RxC"``, as
    ``"1x4"``, blocks of R outputs times C inputs; ``"channels"``, whole outputs.  A sparsity is a share of these: of
    weights, blocks, channels."""
    criterion: CriterionName = "magnitude"
    """What is pruned first: the smallest by ``magnitude``; by magnitude times the norm of the input that it meets,
    ``wanda``; ``random`` weights, to compare with."""
    calibration: int = 128
    """wanda only: how many examples of the training data the norms are taken of."""


class Rise(_Table, frozen=True, kw_only=True):
    """A sparsity that rises over the updates of one sparse phase; the masks follow.

    With t from 0 to 1 over the rise: ``linear``: initial + (final − initial) · t.  ``cubic``: final − (final − initial)
    · (1 − t)³ (Zhu & Gupta 2017).  ``steps``: linear at the last of ``stairs`` equal steps.
    """

    schedule: Literal["cubic", "linear", "steps"] = "cubic"
    """How it rises."""
    initial: float = 0.0
    """The sparsity that the phase begins with."""
    final: float
    """The sparsity that it ends with, whatever its length."""
    every: int = 100
    """Updates from one mask to the next."""
    stairs: int = 4
    """How many steps ``steps`` has."""
    over: float = 0.75
    """The share of the phase's updates over which it rises; then it stays."""


class Schedule(_Table, frozen=True, kw_only=True):
    """A learning rate over the steps of one phase.

    ``constant``: initial.  ``step``: initial · factor^(epochs passed // every).  ``cosine``: from initial to final over
    the phase.  With ``warmup`` steps, the rate first rises linearly from initial/warmup to initial.
    """

    schedule: Literal["constant", "step", "cosine"] = "constant"
    """How the rate changes."""
    initial: float
    """The rate that the phase begins with, behind the warmup."""
    final: float = 0.0
    """The rate that ``cosine`` ends with."""
    factor: float = 0.1
    """What ``step`` multiplies the rate by."""
    every: float = 1.0
    """Epochs between two steps of ``step``."""
    warmup: int = 0
    """Updates over which the rate rises first."""


class Phase(_Table, frozen=True, kw_only=True):
    """One phase: dense, or sparse under a mask that is computed when it begins and then stays, unless it rises."""

    kind: Literal["dense", "sparse"]
    """Whether all weights are trained, or those that are left when the smallest are pruned."""
    learning_rate: float | Schedule
    """One rate, or a schedule."""
    epochs: int | float | None = None
    """May end within an epoch, as the paper's 1.25 epochs of VGG-16."""
    steps: int | None = None
    """The length in updates, in the place of ``epochs``."""
    sparsity: float | Rise | None = None
    """The share of the weights of a layer that a sparse phase prunes: one, or one that rises.  May be left out where
    ``prune.pattern`` says it, as "2:4" does."""
    patience: int | None = None
    """The phase ends after this many epochs without a better ``monitor``; ``epochs`` is then the most it takes.  Where
    the sparsity rises, epochs count from when it is there, also as the best."""
    drop_suspects: bool = False
    """In a dense phase after a sparse one: it trains without the examples that the sparse network, at its end, does not
    believe."""

    @property
    def schedule(self) -> Schedule:
        if isinstance(self.learning_rate, Schedule):
            return self.learning_rate
        return Schedule(initial=self.learning_rate)

    @property
    def final_sparsity(self) -> float | None:
        """The sparsity that the phase ends with; None of a dense one."""
        return self.sparsity.final if isinstance(self.sparsity, Rise) else self.sparsity


class Cycle(_Table, frozen=True, kw_only=True):
    """Phases that are repeated, in the place of one: a ``[[phase]]`` with ``repeat`` and phases of its own.

    They are unrolled when the recipe is read: a run knows single phases only.
    """

    repeat: int
    """How often."""
    phase: tuple[Phase, ...]
    """One behind the other, as ``[[phase.phase]]``."""


class Image(_Table, frozen=True, kw_only=True):
    """What is done to images (``[data.image]``), the arrays that feed inputs of four axes; in training by chance."""

    resize: int | None = None
    """Pixels of the shorter side; for images that are read from files."""
    crop: int | None = None
    """Pixels of the square that is cut out: at a random place in training, in the middle otherwise."""
    pad: int = 0
    """Pixels of 0 around the image in training, before the crop, which otherwise is of the image's own size."""
    flip: bool = False
    """In training, every other image is mirrored left to right, by chance."""


class Audio(_Table, frozen=True, kw_only=True):
    """How recordings become features ``f32[T, F]`` (``[data.audio]``)."""

    sample_rate: int = 16000
    """Hertz; recordings of another rate are resampled."""
    features: Literal["log-mel", "log-spectrogram"] = "log-mel"
    """The logarithm of the energy in each mel band, or in each frequency of the spectrum."""
    window: float = 0.025
    """Seconds that a frame looks at."""
    hop: float = 0.01
    """Seconds from one frame to the next."""
    mels: int = 80
    """Bands of log-mel."""
    normalise: bool = True
    """Every band of a recording gets mean 0 and deviation 1."""
    layout: Literal["tf", "ft"] = "tf"
    """``ft`` is frequencies first, ``f32[F, T]``."""
    time_mask: int = 0
    """In training, up to so many frames in a row are hidden by chance, anew each epoch: SpecAugment."""
    frequency_mask: int = 0
    """The same of bands."""


class Data(_Table, frozen=True, kw_only=True):
    """How arrays become the model's inputs.

    uint8 arrays that feed a float input become ``(x · scale − mean) / std``, per channel where ``mean`` and ``std``
    have several entries (axis 1).  ``layout = "nhwc"`` says that image arrays are ``[N, H, W, C]``.
    """

    scale: float = 1 / 255
    """What uint8 arrays are multiplied by."""
    mean: tuple[float, ...] | None = None
    """What is subtracted then, one number or one a channel: 0 where it is not given, and ``std`` 1; where neither is, a
    note says what that may cost."""
    std: tuple[float, ...] | None = None
    """What is divided by at last."""
    layout: Literal["nchw", "nhwc"] = "nchw"
    """The order of the axes of image arrays."""
    shuffle: bool = True
    """Whether each epoch has an order of its own."""
    drop_last: bool = False
    """Whether the last batch of an epoch is left out where it is smaller."""
    bucket: bool = False
    """Batches are of examples of about the same length, where the data knows lengths: less is padding."""
    pad_to: int = 1
    """Examples of different lengths are filled up to a multiple of this: on CUDA, few shapes of batch train faster."""
    without: str | None = None
    """A CSV that names examples which are not trained on, as ``dsd-ort suspects`` writes it; a path relative to the
    recipe's file, or on the command line to the current folder.  A run folder holds a copy."""
    alphabet: str | tuple[str, ...] = ()
    """The text of each class, from class 0 on, a character each or a list; that of ctc's blank is never read."""
    image: Image = Image()
    """What is done to images."""
    audio: Audio = Audio()
    """How recordings become features."""

    @property
    def shift(self) -> tuple[float, ...]:
        """``mean``, whether it is given or not."""
        return (0.0,) if self.mean is None else self.mean

    @property
    def spread(self) -> tuple[float, ...]:
        """``std``, whether it is given or not."""
        return (1.0,) if self.std is None else self.std

    @property
    def is_normalised(self) -> bool:
        """Whether anything is said of how 8-bit numbers become the model's."""
        return (self.scale, self.mean, self.std) != (1 / 255, None, None)


class Input(_Table, frozen=True, kw_only=True):
    """What is fixed of one of the model's inputs (``[input.NAME]``).

    A model may have inputs that are no data: a sampling rate, an initial state.  With a value, data does not feed it.
    A fixed value or length may also decide a condition, so that the branch that is not taken needs no gradient.
    """

    value: int | float | bool | tuple[Any, ...] | None = None
    """One number for every entry, or nested lists of the input's shape."""
    shape: tuple[int | str, ...] | None = None
    """A length for each axis; a text stands for any length."""
    batch_axis: int | None = None
    """The axis that examples are along in the file; data have them first.  By default the one that its name says."""


class Experiment(_Table, frozen=True, kw_only=True):
    """What ``dsd-ort compare`` puts beside what (``[experiment]``); training a run takes no notice of it."""

    sparsity: Literal["auto"] | tuple[float, ...] = ()
    """Of the sparse phases, each of these; none is as the phases have it, and ``"auto"`` looks for one."""
    seeds: int = 1
    """How often all is repeated."""
    arms: tuple[str, ...] = ()
    """Which ways to spend the budget; none is all of the usual ones."""
    select: float | None = None
    """The share of the training data that chooses; by default half of the evaluation data do."""


class Content(_Table, frozen=True, kw_only=True):
    """All keys of a recipe, as data; :class:`dsd_ort.recipe.Recipe` is these, checked."""

    phase: tuple[Phase, ...]
    """Dense and sparse phases, one behind the other, or groups of phases that are repeated; one or more."""
    batch_size: int = 32
    """Examples of a step."""
    seed: int = 0
    """Of shuffles, crops, mirrors, masks and dropout."""
    loss: Loss | tuple[Loss, ...] = Loss()
    """One loss, or several that are added."""
    optimizer: Optimizer = Optimizer()
    """What makes an update of gradients."""
    parameters: Parameters = Parameters()
    """Which stored tensors are parameters."""
    prune: Prune = Prune()
    """Which parameters a sparse phase prunes."""
    data: Data = Data()
    """How arrays, images and recordings become the model's inputs."""
    input: dict[str, Input] = {}
    """What is fixed of the model's inputs, by their names."""
    batch_norm: Literal["train", "frozen"] = "train"
    """Whether batch norms normalise by the batch, with running statistics that follow, or as in inference."""
    builder: BuilderName = "own"
    """What differentiates the model: dsd-ort's own rules, or ONNX Runtime's builder, which a training build has."""
    recompute: RecomputeName = "none"
    """What the backward pass computes again, so that it is not kept from the forward pass until then: nothing, what is
    ``cheap``, for a few per cent more time, or all but what stands between ``blocks`` of layers, for a third more.
    The numbers are the same."""
    experiment: Experiment = Experiment()
    """What ``dsd-ort compare`` puts beside what."""
    freeze: tuple[str, ...] = ()
    """Parameters that are not trained, and running statistics that do not follow the batch: ``["cnn.*"]``."""
    metrics: tuple[MetricName, ...] | None = None
    """What evaluation reports of the first loss's output; by default what means something for every model."""
    monitor: MetricName = "loss"
    """What decides which epoch of a phase is the best, and when a phase has converged; always reported."""

    @property
    def losses(self) -> tuple[Loss, ...]:
        """``loss``, whether it is one or several."""
        return self.loss if isinstance(self.loss, tuple) else (self.loss,)

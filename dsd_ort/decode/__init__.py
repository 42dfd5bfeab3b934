"""From a model's scores to text: how to get transcripts and captions out of an exported ONNX file, and to rate them.

::

    import numpy as np
    import onnxruntime
    from dsd_ort import decode

    session = onnxruntime.InferenceSession("speech.onnx")
    (logits,) = session.run(["logits"], {"features": features})        # f32[N, T, C]
    for labels in decode.ctc.greedy(logits, lengths, blank=0):
        print("".join(alphabet[label] for label in labels))
    best = decode.ctc.beam(logits, lengths, blank=0, width=16)[0][0]   # of example 0; .labels and .score

    captioner = decode.Captioner("captions.onnx", words="words", output="logits")
    for found in captioner.beam({"image": images}, start=1, end=2, limit=20, width=5, never=[0]):
        print(" ".join(vocabulary[word] for word in found[0].labels))

    decode.scores.wer(["a cat"], ["the cat"])                          # 0.5
    decode.scores.bleu(["a cat sits"], [["a cat sits", "the cat is sitting"]])[1]

Pure NumPy but for :class:`Captioner`, which runs the model.  Nothing here needs what training needs.

In: scores, or an ONNX file that gives them.  Out: labels and rates.  Of the package only what opens a session
(``runtime``) and errors are imported.
"""

from dsd_ort.decode import ctc, scores, words
from dsd_ort.decode.captioner import Captioner
from dsd_ort.decode.likelihood import Hypothesis

__all__ = ["Captioner", "Hypothesis", "ctc", "scores", "words"]

r"""One command for a GPU host: are the numbers right, and how fast is it, against PyTorch.

    python tools/gpu_check.py [all | correctness | speed | page] [options]

``correctness``: small siblings of the eight networks against the CPU and against themselves: tools/gpu_check/checks.py.
``speed``: ResNet-50 at batch 256, VGG-16 at 64 and DeepSpeech 2 at 32, against PyTorch eager and torch.compile, with
masks, without CUDA graphs: tools/gpu_check/speed.py.  ``page``: only shows what is in --json, and writes --markdown.
Exit status 1: a row of correctness is wrong.

Each side is a process of its own, with a Python of its own: --ours has the training build, --stock another ONNX
Runtime, --torch PyTorch and nothing else.  One that is not given or cannot use the device is left out.  The command
itself is run by the Python of --ours or --stock, which is then the default.

The time on such a host is short, so:

* --seconds is for everything (540); what is most important comes first, and every row is in --json at once.  The same
  command again goes on where the last one stopped, --retry does again what failed or was wrong.
* --prepare makes what needs no GPU in --folder, on any machine, and that is small enough to travel (about 30 MB:
  weights and batches are drawn anew from their seeds).  Without it the same is done on the host, in 1 to 5 seconds a
  network.

On a host with PyTorch, and the training build of ONNX Runtime in a bundle (CUDA 11.8, Python 3.11)::

    . BUNDLE/install.sh
    cu11 tools/gpu_check.py correctness --json docs/performance.json
    cu11 tools/gpu_check.py speed --torch python3 --json docs/performance.json --markdown docs/performance.md

Where there is a quarter of an hour in all, what matters most, in two commands::

    cu11 tools/gpu_check.py correctness --checks dense sparse dsd fp16 tf32 --seconds 240 --json docs/performance.json
    cu11 tools/gpu_check.py speed --precisions fp16 tf32 --against eager sparse launches --seconds 540 --torch python3 \
        --json docs/performance.json --markdown docs/performance.md

With the stock ONNX Runtime beside it, in an environment of its own (STOCK)::

    STOCK/bin/pip install "onnxruntime-gpu[cuda,cudnn]" click msgspec numpy onnx onnx-ir onnxscript rich safetensors
    cu11 tools/gpu_check.py all --torch python3 --stock STOCK/bin/python --json docs/performance.json

With pip and a network, the training build in an environment (OURS) without a bundle::

    python3.11 -m venv OURS && OURS/bin/pip install ".[cuda]"
    OURS/bin/python tools/gpu_check.py all --torch python3 --json docs/performance.json

With the stock ONNX Runtime alone::

    STOCK/bin/python tools/gpu_check.py all --torch python3 --json docs/performance.json

To try it where there is no GPU::

    .venv/bin/python tools/gpu_check.py all --device cpu --threads 1 --sizes tiny --precisions fp32 --rounds 5 \
        --round-seconds 0.1 --torch .venv-oracle/bin/python --stock .venv-stock/bin/python --json build/try.json

The first session on a new GPU compiles the training build's kernels (about a minute, once, kept by the driver): if that
takes longer than --patience, give the first command more.  PYTHONHOME, PYTHONPATH and the bundle's part of
LD_LIBRARY_PATH, which cu11 sets, are taken away for the sides with another Python.  A side may be any command:
--ours "bash -c '. BUNDLE/install.sh; cu11 \"\$@\"' cu11".
"""

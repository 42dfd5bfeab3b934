# make demo    the whole job on bundled data, in its own environment (.venv)
# make test    the tests, without PyTorch
# make stock   short tests, a brief demo among them, without ONNX Runtime's training build, and its numbers again without it (.venv-stock)
# make mpi     trainings by several processes, with mpi4py and MPICH from wheels (.venv-mpi)
# make docs    the documentation as a site, in build/site
# make audit   what is known of flaws in the packages that dsd-ort needs, from PyPI's advisories
# make check   lint, types, layers, docs, tests, stock, mpi, and the oracle tests against PyTorch in theirs (.venv-oracle)
# make environments   what these need, installed; with -j 2 side by side
#
# PYTHON=python3.12 make demo    chooses the interpreter, 3.10 or newer; otherwise the first that runs is taken.

# Up to 3.12 there is the training build, so these come first.
PYTHON ?= $(call first,10,python3.11 python3.12 python3.10 python3.13 python3.14 python3)
# One that there is no training build for, on PATH or pyenv's.
NEWER ?= $(call first,13,python3.14 python3.13 python3 $(wildcard $(PYENV_ROOT)/versions/3.1[3-9].*/bin/python3))
PYENV_ROOT ?= $(shell pyenv root 2>/dev/null)
first = $(firstword $(foreach p,$(2),$(shell $(p) -c 'import sys; sys.version_info >= (3, $(1)) and print("$(p)")' 2>/dev/null)))
VENV ?= .venv
ORACLE ?= .venv-oracle
STOCK ?= .venv-stock
MPI ?= .venv-mpi
JOBS ?= 2
# What may depend on Python, NumPy or ONNX Runtime, in two minutes.
SHORT = $(addprefix tests/,cli data recipe runtime ship test_readme.py run/test_phases.py \
          graph/differentiate graph/test_gradients.py graph/test_loss.py) \
        --ignore=tests/cli/test_experiment.py --ignore=tests/cli/test_compare.py
PIP = -m pip --disable-pip-version-check --quiet --no-input
# Modules are compiled when they are imported first: most never are.
INSTALL = $(PIP) install --no-compile
# And kept: hundreds of the tests' processes would compile them all again, 1.5 seconds each, where containers forbid it.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check lint types layers docs stock mpi oracle environments audit lock clean
.DELETE_ON_ERROR:

demo: $(VENV)/runtime
	$(VENV)/bin/dsd-ort demo

test: $(VENV)/test
	$(VENV)/bin/python -m pytest -n $(JOBS) --dist worksteal

check: lint types layers docs test stock mpi oracle

lint: $(VENV)/dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/dev
	$(VENV)/bin/mypy

layers: $(VENV)/dev
	$(VENV)/bin/lint-imports

# A link that leads nowhere, or a page that no menu lists, is an error (with --quiet, it would be none).
docs: $(VENV)/docs
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/python -m mkdocs build --strict

# Everything works without the training build; and where .venv has it, what it computes is computed again without it.
stock: $(VENV)/test $(STOCK)/stock
	@$(if $(NEWER),,echo "There is no Python 3.13 or newer here: ONNX Runtime without training is tried on $(PYTHON).")
	rm -rf build/stock
	$(STOCK)/bin/python -m pytest -n $(JOBS) $(SHORT)
	@if $(VENV)/bin/python -c 'from tests.session import TRAINING_BUILD; raise SystemExit(not TRAINING_BUILD)'; then set -ex; \
	  $(VENV)/bin/python -m tests.stock build/stock; \
	  DSD_ORT_STOCK=build/stock $(STOCK)/bin/python -m pytest -m stock tests/stock; \
	else echo "$(VENV) has no training build, so there are no numbers of it to compare with."; fi

mpi: $(MPI)/mpi
	$(MPI)/bin/python -m pytest -m "mpi and not slow" tests/mpi

oracle: $(ORACLE)/oracle
	$(ORACLE)/bin/python -m pytest -n $(JOBS) --dist worksteal -m "oracle and not slow" tests/oracle

environments: $(VENV)/docs $(STOCK)/stock $(MPI)/mpi $(ORACLE)/oracle

# One stamp file an environment and set of packages: a changed lock file installs again.
$(VENV)/runtime $(VENV)/test $(VENV)/dev $(VENV)/docs: $(VENV)/%: requirements/%.txt pyproject.toml
	@$(call make-environment,$(VENV),$(PYTHON))
	$(VENV)/bin/python $(INSTALL) -r $<
	$(VENV)/bin/python $(INSTALL) --no-deps --editable .
	@touch $@

$(MPI)/mpi: requirements/mpi.txt pyproject.toml
	@$(call make-environment,$(MPI),$(PYTHON))
	$(MPI)/bin/python $(INSTALL) -r $<
	$(MPI)/bin/python $(INSTALL) --no-deps --editable .
	@touch $@

# Without dsd-ort's own dependencies, which would bring the training build where there is one.
$(STOCK)/stock: requirements/stock.txt pyproject.toml
	@$(call make-environment,$(STOCK),$(or $(NEWER),$(PYTHON)))
	$(STOCK)/bin/python $(INSTALL) -r $<
	$(STOCK)/bin/python $(INSTALL) --no-deps --editable .
	@touch $@

$(ORACLE)/oracle: requirements/torch.txt requirements/torchvision.txt requirements/test.txt pyproject.toml
	@$(call make-environment,$(ORACLE),$(PYTHON))
	$(ORACLE)/bin/python $(INSTALL) -r requirements/torch.txt
	$(ORACLE)/bin/python $(INSTALL) --no-deps -r requirements/torchvision.txt
	$(ORACLE)/bin/python $(INSTALL) -r requirements/test.txt
	$(ORACLE)/bin/python $(INSTALL) --no-deps --editable .
	@touch $@

# Asks PyPI about each locked version; one that it does not know is told, and is no answer.
audit:
	@$(call make-environment,build/audit,$(PYTHON))
	build/audit/bin/python $(PIP) install "pip-audit>=2.7,<3"
	build/audit/bin/pip-audit --disable-pip --require-hashes -r requirements/runtime.txt

define make-environment
	if [ -z "$(2)" ]; then \
	  echo "dsd-ort needs Python 3.10 or newer, and none was found. Install one, or name it: make PYTHON=/path/to/python3 ..." >&2; exit 3; fi; \
	[ -x $(1)/bin/python ] || $(2) -m venv $(1) || { \
	  echo "$(2) cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv" >&2; rm -rf $(1); exit 3; }
endef

# Writes the lock files anew, for all supported Python versions and systems at once; needs uv.
lock:
	uv pip compile --universal --python-version 3.10 --no-annotate --no-header --generate-hashes pyproject.toml --extra report -o requirements/runtime.txt
	uv pip compile --universal --python-version 3.10 --no-annotate --no-header --generate-hashes pyproject.toml --group test -o requirements/test.txt
	uv pip compile --universal --python-version 3.10 --no-annotate --no-header --generate-hashes pyproject.toml --group dev -o requirements/dev.txt
	uv pip compile --universal --python-version 3.10 --no-annotate --no-header --generate-hashes pyproject.toml --group docs -o requirements/docs.txt
	uv pip compile --universal --python-version 3.10 --no-annotate --no-header --generate-hashes pyproject.toml --group test --extra mpi -o requirements/mpi.txt
	uv pip compile --universal --python-version 3.10 --no-annotate --no-header --generate-hashes pyproject.toml --group stock \
	  $(addprefix --no-emit-package ,onnxruntime-training onnxruntime-training-cpu cerberus h5py setuptools) -o requirements/stock.txt

clean:
	rm -rf $(VENV) $(ORACLE) $(STOCK) $(MPI) build dist *.egg-info

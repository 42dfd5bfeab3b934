# make demo    the whole job on bundled data, in its own environment (.venv)
# make test    the tests, without PyTorch
# make stock   training by an ONNX Runtime that cannot differentiate, in an environment of its own (.venv-stock)
# make check   lint, types, layers, tests, stock, and the oracle tests against PyTorch in theirs (.venv-oracle)
#
# PYTHON=python3.12 make demo    chooses the interpreter (3.10, 3.11 or 3.12); otherwise the first that runs is taken.

PYTHON ?= $(firstword $(foreach p,python3.11 python3.12 python3.10 python3,\
            $(shell $(p) -c 'import sys; 10 <= sys.version_info[1] <= 12 and print("$(p)")' 2>/dev/null)))
VENV ?= .venv
ORACLE ?= .venv-oracle
STOCK ?= .venv-stock
JOBS ?= 2
PIP = -m pip --disable-pip-version-check --quiet --no-input

.PHONY: demo test check lint types layers stock oracle lock clean
.DELETE_ON_ERROR:

demo: $(VENV)/runtime
	$(VENV)/bin/dsd-ort demo

test: $(VENV)/test
	$(VENV)/bin/python -m pytest -n $(JOBS)

check: lint types layers test stock oracle

lint: $(VENV)/dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types: $(VENV)/dev
	$(VENV)/bin/mypy

layers: $(VENV)/dev
	$(VENV)/bin/lint-imports

# The training build prepares and trains; the other repeats it.
stock: $(VENV)/test $(STOCK)/stock
	$(VENV)/bin/python -m tests.stock build/stock
	DSD_ORT_STOCK=build/stock $(STOCK)/bin/python -m pytest -m stock tests/stock

oracle: $(ORACLE)/oracle
	$(ORACLE)/bin/python -m pytest -m "oracle and not slow" tests/oracle

# One stamp file an environment and set of packages: a changed lock file installs again.
$(VENV)/runtime $(VENV)/test $(VENV)/dev: $(VENV)/%: requirements/%.txt pyproject.toml
	@$(call make-environment,$(VENV))
	$(VENV)/bin/python $(PIP) install -r $<
	$(VENV)/bin/python $(PIP) install --no-deps --editable .
	@touch $@

# Without dsd-ort's own dependencies, which would bring the training build.
$(STOCK)/stock: requirements/stock.txt pyproject.toml
	@$(call make-environment,$(STOCK))
	$(STOCK)/bin/python $(PIP) install -r $<
	$(STOCK)/bin/python $(PIP) install --no-deps --editable .
	@touch $@

$(ORACLE)/oracle: requirements/torch.txt requirements/torchvision.txt requirements/test.txt pyproject.toml
	@$(call make-environment,$(ORACLE))
	$(ORACLE)/bin/python $(PIP) install -r requirements/torch.txt
	$(ORACLE)/bin/python $(PIP) install --no-deps -r requirements/torchvision.txt
	$(ORACLE)/bin/python $(PIP) install -r requirements/test.txt
	$(ORACLE)/bin/python $(PIP) install --no-deps --editable .
	@touch $@

define make-environment
	if [ -z "$(PYTHON)" ]; then \
	  echo "dsd-ort needs Python 3.10, 3.11 or 3.12, and none was found. Install one, or name it: make PYTHON=/path/to/python3.11 ..." >&2; exit 3; fi; \
	[ -x $(1)/bin/python ] || $(PYTHON) -m venv $(1) || { \
	  echo "$(PYTHON) cannot make a virtual environment. On Debian and Ubuntu: apt-get install python3-venv" >&2; rm -rf $(1); exit 3; }
endef

# Writes the lock files anew, for all supported Python versions and systems at once; needs uv.
lock:
	uv pip compile --universal --python-version 3.10 --no-annotate --no-header --generate-hashes pyproject.toml -o requirements/runtime.txt
	uv pip compile --universal --python-version 3.10 --no-annotate --no-header --generate-hashes pyproject.toml --group test -o requirements/test.txt
	uv pip compile --universal --python-version 3.10 --no-annotate --no-header --generate-hashes pyproject.toml --group dev -o requirements/dev.txt
	uv pip compile --universal --python-version 3.10 --no-annotate --no-header --generate-hashes pyproject.toml --group stock \
	  $(addprefix --no-emit-package ,onnxruntime-training onnxruntime-training-cpu cerberus h5py setuptools) -o requirements/stock.txt

clean:
	rm -rf $(VENV) $(ORACLE) $(STOCK) build dist *.egg-info

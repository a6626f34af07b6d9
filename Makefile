# The few commands everyone types. Needs make and Python 3.11 or newer; all else goes into .venv.
#
#   make demo    train the built-in translator, score it, serve it     PORT=8000
#   make test    lint, layers, types and tests
#   make lint    lint, layers and types only
#   make audit   known vulnerabilities of what is installed, and of the oldest that may be
#   make serve   serve the checkpoints of a folder                     MODELS=models PORT=8000
#
# PYTHON=/path/to/python3.12 chooses the interpreter of a new .venv. TORCH_INDEX=URL is a package
# index to look for torch in as well: PyTorch's index of CPU wheels saves gigabytes of CUDA.

PYTHON ?= python3
TORCH_INDEX ?=
PORT ?= 8000
MODELS ?= models

BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test lint audit serve

demo: $(INSTALLED)
	$(BIN)/dragoman demo --port $(PORT)

# One torch thread is far faster on the small tensors of the tests; one process a core.
test: lint
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist loadfile --no-loadscope-reorder

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy

audit: $(INSTALLED)
	$(BIN)/python .ci/audit.py

serve: $(INSTALLED)
	$(BIN)/dragoman serve $(MODELS) --port $(PORT)

# The stamp is written last, so an interrupted installation is taken up again. torch goes first and
# by itself: it is by far the largest, and nothing that follows may choose another build of it.
$(INSTALLED): pyproject.toml constraints.txt
	@command -v "$(PYTHON)" >/dev/null 2>&1 || { \
		echo "error: $(PYTHON) is not on the PATH; install Python 3.11 or newer," \
			"or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "error: $$("$(PYTHON)" --version) is too old; install Python 3.11 or newer," \
			"or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; }
	@"$(PYTHON)" -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "error: $(PYTHON) has no venv module; install it" \
			"(on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "Installing into .venv; the first time takes some minutes."
	"$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt \
		$(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX)) torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[training,tracing,dev]'
	@touch $@

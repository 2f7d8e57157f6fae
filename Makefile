# Each target sets up its own virtual environment from pyproject.toml; nothing else needs to be installed first.

PYTHON ?= python3
PIP_FLAGS := --quiet --disable-pip-version-check
DEMO_OUT ?= runs/demo

.PHONY: help demo test lint docs notebooks bench clean

help:
	@echo "make demo   immunize all 90 pairs of digits, defend a small network, attack both, and show it on a page"
	@echo "make test   run the tests"
	@echo "make lint   ruff and pyright"
	@echo "make docs   make the site of all documents, build/site/index.html"
	@echo "make bench  run the benchmarks"
	@echo "make clean  remove the virtual environments and caches"

DIGITS := --model mlp_digits --weights $(DEMO_OUT)/network/model.safetensors --cache $(DEMO_OUT)/cache --reserve 0.5 \
  --primary digits --primary-classes 0 1 2 3 4 --harmful digits --harmful-classes 5 6 7 8 9

demo: .venv-demo/.stamp
	.venv-demo/bin/python -m experiments.pretrain_digits --out $(DEMO_OUT)/network
	.venv-demo/bin/cimm immunize $(DIGITS) --method best_response --train-from layer0 --out $(DEMO_OUT)/best_response
	.venv-demo/bin/cimm immunize $(DIGITS) --method algorithm1 --train-from layer0 --strength 10 --out $(DEMO_OUT)/algorithm1
	.venv-demo/bin/cimm attack $(DEMO_OUT)/best_response $(DEMO_OUT)/algorithm1 --ladder --cache $(DEMO_OUT)/cache \
	  --images-a-class 20 --seeds 1 --out $(DEMO_OUT)/ladder
	.venv-demo/bin/cimm sweep --data digits --out $(DEMO_OUT)/sweep
	.venv-demo/bin/cimm attack --data digits --methods algorithm1 opt_kappa pencil pencil_no_slower \
	  --attackers line_search momentum adam lbfgs "whiten + line_search" newton --out $(DEMO_OUT)/attack
	.venv-demo/bin/cimm report $(DEMO_OUT)/ladder $(DEMO_OUT)/attack $(DEMO_OUT)/sweep --out $(DEMO_OUT)/report

test: .venv-dev/.stamp
	.venv-dev/bin/python -m pytest -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

lint: .venv-dev/.stamp
	.venv-dev/bin/ruff check .
	.venv-dev/bin/ruff format --check .
	.venv-dev/bin/pyright --pythonpath .venv-dev/bin/python

# Without --quiet, with which strict sees no warning.
docs: .venv-docs/.stamp
	NO_MKDOCS_2_WARNING=1 .venv-docs/bin/mkdocs build --strict
	@echo "build/site/index.html"

# Runs the notebooks and keeps what they print and draw in them; tests compare.
notebooks: .venv-dev/.stamp
	.venv-dev/bin/python docs/hooks/run_notebooks.py docs/notebooks/*.ipynb

# All but benchmarks.commands, which times the README's commands on data of one's own, 35 minutes of them.
bench: .venv-bench/.stamp
	@for file in $(filter-out benchmarks/commands.py,$(wildcard benchmarks/[a-z]*.py)); do \
	  name=$$(basename $$file .py); echo "== $$name"; .venv-bench/bin/python -m benchmarks.$$name || exit 1; done

clean:
	rm -rf .venv-demo .venv-dev .venv-docs .venv-bench .pytest_cache .ruff_cache build *.egg-info

.venv-demo/.stamp: EXTRAS :=
.venv-dev/.stamp: EXTRAS := [dev]
# PyTorch is what some benchmarks compare with; its build without CUDA is enough. Without it: make bench BENCH_EXTRAS=
BENCH_EXTRAS ?= [bench]
.venv-bench/.stamp: EXTRAS = $(BENCH_EXTRAS)
.venv-bench/.stamp: PIP_FLAGS += --extra-index-url https://download.pytorch.org/whl/cpu

# The site is made from the sources as they are: its tools are enough, and JAX and all else stay out.
.venv-docs/.stamp: pyproject.toml
	$(PYTHON) -m venv .venv-docs
	.venv-docs/bin/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["docs"], sep="\n")' \
	  > .venv-docs/requirements.txt
	.venv-docs/bin/python -m pip install $(PIP_FLAGS) -r .venv-docs/requirements.txt
	touch $@

.venv-%/.stamp: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed; name one with: make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	$(PYTHON) -m venv .venv-$*
	.venv-$*/bin/python -m pip install $(PIP_FLAGS) -e '.$(EXTRAS)'
	touch $@

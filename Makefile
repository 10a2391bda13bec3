# Needs Python 3.11+ and make. Everything else is installed into .venv with the pip settings you already have.
#   make demo [DEMO=drawn]   enroll, serve, inspect, ask, report: out/demo/report.html
#   make test                every test, on SQLite and PostgreSQL, without the network
#   make lint                ruff, types, the import rule
#   make setup               the environment and the weights, for `.venv/bin/kensor`
#   make serve               the service on http://127.0.0.1:8000
#   make bench               the experts and the HTTP service, timed on this machine
#   make lock                resolve both lock files again

VENV   := .venv
PY     := $(VENV)/bin/python
KENSOR := $(VENV)/bin/kensor
DEMO   ?= elpv
ARGS   ?=
# Test processes: each takes a core and up to 3 GB.
JOBS   ?= 2

# 3.11 first: it is what the lock files are resolved for. A version manager's shim that cannot run is passed over.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3 python python3.14; do \
	"$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 && { command -v "$$p"; break; }; done)

# An environment answers to one lock and one place: another lock, or a moved checkout, installs again.
key    = $(shell { cat $(1) pyproject.toml; echo "$(CURDIR)"; } | cksum | tr -c '0-9\n' '-')
RUN   := $(VENV)/.run-$(call key,requirements.lock)
DEV   := $(VENV)/.dev-$(call key,requirements-dev.lock)

# A user-wide `pip --user` would refuse to install into an environment; one OpenMP thread keeps small machines responsive.
export PIP_USER := 0
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export OMP_NUM_THREADS ?= 1
unexport PYTHONPATH PYTHONHOME

.PHONY: help setup demo test lint serve bench lock
help:
	@sed -n 's/^#   //p' Makefile

define environment
	@test -n "$(PYTHON)" || { echo "make: Python 3.11 or newer with the venv module is needed (Debian: apt install python3 python3-venv)." >&2; \
		echo "make: name another with  make PYTHON=/path/to/python3.11 ..." >&2; exit 1; }
	@echo "Installing the locked packages of $(1) into $(VENV): about 3.5 GB to download the first time, 7.2 GB on disk."
	@echo "The weights follow (about 0.2 GB to download, 0.7 GB on disk), into the cache folder, or KENSOR_HOME."
	@"$(PYTHON)" -c 'import shutil, sys; free = shutil.disk_usage(".").free / 1e9; \
		print(f"Free disk here: {free:.0f} GB."); \
		free < 8 and sys.exit("make: at least 8 GB of free disk are needed here (12 with a download cache on the same disk).")'
	@$(PY) -m pip --version >/dev/null 2>&1 || "$(PYTHON)" -m venv --clear $(VENV)
	$(PY) -m pip install --require-hashes -r $(1)
	$(PY) -m pip install --quiet --no-deps --no-build-isolation -e .
endef

$(RUN):
	$(call environment,requirements.lock)
	@rm -f $(VENV)/.run-* && touch $@

$(DEV):
	$(call environment,requirements-dev.lock)
	@rm -f $(VENV)/.run-* $(VENV)/.dev-* && touch $(RUN) $@

setup: $(RUN)
	$(KENSOR) weights pull

demo: $(RUN)
	$(KENSOR) demo --parts "$(DEMO)" $(ARGS)

serve: $(RUN)
	$(KENSOR) weights pull
	$(KENSOR) serve $(ARGS)

bench: $(RUN)
	$(KENSOR) weights pull
	$(KENSOR) bench experts $(ARGS)
	$(KENSOR) bench http

test: $(DEV)
	$(KENSOR) weights pull
	$(PY) -m pytest -n $(JOBS) --dist loadfile --cov=inspection --cov=app/services --cov-report=term:skip-covered --cov-fail-under=90 $(ARGS)

lint: $(DEV)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy
	$(PY) -m pytest -q tests/test_architecture.py

lock: $(DEV)
	$(VENV)/bin/uv pip compile --quiet --no-strip-extras --universal --generate-hashes --python-version 3.11 --extra build \
		pyproject.toml -o requirements.lock
	$(VENV)/bin/uv pip compile --quiet --no-strip-extras --universal --generate-hashes --python-version 3.11 --extra build --extra dev \
		-c requirements.lock pyproject.toml -o requirements-dev.lock

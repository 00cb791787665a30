# Needs git, make and any Python >= 3.9 with pip, on a Mac macOS 14 and Apple silicon; everything else goes into .tools and .venv.
COMMA := ,
UV := .tools/uv/bin/uv
BIN := .venv/bin
STAMP := .venv/.installed
DEV := .venv/.installed-dev
# On a Mac uv might take an Intel Python that is there beside a native one.
PYTHON := $(if $(filter Darwin,$(shell uname -s)),cpython->=3.11$(COMMA)<3.14-macos-aarch64-none,>=3.11$(COMMA)<3.14)
INSTALL := $(UV) pip install --python $(BIN)/python

# Servers and runners of a test are processes of their own: more workers than two would only wait for each other.
WORKERS := --numprocesses 2 --dist worksteal

.PHONY: install demo serve check test test-slow test-training soak bench lock clean

install: $(STAMP)

$(UV):
	python=$$(tools/find-python) && $$python -m pip install --quiet --upgrade --target .tools/uv uv

$(STAMP): $(UV) requirements.lock pyproject.toml
	test -x $(BIN)/python || $(UV) venv .venv --python '$(PYTHON)'
	$(INSTALL) --require-hashes -r requirements.lock
	$(INSTALL) --no-deps --no-build-isolation -e .
	touch $(STAMP)

$(DEV): $(STAMP) requirements-dev.lock
	$(INSTALL) --require-hashes -r requirements-dev.lock
	touch $(DEV)

demo: install
	$(BIN)/mlx-local demo

serve: install
	$(BIN)/mlx-local serve

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports

test: check
	$(BIN)/python -m pytest $(WORKERS)

test-slow: $(DEV)
	HYPOTHESIS_PROFILE=searching $(BIN)/python -m pytest -m "slow or not slow" tests training/tests

test-training: $(DEV)
	$(BIN)/python -m pytest training/tests

soak: $(DEV)
	$(BIN)/python -m tests.soak.soak

bench: $(DEV)
	$(BIN)/python -m bench --work build/bench

COMPILE := $(UV) pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 pyproject.toml

lock: $(UV)
	$(COMPILE) --group build -o requirements.lock
	$(COMPILE) --group build --group dev -c requirements.lock -o requirements-dev.lock

clean:
	rm -rf .venv .tools build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

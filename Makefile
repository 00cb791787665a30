# Needs git, make and any Python >= 3.9 with pip; everything else goes into .tools and .venv.
UV := .tools/uv/bin/uv
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: install demo serve check test test-slow soak bench lock clean

install: $(STAMP)

$(UV):
	@for python in python3.13 python3.12 python3.11 python3.10 python3.9 python3; do \
	    if $$python -m pip --version >/dev/null 2>&1; then \
	        $$python -m pip install --quiet --upgrade --target .tools/uv uv && exit 0; \
	        exit 1; \
	    fi; \
	done; \
	echo "No Python with pip found: install Python 3.9 or newer, then run make again." >&2; exit 1

$(STAMP): $(UV) requirements.lock pyproject.toml
	test -x $(BIN)/python || $(UV) venv .venv --python '>=3.11,<3.14'
	$(UV) pip install --python $(BIN)/python --require-hashes -r requirements.lock
	$(UV) pip install --python $(BIN)/python --no-deps --no-build-isolation -e .
	touch $(STAMP)

demo: install
	$(BIN)/mlx-local demo

serve: install
	$(BIN)/mlx-local serve

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports

test: check
	$(BIN)/python -m pytest

test-slow: install
	HYPOTHESIS_PROFILE=searching $(BIN)/python -m pytest -m "slow or not slow"

soak: install
	$(BIN)/python -m tests.soak.soak

bench: install
	$(BIN)/python -m bench --work build/bench

lock: $(UV)
	$(UV) pip compile --universal --generate-hashes --no-emit-index-url --python-version 3.11 \
	    --group dev pyproject.toml -o requirements.lock

clean:
	rm -rf .venv .tools build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

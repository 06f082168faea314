# Two commands: `make run` and `make test`. Each makes .venv and installs the locked packages on first use.
PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
BENCHES := wal_append bronze_flush dbn_to_bronze recovery sim_generate massive_frames \
  silver_trades silver_mbp10 silver_read hot_tail enrich bus live option_quotes loop_steps start cli_start status row_groups \
  one_contract ledger engines judged warm_up options gold replay gateway

# Where it is set, every process compiles the whole package anew, and the tests start many.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: run test torture soak bench docs lock clean

run: .venv/installed
	@$(BIN)/spymaster run $(ARGS)

test: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/pytest $(ARGS)

# Hours of crashes, kills, failing disks and bit rot; prints the table of docs/durability.md.
torture: .venv/installed
	@$(BIN)/python -m tests.long $(ARGS)

# An hour of a page that stays open before the simulated market: its heap, and how often it draws.
soak: .venv/installed
	@$(BIN)/python -m tests.long soak $(ARGS)

# One script per claim about speed, each printing one JSON document.
bench: .venv/installed
	@for claim in $(BENCHES); do $(BIN)/python -m bench.$$claim || exit 1; done

# The pages of docs/ that are made from the code; a test says when they are behind.
docs: .venv/installed
	@$(BIN)/python -m docs.make_reference

# Resolve pyproject.toml again, for every supported Python, with hashes and without the name of an index.
lock: .venv/installed
	$(BIN)/python -m pip install --quiet uv
	$(BIN)/uv pip compile pyproject.toml --group dev --extra polars --universal --python-version 3.11 \
	  --generate-hashes --no-emit-index-url --no-header --upgrade --quiet --output-file requirements.lock

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 14) else "spymaster needs Python 3.11 to 3.13; set PYTHON=python3.12, say")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps --editable .
	@# What is compiled now is kept, and no first recording waits for it.
	$(BIN)/python -c 'from spymaster.events.encoding import MassiveFrames; from spymaster.normalize.open import normalizer_of; normalizer_of(MassiveFrames("stocks", "ALL"), origin="")'
	$(BIN)/python -c 'from spymaster.engines.ledger import fastest_body; fastest_body()'
	$(BIN)/python -c 'from spymaster.engines.option_model import fastest_model; fastest_model()'
	$(BIN)/python -c 'from spymaster.engines.compiled import loops; loops()'
	@touch $@

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .hypothesis *.egg-info

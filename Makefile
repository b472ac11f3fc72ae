# Thin names for the commands behind them. Every target brings the environment up to date first (docs/setup.md).
#   make demo ARGS=--once        make test ARGS="-k cbor"        make PYTHON=python3.12 test        make mutants NAME=x

PYTHON ?= python3
ARGS ?=
JOBS ?= 5
NAME ?=
BIN := .venv/bin
SETUP = @command -v $(PYTHON) >/dev/null || { echo "Set-up: there is no $(PYTHON): apt-get install python3 python3-venv" >&2; exit 1; }; \
	$(PYTHON) tools/setup/environment.py

# Debian puts Mosquitto where only root's PATH looks.
export PATH := $(PATH):/usr/local/sbin:/usr/sbin
# Tests and demo start the host tools hundreds of times: without bytecode on disk each of them compiles itself again.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test lint bench fuzz mutants powercut soak lock clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' Makefile

demo: ## the whole story on this machine, told in the terminal and on a page: http://127.0.0.1:8259/
	$(SETUP) demo
	@$(if $(filter --port% --no-story --replay% --device%,$(ARGS)),,test -t 0 && test -t 1 || once=--once;) $(BIN)/gatehouse demo $$once $(ARGS) # it stays where somebody can press Ctrl-C

test: ## every test: in MicroPython, of the host tools, of whole devices against Mosquitto
	$(SETUP) test
	@rm -f build/junit.xml
	@$(BIN)/pytest -n $(JOBS) --dist worksteal --junitxml=build/junit.xml $(ARGS) # five on two cores: a simulated device waits for half of its time
	@$(if $(strip $(ARGS)),echo "Conformance: not checked since ARGS may have left tests out",$(BIN)/gatehouse conformance --check build/junit.xml)

lint: ## ruff, mypy (device code against the ESP32 stubs), mpy-cross for both chip families
	$(SETUP) lint
	@$(BIN)/python tools/lint/lint.py

bench: ## what the design aims at, measured
	$(SETUP) bench
	@$(BIN)/python -m bench $(ARGS)

fuzz: ## 200,000 mutants of envelopes, indexes and packs inside MicroPython
	$(SETUP) test
	@$(BIN)/python -m tests.fuzz $(ARGS)

mutants: ## take out one defence after the other; every one must turn a test red
	$(SETUP) test
	@$(BIN)/python mutants/run.py $(ARGS) $(NAME)

powercut: ## cut the power at every flash operation of a device's life, and again while it recovers
	$(SETUP) test
	@$(BIN)/python -m tests.powercut --second $(ARGS)

soak: ## a device for 30 days: 100 broker restarts, link cuts, power cuts; nothing lost, no heap lost
	$(SETUP) test
	@GATEHOUSE_SOAK=1 $(BIN)/pytest -q tests/system/test_soak.py -k broken
	@$(BIN)/python -m tests.soak $(ARGS)

lock: ## newest versions of all packages into tools/setup/lock (needs uv and the network)
	@tools/setup/lock.sh

clean: ## remove what was built; keep what was downloaded
	@rm -rf dist demo failed .pytest_cache .ruff_cache .mypy_cache
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
	@test ! -d build || find build -mindepth 1 -maxdepth 1 ! -name umqtt ! -name microdot ! -name peer ! -name 'typings*' -exec rm -rf {} +

distclean: clean ## remove the environment and the downloads too
	@rm -rf .venv build tools/*.egg-info

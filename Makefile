# Each target first makes .venv if it is missing or out of date (scripts/bootstrap.py).
# Name a Python with `make PYTHON=python3.13 ...`; pass options with `make report ARGS=--all`.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
# Figures are recorded as Plotly's own data, the same on each run.
export PLOTLY_RENDERER := plotly_mimetype
# As collected, so that the many small unit tests come last and no core waits for the other. The
# hundreds of processes that the tests start find their modules compiled, whatever the shell says.
PYTEST := env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -m pytest -n 2 --dist loadscope \
	--no-loadscope-reorder
NBVAL := $(PYTEST) --nbval --nbval-current-env --nbval-kernel-startup-timeout 120
NOTEBOOKS := $(addprefix notebooks/,00_start_here.ipynb 01_routing.ipynb 02_ledger.ipynb \
	03_events.ipynb 04_fraud.ipynb)
# The tests' own servers: other ports than the ones a developer's own may have.
TEST_STACK := build/stack
TEST_PORTS := 10000
# Tests of whole processes on a running stack; valid on both profiles, too long for `make test`.
ON_STACK := tests/path/test_several_processes.py tests/path/test_report_profiles.py \
	tests/services/test_serve_workers.py
# Tests of the services that take a profile; those that stop a part run one after the other. Who may
# call what hangs on no profile.
SERVICES := $(filter-out %_access.py,$(shell grep -l "profile: str" tests/services/*.py))
BENCHES := engine routing outbox pipeline http audit report simulate fraud notebooks

.DEFAULT_GOAL := help
.PHONY: help env report test test-stack test-notebooks check lab load bench stack-up stack-down lock docs clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 18

env: ## make .venv from requirements.lock (every other target does it)
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
		echo "paytm_lab needs Python 3.11 or newer, and '$(PYTHON)' is not a command here." >&2; \
		echo "Install it (Debian: apt-get install python3 python3-pip) or name one: make PYTHON=/path/to/python3.13 ..." >&2; \
		exit 3; }
	@$(PYTHON) scripts/bootstrap.py

report: env ## run the embedded lab and write build/report/index.html
	@$(BIN)/paytm-lab report $(ARGS)

test: check ## everything that needs no server
	$(PYTEST) --ignore tests/stack $(addprefix --ignore ,$(ON_STACK)) $(ARGS)
	$(NBVAL) $(NOTEBOOKS)

test-stack: export PAYTM_LAB_STACK_DIR := $(CURDIR)/$(TEST_STACK)
# The tests' servers live for minutes: Java's second compiler would work all that time for nothing.
test-stack: export JAVA_TOOL_OPTIONS := $(JAVA_TOOL_OPTIONS) -XX:TieredStopAtLevel=1
test-stack: env ## the same contracts and path on the real servers, which it starts (and gets)
	$(BIN)/paytm-lab stack up --fetch --port-offset $(TEST_PORTS)
	@# Three: who waits for a session to end or a server to answer leaves the processors to others.
	@$(PYTEST) -n 3 --profile servers tests/contract tests/path/test_profiles.py tests/path/test_drop.py tests/faults/test_kill.py \
		tests/stack/test_compose.py $(ON_STACK) $(SERVICES) -m "not runs_alone" $(ARGS) && \
	$(PYTEST) -n 0 --profile servers $(SERVICES) tests/browser/test_dashboards.py -m runs_alone $(ARGS); \
	tested=$$?; $(BIN)/paytm-lab stack down; exit $$tested
	@# Each file starts its own, whose gigabytes belong on a disk (see tests/scratch.py).
	TMPDIR=$${TMPDIR:-/tmp} $(PYTEST) tests/stack --ignore tests/stack/test_compose.py $(ARGS)

test-notebooks: env ## all notebooks, their stored output against a fresh run
	$(NBVAL) notebooks

check: env ## lint, format, types, import ranks
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy --num-workers 2
	$(BIN)/lint-imports

lab: env ## JupyterLab, open at the first notebook, with this environment's kernel
	JUPYTER_PREFER_ENV_PATH=1 $(BIN)/jupyter-lab --ServerApp.root_dir=notebooks \
		--LabApp.default_url=/lab/tree/00_start_here.ipynb $(ARGS)

load: env ## services and Locust together, with its page; afterwards the audit's verdict
	@$(BIN)/paytm-lab load $(ARGS)

bench: env ## all benchmarks, one JSON file each in build/bench/
	@mkdir -p build/bench
	@for name in $(BENCHES); do \
		$(BIN)/paytm-lab bench $$name --json $(ARGS) > build/bench/$$name.json || exit $$?; \
		cat build/bench/$$name.json; \
	done

stack-up: env ## start the real servers on this machine, fetching what is missing
	@$(BIN)/paytm-lab stack up --fetch $(ARGS)

stack-down: env ## stop them; their data stays
	@$(BIN)/paytm-lab stack down $(ARGS)

lock: env ## write requirements.lock and environment.yml anew (ARGS=--upgrade: newest versions)
	$(BIN)/python scripts/lock.py $(ARGS)

docs: env ## write the tables of docs/ anew from the code
	$(BIN)/python scripts/docs.py

clean: ## remove .venv, build and caches
	rm -rf .venv build dist .mypy_cache .ruff_cache .import_linter_cache .pytest_cache .hypothesis
	find . -name __pycache__ -prune -exec rm -rf {} +

# `make demo` and `make test` need nothing before them but Python 3.11 or newer.

SOURCES := mqkit handlers tests
PY := .venv/bin/python
STAMP := .venv/.installed
READ := .venv/.tests-read
# A statement of your own:     make demo DATA=path/to/statement.csv
DATA :=
# More for the demo:           make demo DEMO='--orders 200 --kill risk'
DEMO :=
# The console beside it:       make demo WATCH=1
WATCH :=
# More for pytest:             make test ARGS='-k ledger -x'
ARGS :=
# Workers of make test:        make test JOBS=1. Most tests wait, so more of them than cores. Four
# start fewer brokers, and leave the processors idle in between: they took longer.
JOBS := 6
# The interpreter for .venv:   make PYTHON=/path/to/python3 .venv
PYTHON :=

.PHONY: help demo test test-system test-versions test-long check docs bench bench-store faults conformance simulate mutation broker postgres compiled lock clean test-pythons .venv
.DEFAULT_GOAL := help

help:
	@echo 'make demo         sets up .venv, then runs all payment services on 2,000 generated orders, kills'
	@echo '                  two of them on the way, and adds everything up'
	@echo '                  (WATCH=1: opens the console beside it, in a browser if there is one)'
	@echo '                  (DATA=path: posts a bank statement and reconciles it instead)'
	@echo 'make test         sets up .venv and a broker, then tests mqkit: units, and what it does with brokers'
	@echo 'make test-system  starts what people run: commands, console, payment services, examples, programs of'
	@echo '                  the documentation, processes that are killed; and whether brokers conform to AMQP'
	@echo 'make test-long    what takes long: processes and brokers killed many times, floods, the guard of speed'
	@echo '                  (MQKIT_TEST_LONG=1: the long forms of the replay, the fuzz and bad peers)'
	@echo 'make test-versions'
	@echo '                  both run each test on one broker and database: this, on the others'
	@echo 'make test-pythons runs the unit tests on each Python of the classifiers that is there'
	@echo 'make check        format, lint, types, layers, links of the documentation'
	@echo 'make docs         builds the documentation, strictly, into .site'
	@echo 'make bench        mqkit and its peers side by side, into docs/guides/benchmarks.md; some 20'
	@echo '                  minutes on a quiet machine (JSON=path; ROUNDS=5, SYSTEMS=mqkit,go: not into the page)'
	@echo 'make bench-store  what effects once cost, into docs/guides/benchmarks-store.md; half an hour on a'
	@echo '                  quiet machine (JSON=path BEFORE=commit; ROUNDS, SYSTEMS as above)'
	@echo 'make faults       the fault matrix in its long form (ROWS=1,4 VERSIONS=4.3 FAULTS=9 JSON=path)'
	@echo 'make simulate     thousands of schedules from seeds, with faults, in virtual time (MINUTES=5)'
	@echo 'make conformance  the conformance suite on every broker, into docs/guides/conformance.md (BROKERS=...)'
	@echo 'make mutation     breaks the embedded broker until every case has been seen to fail'
	@echo 'make lock         locks the dependencies anew (UPGRADE=1 for newer versions)'
	@echo 'make clean        removes .venv, .bench, the demo'"'"'s databases and every cache'

.venv: $(STAMP)

$(STAMP): pyproject.toml deploy/requirements-dev.txt deploy/venv.sh
	@PYTHON='$(PYTHON)' sh deploy/venv.sh
	@touch $@

# Exit code 1 of the finder is 'none found'; a malformed variable (2) is not mended by installing.
broker: $(STAMP)
	@$(PY) -m mqkit.testing || { [ $$? -eq 1 ] && sh deploy/install-broker.sh && $(PY) -m mqkit.testing; }

postgres: $(STAMP)
	@$(PY) -m tests.postgres || { [ $$? -eq 1 ] && sh deploy/install-postgres.sh && $(PY) -m tests.postgres; }
	@PATH="$$PATH:/usr/sbin:/usr/local/sbin" command -v pgbouncer >/dev/null || sh deploy/install-pgbouncer.sh

# Once, and not by every process that starts, where PYTHONDONTWRITEBYTECODE keeps it from being kept.
compiled: $(STAMP)
	@$(PY) -m compileall -q $(SOURCES)

# Each of pytest's workers reads all tests, and what pytest makes of their modules: once here, and
# not by all workers at once, which takes each of them as long as the rest of reading them.
$(READ): $(STAMP) $(shell find $(SOURCES) -name '*.py')
	@for part in tests/unit 'tests --ignore=tests/unit'; do \
	    env -u PYTHONDONTWRITEBYTECODE $(PY) -m pytest -qq --collect-only -p no:cacheprovider $$part \
	        >/dev/null 2>&1 & \
	done; wait
	@touch $@

demo: compiled
	@mkdir -p .demo
	@set -e; data='$(DATA)'; \
	if [ -z "$$data" ]; then exec $(PY) -m handlers demo $(if $(WATCH),--watch) $(DEMO); fi; \
	name=$$(basename "$$data"); \
	LEDGER_DATABASE="$${LEDGER_DATABASE:-.demo/$${name%.*}.sqlite}" $(PY) -m handlers replay "$$data"

test: broker postgres compiled $(READ)
	@$(PY) -m pytest -m 'not long and not system' --ignore=tests/benchmarks --ignore=tests/faults -n $(JOBS) --dist loadgroup $(ARGS)

# Commands, payment services, examples, documentation as people run them; processes that are killed.
test-system: broker postgres compiled $(READ)
	@$(PY) -m pytest -m 'system and not long' -n $(JOBS) --dist loadgroup $(ARGS)

# Each test of those two runs on one broker and database; those of what they do, on the others here.
test-versions: broker postgres compiled $(READ)
	@$(PY) -m pytest -m 'not long' --other-versions -n $(JOBS) --dist loadgroup $(ARGS) \
	    || { [ $$? -eq 5 ] && [ -z '$(findstring --lf,$(ARGS))' ] \
	        && echo 'No test is left: with one RabbitMQ, make test runs all of them on it.'; }

# The fault matrix in its short form, a million messages, replays under faults, the fuzz, the guard.
test-long: broker postgres compiled $(READ)
	@$(PY) -m pytest -m long -n $(JOBS) --dist loadgroup $(ARGS)

# In an environment for each, under .pythons.
test-pythons: postgres compiled
	@JOBS=$(JOBS) sh deploy/test-pythons.sh

check: $(STAMP)
	$(PY) -m ruff format --check $(SOURCES)
	$(PY) -m ruff check $(SOURCES)
	$(PY) -m mypy $(SOURCES)
	$(PY) -m pytest -q tests/unit/test_layers.py
	@$(MAKE) --no-print-directory docs

# A link to what is not there is an error, and so is whatever a page would load from another host.
#     .venv/bin/python -m http.server --directory .site
docs: $(STAMP)
	@said=$$(NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict --config-file deploy/mkdocs.yml 2>&1) || \
	    { printf '%s\n' "$$said"; exit 1; }
	@! grep -rnoE '<(script|img|iframe|link)[^>]* (src|href)="?(https?:)?//[^ >]*' .site --include='*.html'

# The peers get an environment of their own. Where Go and its amqp091 package are installed
# (Debian: golang-go golang-github-rabbitmq-amqp091-go-dev), a Go client is measured as the bound.
#     make bench ROUNDS=5 SYSTEMS=mqkit,faststream,go JSON=path
PEERS := .bench/.installed
ROUNDS :=
SYSTEMS :=
bench: compiled $(PEERS)
	$(PY) -m tests.benchmarks.side_by_side $(if $(ROUNDS),--rounds $(ROUNDS)) \
	    $(if $(SYSTEMS),--systems $(SYSTEMS)) $(if $(JSON),--json $(JSON)) \
	    $(if $(ROUNDS)$(SYSTEMS),,--svg docs/images/rates.svg --into docs/guides/benchmarks.md)

# The store beside loops by hand and peers, on PostgreSQL and SQLite, and mqkit as it was at the
# commit BEFORE; empty, it is left out.
#     make bench-store ROUNDS=5 SYSTEMS=mqkit,mqkit-before,hand JSON=path
BEFORE := 6505717
bench-store: broker postgres compiled $(PEERS)
	$(PY) -m tests.benchmarks.store $(if $(ROUNDS),--rounds $(ROUNDS)) \
	    $(if $(SYSTEMS),--systems $(SYSTEMS)) $(if $(JSON),--json $(JSON)) \
	    $(if $(BEFORE),--before $(BEFORE)) $(if $(ROUNDS)$(SYSTEMS),, \
	    --svg docs/images/store-rates.svg --into docs/guides/benchmarks-store.md)

$(PEERS): tests/benchmarks/requirements-peers.txt | $(STAMP)
	@$(PY) -m venv --clear .bench/venv
	@.bench/venv/bin/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	    -r tests/benchmarks/requirements-peers.txt
	@touch $@

# Each row of the fault matrix, 50 faults and more, on RabbitMQ 4.0 and 4.3 (two also on 3.10).
#     make faults ROWS=1,4 VERSIONS=4.3 FAULTS=10 COMMITS=batches JSON=path
ROWS :=
VERSIONS :=
FAULTS :=
COMMITS :=
JSON :=
faults: broker postgres compiled
	$(PY) -m tests.faults.matrix $(if $(ROWS),--rows $(ROWS)) $(if $(VERSIONS),--brokers $(VERSIONS)) \
	    $(if $(FAULTS),--faults $(FAULTS)) $(if $(COMMITS),--commits $(COMMITS)) \
	    $(if $(JSON),--json $(JSON))

# The same promises in virtual time, each schedule from a seed, on all processors.
#     make simulate MINUTES=30      python -m tests.simulation --seed N --shrink --trace
MINUTES := 5
simulate: $(STAMP)
	$(PY) -m tests.simulation --minutes $(MINUTES)

# On the embedded broker and RabbitMQ 4.3, 4.0 and 3.10 (containers), into the table of the docs.
BROKERS := embedded 4.3 4.0 3.10
conformance: $(STAMP)
	$(PY) -m tests.conformance.suite $(addprefix --broker ,$(BROKERS)) --into docs/guides/conformance.md

# Breaks the embedded broker, one place at a time, until every case of the suite has failed once.
mutation: $(STAMP)
	$(PY) -m tests.conformance.mutation

lock:
	@sh deploy/lock.sh $(if $(UPGRADE),--upgrade)

clean:
	rm -rf .venv .pythons .bench .demo .site .mypy_cache .ruff_cache .pytest_cache .hypothesis build *.egg-info
	find $(SOURCES) -name __pycache__ -type d -prune -exec rm -rf {} +

# Every target works on a clean clone with nothing but a Python >= 3.11; PYTHON=... picks another interpreter.
# ARGS=... goes to the command behind a target: make test ARGS="tests/unit -x", make demo ARGS="--seed 7 --keep".

PYTHON ?= python3
ARGS ?=
export PYTHON
# Tests start hundreds of processes: where bytecode may not be kept, each would compile everything anew.
export PYTHONDONTWRITEBYTECODE :=

RUN := .venv-run
DEV := .venv
# A requirement file or pyproject.toml that is newer than the stamp brings the environment up to date.
STAMP := .installed

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test acceptance torture up down pictures lint types lock clean

help: ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' Makefile

demo: $(RUN)/$(STAMP) ## send mail of three small applications to a catching server, in this terminal
	@$(RUN)/bin/mailfleet demo $(ARGS)

# Most tests wait for servers: four at once are what two processors can do.
test: $(DEV)/$(STAMP) ## find or install PostgreSQL, RabbitMQ, PgBouncer, Postfix and Redis, then run every test that is not long
	@$(DEV)/bin/python -m tests.services.install
	@$(DEV)/bin/python -m pytest -n $(shell n=$$(nproc 2>/dev/null || echo 2); [ $$n -gt 4 ] && echo $$n || echo 4) --dist loadfile -m "not acceptance" $(ARGS)

acceptance: $(DEV)/$(STAMP) ## run the long tests only
	@$(DEV)/bin/python -m tests.services.install
	@$(DEV)/bin/python -m tests.services.chromium
	@$(DEV)/bin/python -m tests.services.faketime
	@$(DEV)/bin/python -m pytest -m acceptance $(ARGS)

torture: $(DEV)/$(STAMP) ## a fleet in a storm of kills, pauses and outages: 20,000 mails, four minutes; ARGS="--seed 7"
	@$(DEV)/bin/python -m tests.services.install
	@$(DEV)/bin/python -m tests.torture $(ARGS)

up: $(DEV)/$(STAMP) ## start the whole of mailfleet for development, in the background: by Docker if an engine runs
	@$(DEV)/bin/python -m tests.stack up $(ARGS)

down: $(DEV)/$(STAMP) ## end what `make up` started; data are kept
	@$(DEV)/bin/python -m tests.stack down $(ARGS)

pictures: $(DEV)/$(STAMP) ## take the pictures of docs/management-ui.md anew, in a headless Chromium
	@$(DEV)/bin/python -m tests.services.install
	@$(DEV)/bin/python -m tests.services.chromium
	@$(DEV)/bin/python -m tests.pictures $(ARGS)

lint: $(DEV)/$(STAMP) ## check style, formatting and the direction of imports
	@$(DEV)/bin/ruff check
	@$(DEV)/bin/ruff format --check
	@$(DEV)/bin/lint-imports

types: $(DEV)/$(STAMP) ## check types, strictly
	@$(DEV)/bin/mypy

# Both files are resolved together with what they pin already: without ARGS only what had to change changes.
COMPILE = $(DEV)/bin/pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-header \
	--strip-extras --allow-unsafe --extra workers --extra async $(ARGS)
lock: $(DEV)/$(STAMP) ## pin all dependencies anew (ARGS=--upgrade takes the newest)
	@$(COMPILE) --output-file requirements/workers.txt pyproject.toml requirements/build.in
	@$(COMPILE) --constraint requirements/workers.txt --output-file requirements/dev.txt \
		pyproject.toml requirements/build.in requirements/dev.in

# build/stack holds the data of `make up`, and what `make down` needs to know of what runs.
clean: ## delete environments, caches and build results; mail kept by the demo and the data of `make up` stay
	@[ ! -d build ] || find build -mindepth 1 -maxdepth 1 ! -name stack -exec rm -rf {} +
	rm -rf $(RUN) $(DEV) dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(RUN)/$(STAMP): requirements/workers.txt pyproject.toml deploy/bin/make-venv
	@deploy/bin/make-venv $(RUN) requirements/workers.txt
	@touch $@

$(DEV)/$(STAMP): requirements/dev.txt pyproject.toml deploy/bin/make-venv
	@deploy/bin/make-venv $(DEV) requirements/dev.txt
	@touch $@

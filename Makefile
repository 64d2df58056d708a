# Needs git, make, python3 >= 3.11 and python3-venv; everything else comes into .venv, hash-locked.
#
#   make run      start the relay here and stay in the foreground
#   make test     the whole suite          make check   formatting, lint, types, layers, migrations
#   make assets   rebuild what the pages load (needs npm; the result is committed)
#   make messages what there is to translate (needs gettext; the result is committed)
#   make screenshots [ARGS=overview]     every page of the dashboard, to var/screenshots
#   make bench    print and keep numbers   make demo    watch live books from a running relay
#   make chaos RUNS=3 [FAULT=kill9-worker] [SEED=7]     strike a whole relay, and judge what customers got
#   make soak MINUTES=30     whether an edge grows while customers come and go
#
# LOCK=requirements.txt adds the MySQL driver, which needs a compiler and libmysqlclient.

PYTHON ?= python3
LOCK ?= requirements-embedded.txt
TOOLS := requirements-dev.txt
VENV := .venv
BIN := $(VENV)/bin
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help install tools run test check bench chaos soak demo lock proto assets messages screenshots clean

help:
	@sed -n '3,12s/^# \{0,1\}//p' Makefile

# A stamp per lock's content: an unchanged lock costs no pip run, and a second `make run` starts at once.
install: LOCKS := $(LOCK)
install:
	@$(call install_locks,$(LOCKS))
	@$(BIN)/python -m streaming.native.build

tools: LOCKS := $(LOCK) $(TOOLS)
tools:
	@$(call install_locks,$(LOCKS))
	@$(BIN)/python -m streaming.native.build

define install_locks
	set -e; \
	command -v $(PYTHON) >/dev/null || { \
	  echo "python3 is missing: apt-get install python3 python3-venv" >&2; exit 2; }; \
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "python3 is too old ($$($(PYTHON) --version 2>&1)), 3.11 or newer is needed:" \
	       "apt-get install python3.11 python3.11-venv, then make PYTHON=python3.11 …" >&2; exit 2; }; \
	if [ ! -x $(BIN)/python ] || ! $(BIN)/python -c 'import pip' 2>/dev/null; then \
	  $(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { \
	    echo "python3-venv is missing: apt-get install $$($(PYTHON) -c \
	    'import sys; print("python%d.%d-venv" % sys.version_info[:2])')" >&2; exit 2; }; \
	  echo "Making $(VENV)"; $(PYTHON) -m venv --clear $(VENV); \
	fi; \
	stamp="$(VENV)/.installed-$$(cat $(1) | $(BIN)/python -c \
	  'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])')"; \
	if [ ! -e "$$stamp" ]; then \
	  echo "Installing $(1)"; \
	  $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes \
	    $(foreach lock,$(1),-r $(lock)); \
	  touch "$$stamp"; \
	fi
endef

run: install
	@exec $(BIN)/python manage.py up --with-parent

# Two at a time, since a third of a test's time is waiting; what measures time goes alone. A call
# that ARGS leaves nothing for ends with 5, and only when all of them do is that an error.
test: tools
	@ran=; \
	run() { $(BIN)/python -m pytest "$$@" $(ARGS); code=$$?; \
	  case $$code in 0) ran=1 ;; 5) ;; *) exit $$code ;; esac; }; \
	run -n 2 -m "not alone"; \
	echo "The tests that nothing may run beside:"; run -m alone; \
	echo "The tests that touch the database, on MariaDB:"; \
	export RELAY_TEST_DATABASE=mariadb; run -n 2 -m "database and not relay"; \
	test -n "$$ran"

check: tools
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(BIN)/python manage.py makemigrations --check --dry-run
	@$(BIN)/python manage.py check --fail-level WARNING
	@$(call generate,.proto-check) && for folder in $(GENERATED); do \
	    diff -r -x __pycache__ -x __init__.py .proto-check/$$folder $$folder || exit 1; done \
	    || { rm -rf .proto-check; echo "generated code is stale: make proto" >&2; exit 1; }; \
	  rm -rf .proto-check
	@if git grep -nIE 'hlr_(live|test)_[0-9A-Za-z]{38}' -- . ':!tests' ; then \
	  echo "an API key in the repository" >&2; exit 1; fi

bench: tools
	@$(BIN)/python -m tests.bench $(ARGS)

chaos: tools
	@$(BIN)/python -m tests.chaos --runs $(or $(RUNS),3) $(addprefix --fault ,$(FAULT)) $(addprefix --seed ,$(SEED)) $(ARGS)

soak: tools
	@$(BIN)/python -m tests.bench.soak --minutes $(or $(MINUTES),30)

demo: install
	@$(BIN)/python manage.py watch_demo $(ARGS)

# Writes the locks from pyproject.toml. Their addresses are the installer's business, not the lock's.
COMPILE = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" pyproject.toml
lock:
	@test -x $(BIN)/uv || $(MAKE) --no-print-directory tools
	@$(COMPILE) --extra embedded --extra http --extra mysql -o requirements.txt
	@$(COMPILE) --extra embedded -c requirements.txt -o requirements-embedded.txt
	@$(COMPILE) --extra embedded --extra dev -c requirements.txt -o requirements-dev.txt

# Python from the .proto files, with types; committed, so that nobody needs the compiler to run it.
# The relay's own surface is made twice: for the server, and for the package of clients/python.
GENERATED := streaming/hl_gateway/generated gateway/grpc/generated clients/python/hlrelay/v1
GRPC_PROTOS := gateway/grpc/protos
define generate
	mkdir -p $(addprefix $(1)/,$(GENERATED)) && $(BIN)/python -m grpc_tools.protoc \
	  -I streaming/hl_gateway/generated=streaming/hl_gateway/protos --python_out=$(1) --pyi_out=$(1) \
	  --grpc_python_out=$(1) streaming/hl_gateway/protos/hl_gateway.proto && \
	$(BIN)/python -m grpc_tools.protoc -I $(GRPC_PROTOS) --python_out=$(1)/gateway/grpc/generated \
	  --pyi_out=$(1)/gateway/grpc/generated \
	  $$(cd $(GRPC_PROTOS) && find . -name '*.proto' | sed 's,^\./,,' | sort) && \
	$(BIN)/python -m grpc_tools.protoc -I $(GRPC_PROTOS) --python_out=$(1)/clients/python \
	  --pyi_out=$(1)/clients/python --grpc_python_out=$(1)/clients/python hlrelay/v1/relay.proto
endef
proto: tools
	@$(call generate,.)

screenshots: tools
	@$(BIN)/python -m tests.dashboard.screenshots $(ARGS)

# What is new has an empty msgstr afterwards; translate it, and run this again for the .mo.
messages: tools
	@$(BIN)/python manage.py dashboard_messages
	@$(BIN)/python manage.py compilemessages -l zh_Hant -i .venv -i gateway

# The pages' style sheet, icons and what others wrote, from pinned packages; with its checksums.
assets:
	@cd gateway/dashboard/assets && npm ci --silent --no-audit --no-fund && node build.mjs

# Not var/: it holds data.
clean:
	@rm -rf $(VENV) .venv-* static_root .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

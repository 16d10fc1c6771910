# Every target in one line: `make help`. Each target that needs it does all set-up by itself.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
week ?=
day ?=
profile ?= week2

LOCK := --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --custom-compile-command "make lock"

# `make lab` arguments become options of `python -m labs run`; empty ones are left out.
flag = $(if $($(1)),--$(1) "$($(1))")
switch = $(if $(filter-out 0,$($(1))),--$(1))
experiment = $(foreach one,week day variant seed rate seconds docs predict,$(call flag,$(one))) $(foreach one,keep short traces,$(call switch,$(one)))

.PHONY: help setup up down clean status logs lab labs verdicts report console chaos story load soak bench test test-fast lint format lock

help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  First time here?   make lab                   (what is here)   make lab week=2 day=2   (sets all up, the first experiment)"
	@echo "  Then open          labs/week02/README.md      (the week's page) and   make report"

setup: ## Virtual environment, system packages, Kafka, Toxiproxy (all other targets call it; instant when done)
	@infra/setup.sh

up: setup ## Start a profile and leave it running: make up [profile=week2] [edges=0: links without Toxiproxy between]
	@$(PY) -m infra up $(call flag,profile) $(if $(filter 0,$(edges)),--no-edges)

down: ## Stop everything that this checkout started
	@if [ -x $(PY) ]; then $(PY) -m infra down; else echo "Nothing was ever set up here."; fi

clean: ## Stop everything and delete its data (.lab); the virtual environment stays
	@if [ -x $(PY) ]; then $(PY) -m infra clean; else rm -rf .lab; fi

status: setup ## What runs: state, memory, port, restarts
	@$(PY) -m infra status

logs: setup ## Last log lines: make logs service=payments-api [lines=50]
	@$(PY) -m infra logs $(if $(service),"$(service)") $(call flag,lines)

lab: setup ## What is here, what to try first; with arguments an experiment, a week or week=all: make lab week=2 [day=2 variant=naive seed=7 keep=1 short=1 traces=1 rate=50 seconds=60 docs=50000 predict="..."]
	@$(PY) -m labs $(if $(strip $(experiment)),run $(experiment),start)

labs: setup ## Every lab, its question, its last verdict
	@$(PY) -m labs list

verdicts: setup ## Merge the newest whole runs into docs/verdicts.json and the README's table: make verdicts [runs=.lab/runs]
	@$(PY) -m labs.verdicts $(call flag,runs)

report: setup ## Open the newest report
	@$(PY) -m labs report

console: setup ## The lab's web page: stack, charts, labs, chaos, traces, alerts, the course; runs until make down
	@$(PY) -m labs.console start

chaos: setup ## Break things by hand, healed by itself: make chaos; make chaos do=kill target=payments-api [for=20s]; do=heal
	@$(PY) -m infra chaos $(call flag,do) $(call flag,target) $(call flag,for) $(call flag,ms) $(call flag,kbps) \
	  $(call flag,percent) $(call flag,offset)

story: setup ## One checkout followed through all systems: make story [product=SKU quantity=2], after make up profile=story
	@$(PY) -m labs.story $(call flag,product) $(call flag,quantity)

load: setup ## Load alone, with Locust's page if headless=0: make load system=payments rate=200 minutes=2; or find the knee: steps=50:400:50 [seconds=10 p99=250]
	@$(PY) -m loadtests $(call flag,system) $(call flag,rate) $(call flag,minutes) $(call flag,seed) $(call flag,headless) \
	  $(call flag,steps) $(call flag,seconds) $(call flag,p99)

soak: setup ## All services at once under load and faults drawn from a seed, then every invariant: make soak [minutes=30 seed=7]
	@$(PY) -m labs.soak $(call flag,minutes) $(call flag,seed)

bench: setup ## Measure each system beside its limit, write BENCHMARKS.md: make bench [system=payments]; system=search [docs=50000]; system=profiles; write=1 measures nothing
	@$(PY) -m benchmarks $(call flag,system) $(call flag,docs) $(call switch,write)

# pytest keeps the modules it has rewritten, which saves half of the collection; also where the shell would forbid it.
test test-fast: export PYTHONDONTWRITEBYTECODE :=

test: setup ## All tests, on throwaway servers, the slowest first: make test [workers=3 record=1]
	@$(PY) -m pytest -n $(or $(workers),auto) --dist loadfile --no-loadscope-reorder $(if $(record),--record-durations) -q tests

test-fast: setup ## Unit and contract tests only, without those marked slow
	@$(PY) -m pytest -n $(or $(workers),auto) --dist loadfile --no-loadscope-reorder -q -x -m "not slow" --hypothesis-profile=fast \
	  tests/unit tests/contract

lint: setup ## ruff and mypy --strict
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

format: setup ## Format and sort imports
	@$(PY) -m ruff check --fix . ; $(PY) -m ruff format .

lock: setup ## Renew requirements.lock and the image's part of it (hashes, no addresses); needs uv
	@uv pip compile $(LOCK) --group lab --group dev pyproject.toml -o requirements.lock
	@uv pip compile $(LOCK) --constraint requirements.lock pyproject.toml -o infra/docker/requirements.lock

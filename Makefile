# Every target in one line: `make help`. Each target that needs it does all set-up by itself.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

PY := .venv/bin/python
week ?=
day ?=
profile ?= week2

# `make lab` arguments become options of `python -m labs run`; empty ones are left out.
flag = $(if $($(1)),--$(1) "$($(1))")
switch = $(if $(filter-out 0,$($(1))),--$(1))

.PHONY: help setup up down clean status logs lab labs report chaos load bench test test-fast lint format lock

help: ## This list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' Makefile
	@echo
	@echo "  First time here?   make lab week=2 day=2      (sets everything up, runs the first experiment)"
	@echo "  Then open          labs/week02/README.md      (the week's page) and   make report"

setup: ## Virtual environment, system packages, Kafka, Toxiproxy (all other targets call it; instant when done)
	@infra/setup.sh

up: setup ## Start a profile and leave it running: make up [profile=week2] [edges=1]
	@$(PY) -m infra up $(call flag,profile) $(call switch,edges)

down: ## Stop everything that this checkout started
	@if [ -x $(PY) ]; then $(PY) -m infra down; else echo "Nothing was ever set up here."; fi

clean: ## Stop everything and delete its data (.lab); the virtual environment stays
	@if [ -x $(PY) ]; then $(PY) -m infra clean; else rm -rf .lab; fi

status: setup ## What runs: state, memory, port, restarts
	@$(PY) -m infra status

logs: setup ## Last log lines: make logs service=payments-api [lines=50]
	@$(PY) -m infra logs $(if $(service),"$(service)") $(call flag,lines)

lab: setup ## Run an experiment: make lab week=2 day=2 [variant=naive seed=7 keep=1 short=1 rate=50 seconds=60 predict="..."]
	@if [ -z "$(week)" ]; then $(PY) -m labs list; echo; echo "Say which one: make lab week=2 day=2"; exit 2; fi
	@$(PY) -m labs run $(call flag,week) $(call flag,day) $(call flag,variant) $(call flag,seed) $(call flag,rate) \
	  $(call flag,seconds) $(call flag,predict) $(call switch,keep) $(call switch,short)

labs: setup ## Every lab, its question, its last verdict
	@$(PY) -m labs list

report: setup ## Open the newest report
	@$(PY) -m labs report

chaos: setup ## Break things by hand: make chaos; make chaos do=kill target=payments-api
	@$(PY) -m infra chaos $(call flag,do) $(call flag,target) $(call flag,ms)

load: setup ## Load alone, with Locust's page if headless=0: make load system=payments rate=200 minutes=2
	@$(PY) -m loadtests $(call flag,system) $(call flag,rate) $(call flag,minutes) $(call flag,seed) $(call flag,headless)

bench: setup ## Benchmarks with their limit measured in the same run: make bench system=payments
	@$(PY) -m benchmarks $(call flag,system)

test: setup ## All tests, on throwaway servers
	@$(PY) -m pytest -n 2 --dist loadgroup -q tests

test-fast: setup ## Unit and contract tests only
	@$(PY) -m pytest -q -x tests/unit tests/contract

lint: setup ## ruff and mypy --strict
	@$(PY) -m ruff check . && $(PY) -m ruff format --check . && $(PY) -m mypy

format: setup ## Format and sort imports
	@$(PY) -m ruff check --fix . ; $(PY) -m ruff format .

lock: setup ## Renew requirements.lock (hashes, no addresses); needs uv
	@uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --group dev \
	  --custom-compile-command "make lock" pyproject.toml -o requirements.lock

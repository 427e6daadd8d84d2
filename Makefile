# Every target has a line in `make help`. Tools come from the repository's own set-up: Node 24 from npm, Python packages in a
# virtual environment, Kubernetes built from Go modules; all but node_modules/ lies in the cache outside the tree.
SHELL := /bin/bash
.DEFAULT_GOAL := help
RONDO_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/rondo
export RONDO_CACHE
export PATH := $(CURDIR)/node_modules/node/bin:$(CURDIR)/node_modules/.bin:$(PATH)
PYTHON := $(RONDO_CACHE)/venv/bin/python
VITEST := node scripts/vitest.ts

ROUNDS ?= 2
PARTICIPANTS ?= 4
STEPS ?=
MODEL ?= smollm2
NAME ?= round
OUTAGE ?= 120

.PHONY: help setup demo demo-down check test test-unit test-trainer test-integration test-e2e bench peer-faults build generate images clusters-up clusters-status clusters-down clean

help: ## show this list
	@grep -hE '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2}' | if [ -t 1 ] && [ -z "$$NO_COLOR" ]; then cat; else sed 's/\x1b\[[0-9;]*m//g'; fi

setup: ## install everything that demo and tests need (Node, Python packages, Kubernetes, images); safe to repeat
	@scripts/setup all

demo: ## a federated LoRA round on real local clusters, start to end (ROUNDS=2 PARTICIPANTS=4 STEPS=8 MODEL=smollm2|tiny)
	@started=$$(date +%s); scripts/setup demo && node test/demo/main.ts up --started $$started --rounds $(ROUNDS) --participants $(PARTICIPANTS) --model $(MODEL) $(if $(STEPS),--steps $(STEPS))

demo-down: ## stop the demo and remove its clusters
	@scripts/setup node
	@node test/demo/main.ts down

check: ## the gate: format, lint, types, unit tests, generated files, import rules; under a minute
	@scripts/setup check
	@biome check --error-on-warnings .
	@tsc
	@$(PYTHON) -m ruff check trainer-image scripts/demo-data test examples
	@$(PYTHON) -m ruff format --check trainer-image scripts/demo-data test examples
	@$(VITEST) unit

test: ## everything: check, trainer, integration and end-to-end tests
	@scripts/setup all
	@rm -rf .rondo/test
	@$(MAKE) --no-print-directory check
	@$(MAKE) --no-print-directory test-trainer test-integration test-e2e
	@node scripts/test-summary.ts

test-trainer: ## the trainer's Python tests, with the real torch, transformers and PEFT on the CPU
	@scripts/setup python
	@mkdir -p .rondo/test
	@$(PYTHON) -m pytest -q trainer-image --junitxml=.rondo/test/trainer.xml

test-integration: ## tests against a real API server, registry and sockets
	@scripts/setup clusters
	@$(VITEST) integration

test-e2e: ## tests on real clusters with real trainer pods (needs root)
	@scripts/setup all
	@$(VITEST) e2e

chaos: ## every named fault on real clusters, outages of OUTAGE=120 s, and a kill after every effect; writes the table in docs/reliability.md (needs root; over an hour)
	@scripts/setup all
	@RONDO_E2E_SET=e2e-chaos RONDO_CHAOS=all RONDO_CHAOS_OUTAGE=$(OUTAGE) RONDO_CHAOS_TABLE=docs/reliability.md $(VITEST) e2e test/e2e/chaos
	@RONDO_FAULTS=all $(VITEST) integration test/integration/faults

bench: ## run a benchmark: make bench NAME=round
	@scripts/setup clusters
	@node test/bench/main.ts $(NAME)

peer-faults: ## do the same faults to Flower, NVIDIA FLARE and Rondo, as docs/reliability.md has them (needs root; ONLY="flower nan")
	@scripts/setup clusters
	@node test/bench/peers/faults/main.ts $(ONLY)

build: ## compile the kernels and bundle the program into dist/
	@scripts/setup node
	@npm run --silent build

generate: ## regenerate CRDs, gRPC code, chart tables and WASM kernels; commit the result with its source
	@scripts/setup node
	@node scripts/build-kernels.ts
	@node operator/api/generate/main.ts
	@cd operator/transport && buf generate

images: ## build the container images with buildah
	@scripts/setup node
	@scripts/images

clusters-up: ## start the local clusters: a coordinator and PARTICIPANTS participants
	@scripts/setup clusters
	@node test/cluster/main.ts up --participants $(PARTICIPANTS)

clusters-status: ## show the local clusters
	@node test/cluster/main.ts status

clusters-down: ## stop the local clusters and remove every trace of them
	@node test/cluster/main.ts down

clean: ## remove what builds and runs left in the tree (caches outside the tree stay; `rm -r $$RONDO_CACHE` removes them)
	@if [ -x node_modules/node/bin/node ]; then node test/demo/main.ts down; fi
	@rm -rf .rondo dist node_modules

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.setup-$(shell cksum < requirements.lock | cut -d' ' -f1)
# vLLM has an environment of its own: it pins setuptools and some twenty packages that nothing else here needs.
VENV_VLLM := .venv-vllm
STAMP_VLLM := $(VENV_VLLM)/.setup-$(shell cat requirements-vllm.lock pyproject.toml | cksum | cut -d' ' -f1)
# What benchmarks.peers compares ktr with, without ktr.
VENV_PEERS := .venv-peers
STAMP_PEERS := $(VENV_PEERS)/.setup-$(shell cksum < requirements-peers.lock | cut -d' ' -f1)
PYTEST_ARGS ?= -n 2
# Tests of one xdist_group share a costly run: they go to one worker. xdist 3.8 cannot replace one that crashes there.
BY_GROUP := --dist loadgroup --max-worker-restart 0
ARGS ?=

# Two workers of one thread each are faster than one of two for models this small, and runs stay bit-identical.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE
export TOKENIZERS_PARALLELISM ?= false
OFFLINE := HF_HUB_OFFLINE=1 WANDB_MODE=offline

.DEFAULT_GOAL := help
.PHONY: help setup setup-vllm setup-peers demo train test test-runs test-browser test-vllm test-gpu lint format types bench
.PHONY: bench-rollout bench-peers lock lock-vllm lock-peers clean

help:  ## List the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(STAMP)  ## Build .venv from requirements.lock (skipped while it is current)

$(STAMP):
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	rm -f $(VENV)/.setup-*
	touch $@

setup-vllm: $(STAMP_VLLM)  ## Build .venv-vllm, with vLLM's CPU build, from requirements-vllm.lock

$(STAMP_VLLM):
	test -x $(VENV_VLLM)/bin/python || $(PYTHON) -m venv $(VENV_VLLM)
	$(VENV_VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-vllm.lock
	$(VENV_VLLM)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	rm -f $(VENV_VLLM)/.setup-*
	touch $@

setup-peers: $(STAMP_PEERS)  ## Build .venv-peers, with TRL, from requirements-peers.lock

$(STAMP_PEERS):
	test -x $(VENV_PEERS)/bin/python || $(PYTHON) -m venv $(VENV_PEERS)
	$(VENV_PEERS)/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-peers.lock
	rm -f $(VENV_PEERS)/.setup-*
	touch $@

demo: setup  ## Train the tiny policy with Video-KTR on the embedded world; prints the report's path last
	@$(OFFLINE) $(BIN)/python -m ktr.train $(ARGS)

train: setup  ## Train: make train ARGS="+experiment=vet_64f seed=1"
	@$(BIN)/python -m ktr.train $(ARGS)

test: setup  ## Run the tests that need no GPU
	$(OFFLINE) $(BIN)/python -m pytest $(PYTEST_ARGS) --dist worksteal -o faulthandler_timeout=180 tests/unit tests/parity tests/golden

test-runs: setup  ## Run tests/runs: whole runs, on two ranks, killed and started again
	$(OFFLINE) $(BIN)/python -m pytest $(PYTEST_ARGS) $(BY_GROUP) tests/runs

CHROMIUM ?= chromium
test-browser: setup  ## Run tests/browser: the pages of tokens in chromium (apt-get install chromium, or CHROMIUM=<path>)
	@command -v $(CHROMIUM) > /dev/null || { echo "test-browser: no chromium here: apt-get install chromium" >&2; exit 1; }
	CHROMIUM=$(CHROMIUM) $(OFFLINE) $(BIN)/python -m pytest $(PYTEST_ARGS) tests/browser

# One process: each engine takes memory and threads of its own.
test-vllm: setup-vllm  ## Run tests/vllm: rollouts by the real vLLM, on the CPU
	OMP_NUM_THREADS=1 $(OFFLINE) $(VENV_VLLM)/bin/python -m pytest tests/vllm

test-gpu: setup  ## Run tests/gpu where there is a GPU
	@if $(BIN)/python -c 'import sys, torch; sys.exit(not torch.cuda.is_available())'; \
	then $(OFFLINE) $(BIN)/python -m pytest -rs tests/gpu; \
	else echo "test-gpu: no GPU here, tests/gpu not run"; fi

lint: setup  ## Check style and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: setup  ## Let ruff rewrite what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: setup  ## Check types
	$(BIN)/pyright

bench: setup  ## Compare our scoring with the reference way
	$(BIN)/python -m benchmarks.scoring $(ARGS)

bench-rollout: setup-vllm  ## Compare the rollout engines on one workload
	$(OFFLINE) $(VENV_VLLM)/bin/python -m benchmarks.rollout $(ARGS)

bench-peers: setup setup-peers  ## Compare a step with TRL's
	$(OFFLINE) $(BIN)/python -m benchmarks.peers $(ARGS)

lock: setup  ## Write requirements.lock anew from what .venv holds
	$(BIN)/python .ci/lock > requirements.lock.new && mv requirements.lock.new requirements.lock

lock-vllm: setup-vllm  ## Write requirements-vllm.lock anew from what .venv-vllm holds
	$(VENV_VLLM)/bin/python .ci/lock vllm > requirements-vllm.lock.new
	mv requirements-vllm.lock.new requirements-vllm.lock

lock-peers: setup-peers  ## Write requirements-peers.lock anew from what .venv-peers holds
	$(VENV_PEERS)/bin/python .ci/lock peers > requirements-peers.lock.new
	mv requirements-peers.lock.new requirements-peers.lock

clean:  ## Remove the environments, runs and caches of this checkout
	rm -rf $(VENV) $(VENV_VLLM) $(VENV_PEERS) runs multirun outputs wandb build *.egg-info .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

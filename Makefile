# Two commands for a fresh clone: `make demo` and `make test`. The rest stands beside them.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: venv demo test test-scale lint bench bench-peers

venv: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[train,fast,tiff,dicom,sign,serve,log,dev]'
	touch $@

demo: venv
	$(BIN)/python examples/demo.py

test: venv
	$(BIN)/python tests/browser.py
	$(BIN)/python -m pytest

# What needs Ray and pyarrow (400 MB more).
SCALE_STAMP := .venv/.scale

$(SCALE_STAMP): $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[scale]'
	touch $@

test-scale: $(SCALE_STAMP)
	$(BIN)/python -m pytest tests/test_bulk.py tests/test_bulk_ray.py tests/test_over_ray.py

lint: venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check src tests examples benchmarks
	$(BIN)/mypy

# The peers that are measured against, on top of .venv's torch, timm and Pillow: a .pth file lends them, so both sides compute with the same.
PEERS := .venv-peers
PEERS_STAMP := $(PEERS)/.installed

bench-peers: venv $(PEERS_STAMP)

$(PEERS_STAMP): benchmarks/peers/requirements.txt $(STAMP)
	test -x $(PEERS)/bin/python || $(BIN)/python -m venv $(PEERS)
	$(BIN)/python -c "import sysconfig; print(sysconfig.get_path('purelib'))" > "$$($(PEERS)/bin/python -c "import sysconfig; print(sysconfig.get_path('purelib'))")/training_libraries.pth"
	$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement benchmarks/peers/requirements.txt
	touch $@

# A day and a half's work on two cores; docs/benchmarks.md says how long each takes. Every one is run, whatever the others found.
SEEDS ?= 0 1 2 3 4
BENCHMARKS := startup memorise tag_mosaics promises unlike near_million audit_copies audit_speed look_once look_at_scale int8 files_to_labels clothing_time cifar_ten_minutes budgets \
  detector_speed label_maps boxes scenes_agree tiles serving parity standalone speed_preset bulk_predict driver_at_scale simulate_cluster fuzz_images fuzz_bundles
SEEDED := unlike audit_copies audit_speed look_once files_to_labels clothing_time cifar_ten_minutes budgets label_maps boxes speed_preset simulate_cluster

bench: $(SCALE_STAMP) bench-peers
	missed=; for name in $(BENCHMARKS); do \
	  case " $(SEEDED) " in *" $$name "*) seeds="--seeds $(SEEDS)";; *) seeds=;; esac; \
	  $(BIN)/python benchmarks/$$name.py $$seeds $(BENCH_FLAGS) || missed="$$missed $$name"; \
	done; \
	$(BIN)/python benchmarks/write_docs.py; \
	test -z "$$missed" || { echo "Missed or failed:$$missed"; exit 1; }

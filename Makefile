# shared_pose_ros without a ROS installation: `make demo` and `make test` set up .venv themselves.
# On a ROS machine use colcon instead: docs/how-to/install.md.

PYTHON ?= python3
VENV ?= .venv
VENV_PYTORCH3D ?= .venv-pytorch3d
VENV_MINIMUM ?= .venv-minimum
PYTEST_ARGS ?=
COVERAGE_FLOOR ?= 93
DEMO_ARGS ?=
BENCHMARK_ARGS ?=
SOAK_ARGS ?= --minutes 2 --json out/soak/soak.json
TLESS ?=
TLESS_SETS ?= pbr_dev/test real/test
BACKGROUNDS ?=
CAMPAIGN ?= tless30-systems
CAMPAIGN_ARGS ?=
JSON ?= benchmark/results/tless30.json

BIN := $(VENV)/bin

# Runs of different checkouts, and the robots nearby, must not hear each other: this machine only, and a DDS domain from
# the checkout's path (1 to 100: above 101 DDS ports meet those that Linux hands out to programs).
export ROS_AUTOMATIC_DISCOVERY_RANGE := LOCALHOST
export ROS_DOMAIN_ID := $(shell echo $$(( $$(printf %s "$(CURDIR)" | cksum | cut -d ' ' -f 1) % 100 + 1 )))
export ROS_LOG_DIR := $(CURDIR)/out/ros_log
# A sourced ROS installation or another environment would mix its packages into ours.
unexport ROS_LOCALHOST_ONLY ROS_STATIC_PEERS ROS_DISCOVERY_SERVER ROS_DISTRO RMW_IMPLEMENTATION
unexport AMENT_PREFIX_PATH CMAKE_PREFIX_PATH COLCON_PREFIX_PATH PYTHONPATH PYTHONHOME LD_LIBRARY_PATH
unexport _ROS_WHEELS_BOOTSTRAP_COMPLETE

.PHONY: help setup setup-pytorch3d demo test test-fast coverage parity minimum soak lint types docs package lock clean distclean
.PHONY: pages benchmark-packages tless-data photographs
.PHONY: benchmarks benchmark-node benchmark-inference benchmark-soak benchmark-parts benchmark-renderers
.PHONY: benchmark-tless benchmark-positions benchmark-tless-systems benchmark-three-parts

help:
	@echo "make demo       node, recorded camera stream and a report in out/demo (sets up $(VENV) first)"
	@echo "make test       all tests; PYTEST_ARGS='-k pairing' for some of them"
	@echo "make test-fast  those that need no DDS and are not slow"
	@echo "make coverage   all tests, and which lines they ran; fails below the floor"
	@echo "make parity     Warp against PyTorch3D, in $(VENV_PYTORCH3D) (sets it up first: 6 GB)"
	@echo "make soak       two minutes of the node under random faults; SOAK_ARGS='--minutes 30' for longer"
	@echo "make minimum    the lowest versions of what a cell needs, in $(VENV_MINIMUM); PYTHON=python3.10"
	@echo "make lint       ruff, spelling, the rules between the packages, the manifests"
	@echo "make types      mypy"
	@echo "make docs       the documentation as a site, in out/docs"
	@echo "make package    wheel and sdist in out/dist, checked and installed"
	@echo "make setup      only set up $(VENV)"
	@echo "make lock       renew requirements/*.txt from setup.py and requirements/ros.in"
	@echo "make clean      remove outputs and caches; make distclean: the environments too"
	@echo "variables:      PYTHON=$(PYTHON)  VENV=$(VENV)"
	@echo
	@echo "Benchmarks, on two idle cores. Each writes benchmark/results, then the tables and plots of docs/ (make pages)."
	@echo "make benchmarks              all that needs no data from elsewhere: 52 minutes; with TLESS=DIR benchmark-tless too"
	@echo "make benchmark-node          latency, start-up, memory, rates of the node: 8 minutes"
	@echo "make benchmark-inference     frame to rotations, against other runtimes: 5 minutes"
	@echo "make benchmark-soak          the node under random faults: 30 minutes"
	@echo "make benchmark-parts         temporal filtering, mutated messages, a training step: 8 minutes"
	@echo "make benchmark-renderers     Warp against PyTorch3D: 10 minutes, and 6 GB for $(VENV_PYTORCH3D)"
	@echo "make benchmark-tless TLESS=DIR                              models/tless30.pose.pt on T-LESS: 3 minutes"
	@echo "make benchmark-positions TLESS=DIR                          positions from boxes, meshes and depth: 3 minutes"
	@echo "make benchmark-tless-systems TLESS=DIR BACKGROUNDS=DIR      the paper's systems, 30 objects: an hour and a half"
	@echo "        CAMPAIGN=tless-ablation  one choice changed at a time: an hour"
	@echo "make benchmark-three-parts BACKGROUNDS=DIR                  the paper's claims on three demo parts: 90 minutes"

setup:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is missing: install Python 3.10 to 3.14, or name yours with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) tools/pip_ros/preflight.py $(VENV)
	@$(PYTHON) tools/pip_ros/setup_environment.py $(VENV)

# PyTorch3D's wheel loads with a torch of its own, so it has an environment of its own.
setup-pytorch3d:
	@$(PYTHON) tools/pip_ros/setup_environment.py $(VENV_PYTORCH3D) --kind pytorch3d

demo: setup
	$(BIN)/shared_pose demo --out out/demo $(DEMO_ARGS)

test: setup
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-fast: setup
	$(BIN)/python -m pytest -m 'not ros and not slow' $(PYTEST_ARGS)

coverage: setup
	$(BIN)/python -m pytest --cov --cov-fail-under=$(COVERAGE_FLOOR) $(PYTEST_ARGS)

parity: setup-pytorch3d
	$(VENV_PYTORCH3D)/bin/python -m pytest test/parity $(PYTEST_ARGS)

soak: setup
	$(BIN)/python benchmark/soak.py $(SOAK_ARGS)

# What draws the plots and the other runtimes are added to $(VENV), in versions that fit the rest; nothing else uses them.
benchmark-packages: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/benchmark.txt

# The documentation as a site that needs no network, in out/docs. Warnings are errors: dead links and anchors are some.
docs: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/docs.txt
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo out/docs/index.html

pages: benchmark-packages
	$(BIN)/python benchmark/page_tables.py

benchmark-node: setup
	$(BIN)/python benchmark/message_path.py --json benchmark/results/message_path.json
	$(BIN)/python benchmark/node.py --json benchmark/results/node_cpu.json $(BENCHMARK_ARGS)
	$(MAKE) pages

benchmark-renderers: setup-pytorch3d
	$(VENV_PYTORCH3D)/bin/python benchmark/renderers.py --json benchmark/results/renderers_cpu.json $(BENCHMARK_ARGS)

benchmark-inference: benchmark-packages
	$(BIN)/python benchmark/inference.py --json benchmark/results/inference_cpu.json $(BENCHMARK_ARGS)
	$(MAKE) pages

benchmark-soak: setup
	$(BIN)/python benchmark/soak.py --minutes 30 --seed 0 --json benchmark/results/soak.json
	$(MAKE) pages

benchmark-parts: setup
	$(BIN)/python benchmark/smoothing.py --json benchmark/results/smoothing.json
	$(BIN)/python benchmark/fuzz.py --messages 100000 --seed 0 --json benchmark/results/fuzz.json
	$(BIN)/python benchmark/training_step.py --seconds 15 --json benchmark/results/training_step_cpu.json
	$(MAKE) pages

# On a machine that does nothing else, one after another.
benchmarks: setup
	$(MAKE) benchmark-node
	$(MAKE) benchmark-inference
	$(MAKE) benchmark-parts
	$(MAKE) benchmark-soak
	$(if $(TLESS),$(MAKE) benchmark-tless)

tless-data:
	@for part in models_cad $(TLESS_SETS); do test -n "$(TLESS)" && test -d "$(TLESS)/$$part" || { \
	    echo "error: no folder $$part in TLESS='$(TLESS)': give TLESS=DIR with models_cad and $(TLESS_SETS) in BOP layout." >&2; \
	    echo "T-LESS is at https://bop.felk.cvut.cz/datasets (models, test images); score its own test images with" >&2; \
	    echo "TLESS_SETS=test_primesense JSON=out/tless30.json. docs/benchmarks/tless.md says what is what." >&2; exit 1; }; done

photographs:
	@test -d "$(BACKGROUNDS)" || { \
	    echo "error: BACKGROUNDS='$(BACKGROUNDS)' is no folder: give BACKGROUNDS=DIR with photographs for the training images" >&2; \
	    exit 1; }

benchmark-tless: tless-data setup
	$(BIN)/python benchmark/tless.py --tless "$(TLESS)" --sets $(TLESS_SETS) --json $(JSON) $(BENCHMARK_ARGS)
	$(MAKE) pages

benchmark-positions: TLESS_SETS = pbr_dev/test
benchmark-positions: tless-data setup
	$(BIN)/shared_pose export models/tless30.pose.pt --objects "$(TLESS)/models_cad" --out out/positions/tless30.pose.pt
	$(BIN)/shared_pose render-bop --objects models/parts --out out/positions/parts --scenes 6 --views 8 --seed 12
	$(BIN)/python benchmark/depth.py --data "$(TLESS)" --json benchmark/results/depth.json \
	    --set tless "$(TLESS)/pbr_dev" out/positions/tless30.pose.pt "$(TLESS)/models_cad" \
	    --set parts out/positions/parts models/demo_parts.pose.pt models/parts \
	    --bag demo models/demo_bag models/demo_parts.pose.pt models/parts
	$(MAKE) pages

# A campaign goes on where it stopped. $(call tables,CONFIG,RESULT,OPTIONS) makes its tables, and a result of them.
campaign = $(BIN)/shared_pose campaign $(1) --backgrounds "$(BACKGROUNDS)" --out runs/$(1) $(CAMPAIGN_ARGS)
tables = $(if $(filter --dry-run,$(CAMPAIGN_ARGS)),@true,$(BIN)/shared_pose tables --config config/tables/$(1).yaml --runs runs/$(1) \
    --out out/$(2) $(3) && cp out/$(2)/tables.json benchmark/results/tables_$(2).json)

benchmark-tless-systems: TLESS_SETS = pbr_dev/test
benchmark-tless-systems: tless-data photographs setup
	$(call campaign,$(CAMPAIGN)) --objects "$(TLESS)/models_cad"
	$(call tables,$(CAMPAIGN),$(CAMPAIGN),--bop "$(TLESS)/pbr_dev" --models "$(TLESS)/models_cad")
	$(MAKE) pages

benchmark-three-parts: photographs setup
	$(call campaign,three-parts)
	$(BIN)/shared_pose render-bop --objects models/parts --subset ring,tee,lever --scenes 15 --views 4 --out out/heldout
	$(call tables,three-parts,three-parts,--bop out/heldout)
	$(call tables,three-parts,three-parts_detector,--bop out/heldout --protocol detector --no-cost)
	$(MAKE) pages

lint: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q test/project

types: setup
	$(BIN)/mypy

# What a cell needs in its lowest versions, and the tests of what runs there. They compare with rendering and scipy.
minimum:
	$(PYTHON) -m venv --clear $(VENV_MINIMUM)
	PIP_CONSTRAINT=requirements/minimum.txt $(VENV_MINIMUM)/bin/python -m pip install --disable-pip-version-check -e '.[replay]' \
	    fast-simplification hypothesis kornia manifold3d pytest scipy tensorboard tqdm trimesh warp-lang
	$(VENV_MINIMUM)/bin/python -m pytest test/geometry test/network test/bundle test/test_estimator.py \
	    test/test_draw_estimates.py $(PYTEST_ARGS)
	$(VENV_MINIMUM)/bin/shared_pose estimate --bundle models/demo_parts.pose.pt --image docs/images/demo.jpg \
	    --camera 600,600,320,240 --detection lever:312,220,90,64 --json $(VENV_MINIMUM)/poses.json

# Whoever installs the wheel has neither the checkout nor the environment: both stay out of sight.
package:
	rm -rf out/dist out/package
	$(PYTHON) -m venv out/package/tools
	out/package/tools/bin/python -m pip install --quiet --disable-pip-version-check build check-wheel-contents twine
	out/package/tools/bin/python -m build --outdir out/dist
	out/package/tools/bin/twine check --strict out/dist/*
	out/package/tools/bin/check-wheel-contents out/dist/*.whl
	$(PYTHON) -m venv out/package/venv
	out/package/venv/bin/python -m pip install --quiet --disable-pip-version-check out/dist/*.whl
	cd out/package && venv/bin/shared_pose --help

lock: setup
	$(BIN)/python -m pip install --quiet uv
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tools/pip_ros/lock_requirements.py

clean:
	rm -rf out build install log *.egg-info .pytest_cache .ruff_cache .mypy_cache .grimp_cache .hypothesis
	find . -path './.venv*' -prune -o -path ./$(VENV) -prune -o -name __pycache__ -type d -print | xargs rm -rf

distclean: clean
	rm -rf $(VENV) $(VENV).lock $(VENV_PYTORCH3D) $(VENV_PYTORCH3D).lock $(VENV_MINIMUM)

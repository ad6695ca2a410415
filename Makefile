# shared_pose_ros without a ROS installation: `make demo` and `make test` set up .venv themselves.
# On a ROS machine use colcon instead: docs/installation.md.

PYTHON ?= python3
VENV ?= .venv
VENV_PYTORCH3D ?= .venv-pytorch3d
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCHMARK_ARGS ?=
SOAK_ARGS ?= --minutes 2 --json out/soak/soak.json

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

.PHONY: help setup setup-pytorch3d demo test parity soak benchmarks benchmark-node benchmark-renderers benchmark-inference lint lock clean distclean

help:
	@echo "make demo       node, recorded camera stream and a report in out/demo (sets up $(VENV) first)"
	@echo "make test       all tests; PYTEST_ARGS='-k pairing' for some of them"
	@echo "make parity     Warp against PyTorch3D, in $(VENV_PYTORCH3D) (sets it up first: 6 GB)"
	@echo "make soak       two minutes of the node under random faults; SOAK_ARGS='--minutes 30' for longer"
	@echo "make benchmarks the figures of docs/benchmarks.md, on an idle machine: 45 minutes"
	@echo "make benchmark-node        latency, start-up, memory, rates of the node: benchmark/results, docs/benchmarks.md"
	@echo "make benchmark-renderers   the speed of both, on the CPU: benchmark/results/renderers_cpu.json"
	@echo "make benchmark-inference   frame to rotations, against other runtimes: benchmark/results/inference_cpu.json"
	@echo "make lint       ruff and the package manifest"
	@echo "make setup      only set up $(VENV)"
	@echo "make lock       renew requirements/*.txt from setup.py and requirements/ros.in"
	@echo "make clean      remove outputs and caches; make distclean: the environments too"
	@echo "variables:      PYTHON=$(PYTHON)  VENV=$(VENV)"

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

parity: setup-pytorch3d
	$(VENV_PYTORCH3D)/bin/python -m pytest test/parity $(PYTEST_ARGS)

soak: setup
	$(BIN)/python benchmark/soak.py $(SOAK_ARGS)

benchmark-node: setup
	$(BIN)/python benchmark/message_path.py --json benchmark/results/message_path.json
	$(BIN)/python benchmark/node.py --json benchmark/results/node_cpu.json $(BENCHMARK_ARGS)
	$(BIN)/python benchmark/page_tables.py

benchmark-renderers: setup-pytorch3d
	$(VENV_PYTORCH3D)/bin/python benchmark/renderers.py --json benchmark/results/renderers_cpu.json $(BENCHMARK_ARGS)

# The other runtimes are added to $(VENV), in versions that fit the rest; nothing but this uses them.
benchmark-inference: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements/benchmark.txt
	$(BIN)/python benchmark/inference.py --json benchmark/results/inference_cpu.json $(BENCHMARK_ARGS)
	$(BIN)/python benchmark/page_tables.py

# All of docs/benchmarks.md, on a machine that does nothing else. The soak takes half an hour.
benchmarks: benchmark-node benchmark-inference
	$(BIN)/python benchmark/soak.py --minutes 30 --json benchmark/results/soak.json
	$(BIN)/python benchmark/page_tables.py

lint: setup
	$(BIN)/ruff check .
	$(BIN)/python -m pytest -q test/test_linters.py test/test_import_rules.py test/test_package.py

lock: setup
	$(BIN)/python -m pip install --quiet uv
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python tools/pip_ros/lock_requirements.py

clean:
	rm -rf out build install log *.egg-info .pytest_cache .ruff_cache .hypothesis
	find . -path './.venv*' -prune -o -path ./$(VENV) -prune -o -name __pycache__ -type d -print | xargs rm -rf

distclean: clean
	rm -rf $(VENV) $(VENV).lock $(VENV_PYTORCH3D) $(VENV_PYTORCH3D).lock

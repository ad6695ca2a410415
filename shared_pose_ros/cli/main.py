"""``shared_pose COMMAND``: finds the command's module and turns a user's mistake into one line on stderr."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from types import ModuleType

from shared_pose_ros.resources import share_cores

# Modules are imported only when their command runs: a cell without the training extras still has `estimate`.
COMMANDS = {
    "objects": "list an object set and draw a picture of it",
    "preview": "draw a batch of training crops",
    "train": "train a shared network from CAD files",
    "train-encoder": "pre-train its encoder as an autoencoder of the same objects",
    "train-refiner": "train the refiner, which compares crops with renders of hypotheses",
    "campaign": "run a recipe of several trainings, in pieces if need be",
    "build-codebook": "turn a pre-trained encoder into a bundle that answers by nearest neighbour, the baseline",
    "export": "turn a training folder into a bundle",
    "estimate": "poses of the objects in one image file",
    "render-bop": "render an object set's cluttered scenes as a dataset in BOP layout",
    "evaluate": "score a bundle on a dataset in BOP layout",
    "score": "score a BOP results file, ours or another's",
    "tables": "accuracy and cost of several systems side by side, the paper's two tables",
    "replay": "run a recorded bag through a bundle, or play it to a running node",
    "demo": "run the node on the recorded demo bag and score what it publishes",
}

# Taken under their old names for one release, with a warning.
RENAMED_OPTIONS = {
    "--box-jitter": "--detection-noise",
    "--box-miss": "--detection-miss",
    "--box-seed": "--detection-seed",
    "--chance": "--random-rotations",
    "--heaps": "--scenes",
    "--turns": "--tta-rotations",
}


class CommandError(Exception):
    """A mistake of the user; the message is one sentence with value, limit and remedy."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit status: 0 good, 1 the job failed its own check, 2 a user's mistake."""
    share_cores()
    arguments = _present_options(sys.argv[1:] if arguments is None else arguments)
    name = next((item for item in arguments if not item.startswith("-")), None)
    parser = argparse.ArgumentParser(
        prog="shared_pose",
        description="Orientation of bin-picking parts from RGB crops: one shared network, trained from CAD alone.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and exit")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command, summary in COMMANDS.items():
        child = commands.add_parser(command, help=summary, formatter_class=argparse.RawDescriptionHelpFormatter)
        if command == name:
            module = _import_command(command)
            module.add_arguments(child)
            child.set_defaults(run=module.run)
    options = parser.parse_args(arguments)
    if options.version:
        from shared_pose_ros import __version__

        print(__version__)
        return 0
    if options.command is None:
        parser.print_help()
        return 2
    return _run(options)


def _present_options(arguments: Sequence[str]) -> list[str]:
    """The command line with options under the names that they have now."""
    present = []
    for word in arguments:
        option, *value = word.split("=", 1)
        if option in RENAMED_OPTIONS:
            said = f"{option} is now called {RENAMED_OPTIONS[option]}; use that, the old name will go"
            print(f"warning: {said}", file=sys.stderr)
        present.append("=".join([RENAMED_OPTIONS.get(option, option), *value]))
    return present


def _import_command(command: str) -> ModuleType:
    try:
        return importlib.import_module(f"shared_pose_ros.cli.{command.replace('-', '_')}")
    except ImportError as error:
        remedy = "install the package with its extras (docs/how-to/install.md)"
        print(f"shared_pose {command}: {error}; {remedy}", file=sys.stderr)
        raise SystemExit(2) from error


def _run(options: argparse.Namespace) -> int:
    try:
        return options.run(options)
    except KeyboardInterrupt:
        print(f"shared_pose {options.command}: interrupted", file=sys.stderr)
        return 130
    except (CommandError, ValueError, RuntimeError, OSError, ImportError) as error:
        # Our own errors are sentences for the user; SHARED_POSE_DEBUG shows where they came from.
        if os.environ.get("SHARED_POSE_DEBUG"):
            raise
        print(f"shared_pose {options.command}: {' '.join(str(error).split())}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    raise SystemExit(main())

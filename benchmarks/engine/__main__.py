"""Run the comparison: `python benchmarks/engine`, from any folder."""

import sys
from pathlib import Path

if not __package__:  # run by its folder, which Python then takes for a place of top-level modules
    sys.path[0] = str(Path(__file__).parents[1])

from engine.runner import main

sys.exit(main())

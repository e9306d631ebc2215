"""`feasible report`: one page about a whole file. Everything is audited; a stated sample is projected and drawn.

A projection costs too much to do for hundreds of thousands of rows, so the page says of every number whether it counts
all trajectories or estimates from the sample, and how large and how drawn that sample was.
"""

from feasible._report._findings import Findings, examine
from feasible._report._page import to_dict, to_html

__all__ = ["Findings", "examine", "to_dict", "to_html"]

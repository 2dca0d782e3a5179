"""The colours of every chart, in reports and on live pages alike.

Each is at least 3:1 against both a white and a near-black page (WCAG for graphics), and the first
two differ for every common colour blindness. Same-shard is always BLUE, cross-shard always ORANGE.
"""

from __future__ import annotations

BLUE = "#2b7bba"
ORANGE = "#d9741a"
GREEN = "#1a936f"
RED = "#d1405f"
PURPLE = "#8a6fc0"
GREY = "#7d8590"
INK = "#1f2430"
GRID = "#e3e6ea"
SERIES = (BLUE, ORANGE, GREEN, PURPLE, RED, GREY)
FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif"

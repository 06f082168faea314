"""What commands need to draw: a figure, where the extra `plots` is installed."""

from pathlib import Path
from typing import TYPE_CHECKING

from spymaster.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def figure_for(file: Path, width: float, height: float) -> "Figure":
    """Return an empty figure to be saved to a file, in inches.

    Raises:
        UsageError: matplotlib is not there, or the file's ending is none of a picture.
    """
    if file.suffix not in {".png", ".svg"}:
        raise UsageError(f"{file} is no picture. Nothing was drawn. Next: give a name that ends in .png or .svg")
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise UsageError(
            "drawing needs matplotlib, which is not installed. Nothing was drawn. Next: pip install 'spymaster[plots]'"
        ) from None
    return Figure(figsize=(width, height), layout="constrained")

"""Readers of a segment with one defect each, to show that the audit can fail: each names what it breaks.

Made of the reader's own source with one expression changed; a planted defect whose expression is gone fails loudly.
"""

import inspect
from types import ModuleType

from spymaster.wal import segment

# name: the expression as it stands in the source (in one of these ways), and what the defect makes of it
_DEFECTS: dict[str, tuple[tuple[str, ...], str]] = {
    "the CRC32C is not compared (I9)": (
        (
            "computed != int(crc, 16)",
            "_crc_of(raw, frame, crc_at) != frame.crc",
            "_crc_of(raw, frame, crc_at) == frame.crc",
        ),
        "",
    ),
    "neither the rows nor the chain are continued (I9)": (("found.first_row != row or found.prev != prev",), "False"),
    "the chain of CRCs is not followed (I9)": (
        ("found.first_row != row or found.prev != prev",),
        "found.first_row != row",
    ),
    "islands of another segment are taken for ours (I9)": (
        ("frame.segment == (segment or frame.segment)", "frame.segment != (segment or frame.segment)"),
        "",
    ),
    "islands whose rows come again are taken (I9)": (("frame.first_row >= row", "frame.first_row < row"), ""),
    "nothing after damage is looked for (I14)": (("_FRAME_START.finditer(raw, start)",), "()"),
    "the search begins one byte late (I14)": (
        ("_FRAME_START.finditer(raw, start)",),
        "_FRAME_START.finditer(raw, start + 1)",
    ),
    "a tail that does not read is the end of the file (I9)": (
        ("offset < len(raw):\n        found = _frame_at",),
        "offset < len(raw) and not isinstance(_frame_at(raw, offset), str):\n        found = _frame_at",
    ),
    "what decodes is held for sound (poison)": (("batch.validate(full=True)",), "None"),
}
READER_MUTANTS = tuple(name for name in _DEFECTS if "(poison)" not in name)  # a flip or a mutation shows them


def _always(expression: str) -> str:
    """Return what an expression of a comparison becomes when it no longer tells anything apart."""
    return "False" if "!=" in expression or " < " in expression else "True"


def reader_with(name: str | None) -> ModuleType:
    """Return a copy of `spymaster.wal.segment` with a defect; with None, a sound one."""
    expressions, defect = _DEFECTS[name] if name is not None else (("",), "")
    source = inspect.getsource(segment)
    standing = [expression for expression in expressions if expression in source]
    assert standing, f"{name}: none of {expressions} is in {segment.__name__} any more; plant the defect anew"
    for expression in filter(None, standing):
        source = source.replace(expression, defect or _always(expression))
    module = ModuleType(segment.__name__)
    exec(compile(source, f"<{name}>", "exec"), module.__dict__)  # noqa: S102  # our own source, changed in one place
    return module

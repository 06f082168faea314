"""What an audit found: the lines that `spymaster verify` prints, and the numbers above them."""

from dataclasses import dataclass, field
from typing import NamedTuple


class Proof(NamedTuple):
    """What is known of one capture's rows of one stream: `rows` of them, numbered without hole or repeat."""

    capture_id: int
    stream: str
    rows: int
    whole: bool


@dataclass
class SilverVerdict:
    """What an audit of Silver found.

    Attributes:
        findings: one line for each file that is not what Bronze gives.
        notes: one line for each that is stale or could not be compared.
        audited: files that were compared with their Bronze.
        stale: files of which Bronze, or the greeks that they took, changed since they were made.
        rows_in: rows of the Bronze of the files that are what it gives.
        rows: rows of these files.
    """

    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    audited: int = 0
    stale: int = 0
    rows_in: int = 0
    rows: int = 0

    @property
    def redelivered_share(self) -> float:
        """Which part of the rows of Bronze were delivered again."""
        return (self.rows_in - self.rows) / self.rows_in if self.rows_in else 0.0


@dataclass
class GoldVerdict:
    """What an audit of Gold found.

    Attributes:
        findings: one line for each part that is not as it was published, and for each hour with rows that stand twice.
        files: parts that were read.
        rows: rows of those that stand.
    """

    findings: list[str] = field(default_factory=list)
    files: int = 0
    rows: int = 0


@dataclass
class Verdict:
    """What an audit found.

    Attributes:
        findings: one line for each thing that is not as recorded. None: proven.
        notes: one line for each thing worth knowing that is no finding.
        proofs: the captures that stand.
        files: parts read and compared.
        rows: rows audited.
        silver: what was found of Silver; its lines are among the others too.
        gold: what was found of Gold, likewise.
    """

    findings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)
    files: int = 0
    rows: int = 0
    silver: SilverVerdict = field(default_factory=SilverVerdict)
    gold: GoldVerdict = field(default_factory=GoldVerdict)

"""Day files: delivered in whole lines, and never taken for whole when they are not."""

import asyncio
import gzip
import hashlib
import os
import random
from pathlib import Path
from typing import Any

import pytest

from spymaster.errors import SourceError, TruncatedError
from spymaster.events.encoding import MassiveDayFile
from spymaster.feeds.day_files import MESSAGE_BYTES, FlatFileDelivery, FlatFileFeed
from spymaster.normalize.open import normalizer_of
from tests.feeding import following, messages, opened

HEADER = b"ticker,conditions,correction,exchange,price,sip_timestamp,size\n"
LINES = [b"O:SPY251216C00680000,233,0,302,1.54,1629820676333000%03d,1\n" % number for number in range(200)]
TEXT = HEADER + b"".join(LINES)


def delivery_of(path: Path) -> FlatFileDelivery:
    (delivery,) = opened(FlatFileFeed(str(path)))
    return delivery


def read(delivery: FlatFileDelivery) -> tuple[bytes, SourceError | None]:
    async def drain() -> tuple[bytes, SourceError | None]:
        pieces = []
        try:
            async for message in messages(delivery):
                assert 0 < len(message.data) <= MESSAGE_BYTES
                assert message.data.endswith(b"\n")
                assert message.ts_local_ns is None
                pieces.append(message.data)
        except SourceError as error:
            return b"".join(pieces), error
        return b"".join(pieces), None

    return asyncio.run(drain())


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("name", ["day.csv", "day.csv.gz", "whatever"])
def test_a_file_is_delivered_line_for_line_with_its_header_apart(tmp_path: Path, name: str) -> None:
    data = TEXT if name == "day.csv" else gzip.compress(TEXT)
    delivery = delivery_of(written(tmp_path / name, data))

    assert delivery.info.origin == f"flatfile:{tmp_path / name}"
    assert delivery.info.content_sha256 == hashlib.sha256(data).hexdigest()
    assert delivery.info.encoding == MassiveDayFile(HEADER, ("O:SPY251216C00680000",))
    assert read(delivery) == (TEXT[len(HEADER) :], None)
    assert delivery.rows == 200
    assert read(delivery)[1] is None  # again from its start
    assert delivery.rows == 200


def test_every_sample_day_file_is_delivered_whole(real_data: Path) -> None:
    files = sorted((real_data / "lean" / "derived").glob("*.csv.gz"))
    assert files
    for delivery, path in zip(opened(FlatFileFeed(str(real_data / "lean" / "derived"))), files, strict=True):
        plain = gzip.decompress(path.read_bytes())
        data, failure = read(delivery)

        assert failure is None
        assert delivery.info.encoding.header + data == plain
        assert delivery.rows == plain.count(b"\n") - 1
        assert delivery.info.encoding.tickers == ("SPY",)
        normalizer_of(delivery.info.encoding, origin=delivery.info.origin)


def test_tickers_name_one_root_or_two(tmp_path: Path) -> None:
    def tickers(*names: str, column: int = 0) -> tuple[str, ...]:
        header = HEADER if column == 0 else b"size,ticker\n"
        ends = ",,0,1,1.5,1629820676333000000,1" if column == 0 else ""
        lines = "".join(f"{name}{ends}\n" if column == 0 else f"1,{name}\n" for name in names)
        return delivery_of(written(tmp_path / "day.csv", header + lines.encode())).info.encoding.tickers

    assert tickers() == ()
    assert tickers("SPY", "SPY") == ("SPY",)
    assert tickers("A", "A", "B", "C") == ("A", "B")
    assert tickers("O:SPY251216C00680000", "O:SPY251216P00680000") == ("O:SPY251216C00680000",)
    assert tickers("O:SPY251216C00680000", "O:SPYX251216P00680000")[1] == "O:SPYX251216P00680000"
    assert tickers(*["A"] * 100_000, "B") == ("A", "B")
    assert tickers("SPY", "NA", column=1) == ("SPY", "NA")


def test_a_compressed_file_cut_at_any_byte_is_truncated_and_its_whole_lines_come_first(tmp_path: Path) -> None:
    rng = random.Random(1)
    text = HEADER + b"".join(line[:-1] + b"%d\n" % rng.getrandbits(64) for line in LINES)
    whole = gzip.compress(text)
    path = tmp_path / "cut.csv.gz"
    for size in [*range(0, len(whole), 17), *range(len(whole) - 12, len(whole))]:
        path.write_bytes(whole[:size])
        try:
            data, failure = read(delivery_of(path))
        except SourceError as error:
            data, failure = b"", error

        assert isinstance(failure, TruncatedError), size
        assert failure.byte == size
        assert text[len(HEADER) :].startswith(data)
    assert len(data) > len(text) - len(HEADER) - 200  # of the last, all lines but those in the decoder


def test_a_plain_file_that_ends_inside_a_line_is_truncated_after_its_whole_lines(tmp_path: Path) -> None:
    data, failure = read(delivery_of(written(tmp_path / "day.csv", TEXT[:-1])))

    assert isinstance(failure, TruncatedError)
    assert failure.byte == len(TEXT) - 1
    assert data == b"".join(LINES[:-1])


@pytest.mark.parametrize(
    "data", [b"", b"ticker,price", gzip.compress(b"", mtime=0), gzip.compress(b"ticker", mtime=0), b"\x1f"]
)
def test_a_file_that_ends_inside_its_header_is_truncated(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(TruncatedError):
        delivery_of(written(tmp_path / "day.csv.gz", data))


def test_a_flipped_byte_of_a_compressed_file_never_passes(tmp_path: Path) -> None:
    whole = gzip.compress(TEXT)
    path = tmp_path / "day.csv.gz"
    passed = []
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        try:
            data, failure = read(delivery_of(path))
        except SourceError:
            continue
        if failure is None:
            passed.append(at)
            assert data == TEXT[len(HEADER) :]
    # What says nothing of the content: the header's flags, time and system, and the bits that fill the last byte.
    assert set(passed) <= {*range(3, 10), len(whole) - 9}


def test_members_of_a_gzip_file_follow_one_another_and_nothing_else_does(tmp_path: Path) -> None:
    several = b"".join(gzip.compress(TEXT[at : at + 999]) for at in range(0, len(TEXT), 999))
    assert read(delivery_of(written(tmp_path / "day.csv.gz", several))) == (TEXT[len(HEADER) :], None)
    for garbage in (b"\0", b"\0" * 600, b"GARBAGE", b"\x1f", b"\x1f\x8c"):
        data, failure = read(delivery_of(written(tmp_path / "day.csv.gz", gzip.compress(TEXT) + garbage)))
        assert failure is not None, garbage
        assert str(len(gzip.compress(TEXT))) in str(failure)
        assert data == TEXT[len(HEADER) :]


def test_a_gigabyte_in_a_few_kilobytes_is_read_in_small_pieces_and_a_line_without_end_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "bomb.csv.gz", gzip.compress(HEADER + b"A" * 20_000_000))
    data, failure = read(delivery_of(path))

    assert data == b""
    assert failure is not None
    assert f"a line of more than {MESSAGE_BYTES} bytes" in str(failure)


def test_pieces_are_cut_at_line_ends_below_their_size(tmp_path: Path) -> None:
    text = HEADER + LINES[0] * 40_000
    for data in (text, gzip.compress(text)):
        delivery = delivery_of(written(tmp_path / "day.csv", data))
        assert read(delivery) == (text[len(HEADER) :], None)
        assert delivery.rows == 40_000


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    delivery = delivery_of(written(tmp_path / "day.csv", TEXT))
    os.truncate(tmp_path / "day.csv", len(TEXT) - len(LINES[-1]))

    assert "was changed" in str(read(delivery)[1])


def test_a_folder_or_a_glob_means_its_day_files_sorted(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name in ("b.csv", "below/a.csv.gz", "notes.txt", "day.csv.part"):
        written(tmp_path / name, gzip.compress(TEXT) if name.endswith("gz") else TEXT)

    for meant in (str(tmp_path), f"{tmp_path}/b*"):
        origins = [delivery.info.origin for delivery in opened(FlatFileFeed(meant))]
        assert origins == [f"flatfile:{tmp_path}/b.csv", f"flatfile:{tmp_path}/below/a.csv.gz"]
    with pytest.raises(SourceError, match=r"holds no files that end in \.csv\.gz or \.csv"):
        FlatFileFeed(f"{tmp_path}/*.part")
    with pytest.raises(SourceError, match="no such file"):
        FlatFileFeed(f"{tmp_path}/nowhere.csv")


def test_one_bad_file_does_not_keep_the_others_from_being_read(tmp_path: Path) -> None:
    written(tmp_path / "a.csv", b"")
    written(tmp_path / "b.csv", TEXT)
    deliveries = FlatFileFeed(str(tmp_path)).deliveries({})

    with pytest.raises(TruncatedError):
        following(deliveries)
    assert following(deliveries).info.encoding.header == HEADER


MARK = b"\xef\xbb\xbf"


def saved_again(text: bytes, quoted: bool, end: bytes) -> bytes:
    """The text as a spreadsheet or a shell writes it: with a mark, quotes and other line ends."""
    lines = text.split(b"\n")[:-1]
    if quoted:
        lines = [b",".join(b'"%s"' % value for value in line.split(b",")) for line in lines]
    return MARK + b"".join(line + end for line in lines)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
@pytest.mark.parametrize("quoted", [False, True])
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    "text", [TEXT, b"size,price,ticker,sip_timestamp\n" + b"1,1.5,O:SPY251216C00680000,9000000000\n" * 40]
)
def test_a_file_that_another_program_saved_again_gives_the_rows_of_the_vendors(
    tmp_path: Path, text: bytes, quoted: bool, end: bytes, packed: bool
) -> None:
    def rows(data: bytes) -> Any:
        delivery = delivery_of(written(tmp_path / "day.csv", gzip.compress(data) if packed else data))
        assert delivery.info.encoding.tickers == ("O:SPY251216C00680000",)
        normalizer = normalizer_of(delivery.info.encoding, origin=delivery.info.origin)
        assert normalizer.streams == {"options.trades": "SPY"}
        body, failure = read(delivery)
        assert failure is None
        done = normalizer.normalize([(body, None)])
        normalizer.finish()
        assert done.unreadable == []
        ((_, batch),) = done.batches
        return batch

    assert rows(saved_again(text, quoted, end)).equals(rows(text))


def test_empty_lines_are_counted_and_nothing_else(tmp_path: Path) -> None:
    delivery = delivery_of(written(tmp_path / "day.csv", HEADER + b"\n" + LINES[0] + b"\r\n\n" + LINES[1] + b"\n" * 40))
    normalizer = normalizer_of(delivery.info.encoding, origin=delivery.info.origin)
    done = normalizer.normalize([(read(delivery)[0], None)])

    assert done.unreadable == []
    assert sum(batch.num_rows for _, batch in done.batches) == 2
    assert normalizer.ignored["empty line"] == 43


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("packed", [False, True])
def test_text_that_is_not_utf_8_is_refused_and_its_mark_named(tmp_path: Path, encoding: str, packed: bool) -> None:
    data = ("\ufeff" + TEXT.decode()).encode(encoding)
    delivery = delivery_of(written(tmp_path / "day.csv", gzip.compress(data) if packed else data))

    with pytest.raises(SourceError, match=f"byte order mark of {encoding[:6].upper()}"):
        normalizer_of(delivery.info.encoding, origin=delivery.info.origin)

import asyncio
import hashlib
import os
import shutil
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import databento_dbn as dbn
import numpy as np
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from spymaster.errors import SourceError, TruncatedError
from spymaster.feeds.dbn_files import MESSAGE_BYTES, DbnFileDelivery, DbnFileFeed
from spymaster.feeds.feed import DeliveryInfo
from spymaster.normalize.open import normalizer_of
from tests.feeding import following, messages, opened

SMALL = "databento-python/GLBX.MDP3/test_data.trades.dbn.zst"
PLAIN = "dbn/test_data.trades.dbn"
LARGE = "nautilus_trader/derived/ESH4_mbp-10_20231225_part1.dbn.zst"
FRAMES = "nautilus_trader/ESU4_trades_2024-07-01T23-58_2024-07-02T00-02.dbn.zst"
LIVE = "databento-python/LIVE/test_data.live.dbn.zst"


def deliver(path: Path) -> tuple[DeliveryInfo, bytes, SourceError | None]:
    """Return the header, the bytes after it, and how reading ended."""
    (delivery,) = opened(DbnFileFeed(str(path)))
    data, failure = read(delivery)
    return delivery.info, data, failure


def read(delivery: DbnFileDelivery) -> tuple[bytes, SourceError | None]:
    async def drain() -> tuple[bytes, SourceError | None]:
        pieces = []
        try:
            async for message in messages(delivery):
                assert 0 < len(message.data) <= MESSAGE_BYTES
                assert message.ts_local_ns is None
                pieces.append(message.data)
        except SourceError as error:
            return b"".join(pieces), error
        return b"".join(pieces), None

    return asyncio.run(drain())


def frames_of(data: bytes) -> list[tuple[int, bytes]]:
    """Each zstd frame: where it ends, and what it holds."""
    frames, at = [], 0
    while at < len(data):
        frame = zstandard.ZstdDecompressor().decompressobj()
        plain = frame.decompress(data[at:])
        at = len(data) - len(frame.unused_data)
        frames.append((at, plain))
    return frames


def plain_of(path: Path) -> bytes:
    data = path.read_bytes()
    return b"".join(plain for _, plain in frames_of(data)) if path.suffix == ".zst" else data


def test_every_real_file_is_delivered_byte_for_byte(real_dbn_file: Path) -> None:
    info, data, failure = deliver(real_dbn_file)

    assert failure is None
    assert info.encoding.header + data == plain_of(real_dbn_file)
    assert info.encoding.header[:3] == b"DBN"
    assert len(info.encoding.header) == 8 + int.from_bytes(info.encoding.header[4:8], "little")
    assert info.content_sha256 == hashlib.sha256(real_dbn_file.read_bytes()).hexdigest()
    assert (info.origin, info.simulated) == (f"dbn:{real_dbn_file}", False)


def test_symbols_are_looked_for_in_the_stream_only_where_the_header_has_none(real_data: Path) -> None:
    assert deliver(real_data / LIVE)[0].encoding.symbols_in_stream == ("ESZ4",)
    assert deliver(real_data / SMALL)[0].encoding.symbols_in_stream == ()


def test_the_look_ahead_finds_mappings_of_every_version_behind_any_records(tmp_path: Path, real_data: Path) -> None:
    live = plain_of(real_data / LIVE)[:128]

    def mapping(layout: Any, symbol: str, asked: str = "", more: bytes = b"") -> bytes:
        row: Any = np.zeros(1, layout._dtypes)
        row["length"], row["rtype"] = (row.itemsize + len(more)) // 4, 22
        row["stype_out_symbol"], row["stype_in_symbol"] = symbol.encode(), asked.encode()
        return bytes(row.tobytes()) + more

    other = bytes([92, 10]) + b"\x16" * 366
    names = mapping(dbn.SymbolMappingMsg, "ESZ5") + mapping(dbn.SymbolMappingMsg, "ESH6", more=bytes(8))
    old = mapping(dbn.SymbolMappingMsgV1, "ESM6") + mapping(dbn.SymbolMappingMsgV1, "17", asked="ESU6")
    path = tmp_path / "live.dbn"
    path.write_bytes(live + other * 3000 + names + other * 3000 + names + old + b"\x16\x16half")

    assert deliver(path)[0].encoding.symbols_in_stream == ("ESZ5", "ESH6", "ESM6", "ESU6")


def test_a_compressed_file_cut_at_any_byte_raises_and_names_the_byte(tmp_path: Path, real_data: Path) -> None:
    whole = (real_data / SMALL).read_bytes()
    path = tmp_path / "cut.dbn.zst"
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        try:
            _, _, failure = deliver(path)
        except SourceError as error:
            failure = error

        assert isinstance(failure, TruncatedError), size
        assert failure.byte == size
        assert f"byte {size}:" in str(failure)


def test_a_plain_file_cut_at_any_byte_but_between_records_raises_and_names_the_byte(
    tmp_path: Path, real_data: Path
) -> None:
    whole = (real_data / PLAIN).read_bytes()
    header = 8 + int.from_bytes(whole[4:8], "little")
    path = tmp_path / "cut.dbn"
    between, cut = [], {}
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        try:
            normalize(path)
            between.append(size)
        except TruncatedError as error:
            cut[size] = (error.byte, error.where)
    assert between == [header, header + 48, header + 96]
    assert cut == {size: (size, f"dbn:{path}") for size in range(len(whole)) if size not in between}


def normalize(path: Path) -> None:
    info, data, failure = deliver(path)
    assert failure is None
    normalizer = normalizer_of(info.encoding, origin=info.origin)
    normalizer.normalize([(data, None)])
    normalizer.finish()


def test_what_was_sound_before_a_cut_is_delivered_first(tmp_path: Path, real_data: Path) -> None:
    whole, plain = (real_data / LARGE).read_bytes(), plain_of(real_data / LARGE)
    path = tmp_path / "cut.dbn.zst"
    path.write_bytes(whole[:300_000])

    info, data, failure = deliver(path)

    assert isinstance(failure, TruncatedError)
    assert failure.byte == 300_000
    assert plain.startswith(info.encoding.header + data)
    assert len(data) > len(plain) / 3


def test_a_header_in_a_frame_of_its_own_is_read_and_a_cut_in_any_frame_is_seen(real_data: Path, tmp_path: Path) -> None:
    whole = (real_data / FRAMES).read_bytes()
    frames = frames_of(whole)
    ends = [end for end, _ in frames]

    info, data, _ = deliver(real_data / FRAMES)
    assert (info.encoding.header, data) == (frames[0][1], b"".join(plain for _, plain in frames[1:]))

    assert len(frames) > 1
    path = tmp_path / "cut.dbn.zst"
    for size in sorted({end + more for end in ends for more in (-1, 1, 9)}):
        if size < len(whole):
            path.write_bytes(whole[:size])
            with pytest.raises(TruncatedError, match=f"byte {size}:"):
                raise_if_failed(path)


def raise_if_failed(path: Path) -> None:
    failure = deliver(path)[2]
    if failure:
        raise failure


@settings(max_examples=60, deadline=None)
@given(cuts=st.lists(st.integers(0, 80_808), max_size=5), skip=st.booleans())
def test_frames_may_cut_header_and_records_anywhere(
    cuts: list[int], skip: bool, real_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plain = plain_of(real_data / "nautilus_trader/derived/ESH4_trades_20231225_part1.dbn.zst")
    edges = [0, *sorted(cuts), len(plain)]
    frames = [zstandard.compress(plain[a:b]) for a, b in pairwise(edges)]
    skippable = b"\x50\x2a\x4d\x18" + (5).to_bytes(4, "little") + b"hello"
    path = tmp_path_factory.mktemp("frames") / "x.dbn.zst"
    path.write_bytes((skippable if skip else b"").join([b"", *frames, b""] if skip else frames))

    info, data, failure = deliver(path)

    assert failure is None
    assert info.encoding.header + data == plain


def test_bytes_after_the_last_frame_are_an_error(tmp_path: Path, real_data: Path) -> None:
    whole = (real_data / SMALL).read_bytes()
    path = tmp_path / "more.dbn.zst"
    path.write_bytes(whole + b"junk")

    _, data, failure = deliver(path)

    assert len(data) == 4 * 48
    assert f"byte {len(whole)} of the file" in str(failure)
    assert not isinstance(failure, TruncatedError)


def test_a_flipped_bit_in_a_frame_with_a_checksum_is_an_error_that_names_the_byte(
    tmp_path: Path, real_data: Path
) -> None:
    plain = plain_of(real_data / LARGE)
    whole = bytearray(zstandard.ZstdCompressor(write_checksum=True).compress(plain))
    path = tmp_path / "damaged.dbn.zst"
    for byte in (200, 200_000, len(whole) - 1):
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 16]) + whole[byte + 1 :])
        try:
            _, _, failure = deliver(path)
        except SourceError as error:
            failure = error

        assert "is damaged at byte" in str(failure)
        assert "the zstd frame that begins at byte 0" in str(failure)


def test_a_small_file_that_holds_much_comes_in_pieces(tmp_path: Path, real_data: Path) -> None:
    header = plain_of(real_data / PLAIN)[:353]
    path = tmp_path / "much.dbn.zst"
    path.write_bytes(zstandard.compress(header + bytes([12]) * 30_000_000))

    _, data, failure = deliver(path)  # `read` checks the size of each

    assert path.stat().st_size < 5_000
    assert (len(data), failure) == (30_000_000, None)


@pytest.mark.parametrize("content", [b"", b"D", b"DBN", b"DBN\x03\x00", b"\x28", b"\x28\xb5\x2f"])
def test_a_file_shorter_than_its_header_is_truncated(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "short.dbn"
    path.write_bytes(content)

    with pytest.raises(TruncatedError, match=f"byte {len(content)}:"):
        deliver(path)


@pytest.mark.parametrize("content", [b"DBX\x03", b"hello, world", b"\x00" * 100, zstandard.compress(b"hello, world")])
def test_a_file_that_is_not_dbn_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "odd.dbn"
    path.write_bytes(content)

    with pytest.raises(SourceError, match="cannot be read") as refused:
        deliver(path)
    assert "\n" not in str(refused.value)
    assert str(path) in str(refused.value)


def test_a_header_that_the_vendors_library_cannot_decode_is_left_to_the_normalizer(
    tmp_path: Path, real_data: Path
) -> None:
    whole = bytearray(plain_of(real_data / PLAIN))
    whole[8:30] = b"\xff" * 22
    path = tmp_path / "odd.dbn"
    path.write_bytes(whole)

    info, _, _ = deliver(path)

    with pytest.raises(SourceError, match="no DBN header"):
        normalizer_of(info.encoding, origin=info.origin)


# What a path means.


@pytest.fixture
def folder(tmp_path: Path, real_data: Path) -> Path:
    for name in ("b.dbn.zst", "a/c.dbn.zst", "a/b/d.dbn.zst", "ignored.csv", "a/notes.dbn.txt"):
        target = tmp_path / "files" / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(real_data / SMALL, target)
    shutil.copy(real_data / PLAIN, tmp_path / "files" / "a.dbn")
    return tmp_path / "files"


def origins(path: Path | str) -> list[str]:
    return [delivery.info.origin for delivery in opened(DbnFileFeed(str(path)))]


def test_a_folder_means_the_dbn_files_in_it_and_below_sorted_by_path(folder: Path) -> None:
    assert origins(folder) == [
        f"dbn:{folder / name}" for name in ("a/b/d.dbn.zst", "a/c.dbn.zst", "a.dbn", "b.dbn.zst")
    ]


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("*.zst", ["b.dbn.zst"]),
        ("*", ["a/b/d.dbn.zst", "a/c.dbn.zst", "a.dbn", "b.dbn.zst"]),
        ("**/*.dbn.zst", ["a/b/d.dbn.zst", "a/c.dbn.zst", "b.dbn.zst"]),
        ("[ab].dbn*", ["a.dbn", "b.dbn.zst"]),
    ],
)
def test_a_glob_means_the_dbn_files_that_it_matches(folder: Path, pattern: str, names: list[str]) -> None:
    assert origins(folder / pattern) == [f"dbn:{folder / name}" for name in names]


def test_a_path_is_named_as_it_was_given(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(folder))

    assert origins("a.dbn") == ["dbn:a.dbn"]
    assert origins("./a.dbn") == ["dbn:./a.dbn"]
    assert origins("~/a.dbn") == ["dbn:~/a.dbn"]
    assert origins("*.dbn") == ["dbn:a.dbn"]


def test_a_file_of_any_name_is_read_for_what_it_is(folder: Path) -> None:
    odd = (folder / "a.dbn").rename(folder / "[a]*.dbn.zst.part")

    assert origins(odd) == [f"dbn:{odd}"]


@pytest.mark.parametrize("name", ["missing.dbn", "missing/*.dbn", "*.parquet", "a**b", "empty", "x\0y"])
def test_a_path_that_means_no_file_is_refused_at_once_and_named(folder: Path, name: str) -> None:
    (folder / "empty").mkdir()

    with pytest.raises(SourceError) as refused:
        DbnFileFeed(str(folder / name))
    assert str(folder / name) in str(refused.value)
    assert "Next:" in str(refused.value)


def test_a_link_to_itself_a_broken_link_and_a_pipe_are_refused_and_named(tmp_path: Path) -> None:
    (tmp_path / "loop.dbn").symlink_to(tmp_path / "loop.dbn")
    (tmp_path / "broken.dbn").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.dbn")
    for name in ("loop.dbn", "broken.dbn", "pipe.dbn"):
        with pytest.raises(SourceError, match=name):
            deliver(tmp_path / name)
    assert len(DbnFileFeed(str(tmp_path))._files) == 3


def test_a_folder_that_links_to_itself_is_walked_once(folder: Path) -> None:
    (folder / "a" / "again").symlink_to(folder)

    assert len(origins(folder)) == 4


def test_a_file_that_cannot_be_read_does_not_hide_the_files_after_it(folder: Path) -> None:
    (folder / "a.dbn").write_bytes(b"garbage")
    deliveries = DbnFileFeed(str(folder)).deliveries({})
    read_one = [following(deliveries).info.origin, following(deliveries).info.origin]

    with pytest.raises(SourceError, match=r"a\.dbn"):
        following(deliveries)

    assert [*read_one, following(deliveries).info.origin] == [
        f"dbn:{folder / name}" for name in ("a/b/d.dbn.zst", "a/c.dbn.zst", "b.dbn.zst")
    ]
    assert following(deliveries) is None


def test_a_file_that_grows_after_it_was_hashed_is_an_error(tmp_path: Path, real_data: Path) -> None:
    path = tmp_path / "growing.dbn"
    shutil.copy(real_data / PLAIN, path)
    path.chmod(0o644)
    (delivery,) = opened(DbnFileFeed(str(path)))
    with path.open("ab") as file:
        file.write(bytes(48))

    data, failure = read(delivery)

    assert data == b""
    assert "changed while it was being read" in str(failure)


def test_a_file_that_grows_while_it_is_read_is_an_error(tmp_path: Path, real_data: Path) -> None:
    path = tmp_path / "growing.dbn"
    shutil.copy(real_data / PLAIN, path)
    path.chmod(0o644)
    (delivery,) = opened(DbnFileFeed(str(path)))

    async def read_while_it_grows() -> None:
        grown = False
        async for message in messages(delivery):
            if not grown:
                with path.open("ab") as file:
                    file.write(message.data[:48])
            grown = True

    with pytest.raises(SourceError, match="changed while it was being read"):
        asyncio.run(read_while_it_grows())


def test_files_are_opened_one_after_another_and_closed_again(folder: Path) -> None:
    def open_files() -> list[Path]:
        links = (fd.readlink() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink())
        return [link for link in links if link.is_relative_to(folder)]

    async def first_message(delivery: DbnFileDelivery) -> None:
        taking = messages(delivery)
        await anext(taking)
        assert len(open_files()) == 1
        await taking.aclose()

    for delivery in opened(DbnFileFeed(str(folder))):
        assert open_files() == []
        asyncio.run(first_message(delivery))
        assert open_files() == []


def test_files_are_read_in_threads_so_that_the_event_loop_stays_free(real_data: Path) -> None:
    class Counting(ThreadPoolExecutor):
        submitted = 0

        def submit(self, *args: Any, **kwargs: Any) -> Any:
            self.submitted += 1
            return super().submit(*args, **kwargs)

    path = real_data / LARGE
    delivery = DbnFileDelivery(path, str(path))  # without a feed, and so without a thread of its own

    async def drain() -> tuple[int, int]:
        pool = Counting()
        asyncio.get_running_loop().set_default_executor(pool)
        taken = [message async for message in messages(delivery)]
        return len(taken), pool.submitted

    taken, submitted = asyncio.run(drain())
    assert taken > 10
    assert submitted >= taken


def test_a_cancelled_reader_leaves_no_file_open(real_data: Path) -> None:
    (delivery,) = opened(DbnFileFeed(str(real_data / LARGE)))

    async def cancel_half_way() -> None:
        begun = asyncio.Event()

        async def drain() -> None:
            async for _ in messages(delivery):
                begun.set()  # and on to the next read, in which the cancellation meets it

        task = asyncio.create_task(drain())
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel_half_way())  # an open file would end the test with a ResourceWarning
    assert read(delivery)[1] is None


@pytest.mark.parametrize("packed", [False, True])
def test_of_two_files_joined_the_rows_of_the_first_are_delivered_and_the_second_header_is_named(
    tmp_path: Path, real_data: Path, packed: bool
) -> None:
    one = plain_of(real_data / SMALL)
    path = tmp_path / ("both.dbn.zst" if packed else "both.dbn")
    path.write_bytes((zstandard.compress(one) if packed else one) * 2)

    with pytest.raises(SourceError, match=f"from byte {len(one)}: a second DBN header, of GLBX.MDP3, begins there"):
        normalize(path)


def test_the_look_ahead_ends_at_a_second_header(tmp_path: Path, real_data: Path) -> None:
    live = plain_of(real_data / LIVE)
    path = tmp_path / "both.dbn"
    path.write_bytes(live + live[:128] + b"\x16\x16" * 4000)

    assert deliver(path)[0].encoding.symbols_in_stream == ("ESZ4",)


# Windows of zstd.


def long_packed(plain: bytes, log: int) -> bytes:
    """As `zstd --long=LOG` packs what comes through a pipe."""
    parameters = zstandard.ZstdCompressionParameters(window_log=log, enable_ldm=True)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return bytes(packer.compress(plain) + packer.flush())


@pytest.mark.parametrize("log", [27, 28, 31])
def test_a_file_with_a_long_window_is_delivered_whole(tmp_path: Path, real_data: Path, log: int) -> None:
    plain = plain_of(real_data / SMALL)
    path = tmp_path / "long.dbn.zst"
    path.write_bytes(zstandard.compress(plain[:100]) + long_packed(plain[100:], log))

    info, data, failure = deliver(path)

    assert failure is None
    assert info.encoding.header + data == plain


@pytest.mark.parametrize(
    ("head", "size"),
    [
        (b"\x00" + bytes([22 << 3]), "4,294,967,296"),
        (b"\x00" + bytes([21 << 3 | 1]), "2,415,919,104"),
        (b"\xe0" + (3 << 30).to_bytes(8, "little"), "3,221,225,472"),
        (b"\xe2\x00\x00" + (3 << 30).to_bytes(8, "little"), "3,221,225,472"),
    ],
)
def test_a_window_beyond_the_bound_is_refused_with_its_size_and_not_called_damage(
    tmp_path: Path, real_data: Path, head: bytes, size: str
) -> None:
    plain = plain_of(real_data / SMALL)
    path = tmp_path / "long.dbn.zst"
    first = zstandard.compress(plain)
    path.write_bytes(first + long_packed(plain, 31)[:4] + head + bytes(20))

    _, data, failure = deliver(path)

    assert len(data) == 4 * 48
    assert f"the zstd frame that begins at byte {len(first)} was packed with a window of {size} bytes" in str(failure)
    assert "zstd -d --long=31" in str(failure)
    assert "damage" not in str(failure)

"""From a recording to a table: CSV, or Parquet by the extra ``parquet``, in bounded memory.

Neighbours: `_reader` reads, `_table` says what the columns are.  It must never leave half a table where a whole one is
expected.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import gzip
import io
import os
from collections import Counter
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, Protocol, cast
from uuid import uuid4

from attrs import define, field, frozen

from .._codec import Codec
from .._hints import Self
from ..errors import ConfigurationError, RecordingError
from ..events import DataEvent
from ._reader import PathLike, Reader, paths_of
from ._table import COLUMNS, Row, row

__all__ = ["Converted", "convert"]

_TOGETHER: Final = 10_000
"""Rows that are written together; in Parquet, a row group."""

_INT64: Final = range(-(2**63), 2**63)


@frozen
class Converted:
    """What came of a conversion.

    Attributes:
        rows: data events, each of which became a row.
        others: frames that are no data events.
        damaged: lines of the recording that could not be read.
        error: the error of the first of them, or None.
        kinds: how many of the others are of which class: `Pong`, `ServerError`, `UnknownMessage`, `InvalidMessage`.

    Example:
        >>> with client.record("day.jsonl"):
        ...     seconds = client.flush()  # a pong
        >>> recording.convert("day.jsonl", "day.csv")
        Converted(rows=0, others=1, damaged=0, error=None, kinds={'Pong': 1})
    """

    rows: int
    others: int
    damaged: int
    error: RecordingError | None
    kinds: Mapping[str, int] = field(factory=dict[str, int], hash=False)


def convert(
    source: PathLike | Sequence[PathLike],
    target: PathLike,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> Converted:
    """Write the data events of a recording as a table, one row each.

    Args:
        source: the recording, or several in the order in which they belong.
        target: the file to make, ``.csv``, ``.csv.gz`` or ``.parquet``; it is complete or not there.
        overwrite: replace the file if there is one, once the new one is complete.
        progress: called now and then with the bytes read so far, and all there are.

    Returns:
        How much of what there was.  A damaged line is counted, and the rest converted; `Converted.error` names it.

    Raises:
        FileExistsError: there is such a file, and `overwrite` is not asked for.
        OSError: a file cannot be read or written.
        RecordingError: the source is no recording.
        ConfigurationError: the target's name ends in none of the three.
        ImportError: Parquet is asked for and pyarrow is not installed.

    Example:
        >>> with client.record("day.jsonl"), client.stream(Price("M")) as prices:
        ...     first = prices.get(timeout=5)
        >>> recording.convert("day.jsonl", "day.csv").rows >= 1
        True
    """
    path = os.fspath(target)
    table = _table_for(path)
    errors: list[RecordingError] = []
    with Reader(paths_of(source), lambda error: errors.append(error) if not errors else None) as reader:
        rows = _Rows(reader, progress)
        with _replacing(path, overwrite=overwrite) as file, table(file) as writer:
            for some in rows.in_lots():
                writer.write(some)
        error = errors[0] if errors else None
        return Converted(rows.count, rows.others.total(), reader.damaged, error, dict(rows.others))


@define(eq=False)
class _Rows:
    """The rows of what a reader reads, counted."""

    _reader: Reader
    _progress: Callable[[int, int], object] | None
    count: int = 0
    others: Counter[str] = field(factory=Counter[str])

    def in_lots(self) -> Iterator[list[Row]]:
        """As many at a time as are written together."""
        rows = self._rows()
        while some := list(islice(rows, _TOGETHER)):
            yield some

    def _rows(self) -> Iterator[Row]:
        codec, position = Codec(), -1
        for at, raw in self._reader:
            event = codec.decode(raw, at)
            if isinstance(event, DataEvent):
                self.count += 1
                yield row(event)
            else:
                self.others[type(event).__name__] += 1
            if self._reader.position != position:
                position = self._reader.position
                self._tell()
        self._tell()

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._reader.position, self._reader.size)


@contextlib.contextmanager
def _replacing(path: str, *, overwrite: bool) -> Generator[IO[bytes]]:
    """A file that becomes the one of this name when all went well, and goes away when not.

    Until then nothing has the name, or what had it before, even if the process is killed.
    """
    if not overwrite and os.path.lexists(path):
        raise _is_there(path)
    part = Path(f"{path}.{uuid4().hex[:8]}.part")  # nobody else's
    try:
        with part.open("xb") as file:
            yield file
        if overwrite:
            part.replace(path)
        else:
            _publish(part, path)
    except BaseException as error:
        part.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename == str(part):
            error.filename = path  # the one that was asked for
        raise


def _publish(part: Path, path: str) -> None:
    """Give the file its name, unless something has that by now.

    Raises:
        FileExistsError: something has.
    """
    try:
        Path(path).hardlink_to(part)
    except FileExistsError:
        raise _is_there(path) from None
    except (OSError, NotImplementedError):  # there are no hard links here: look first, and rename
        if os.path.lexists(path):
            raise _is_there(path) from None
        part.rename(path)
    else:
        part.unlink()


def _is_there(path: str) -> FileExistsError:
    return FileExistsError(errno.EEXIST, "there is such a file already: choose another, or have it overwritten", path)


class _Table(Protocol):
    """A table being written; closed on leaving the ``with``."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def write(self, rows: Sequence[Row], /) -> None: ...


def _table_for(path: str) -> Callable[[IO[bytes]], _Table]:
    if path.endswith(".csv"):
        return _Csv
    if path.endswith(".csv.gz"):
        return _PackedCsv
    if path.endswith(".parquet"):
        return _parquet()
    raise ConfigurationError(f"{path}: a table's name ends in .csv, .csv.gz or .parquet")


class _Csv:
    """Comma-separated values with a header row: times in ISO 8601, numbers so that they are read back the same."""

    def __init__(self, file: IO[bytes]) -> None:
        self._text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        self._writer = csv.writer(self._text)
        self._writer.writerow(COLUMNS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._text.detach()

    def write(self, rows: Sequence[Row]) -> None:
        """Add rows."""
        self._writer.writerows(map(_spelt, rows))


def _spelt(values: Row) -> list[Any]:
    return [v.isoformat(timespec="microseconds") if isinstance(v, datetime) else v for v in values]


class _PackedCsv(_Csv):
    """The same, compressed by gzip."""

    def __init__(self, file: IO[bytes]) -> None:
        self._packed = gzip.GzipFile("", "wb", fileobj=file)
        super().__init__(cast("IO[bytes]", self._packed))

    def __exit__(self, *exc: object) -> None:
        super().__exit__()
        self._packed.close()


def _parquet() -> Callable[[IO[bytes]], _Table]:
    try:
        import pyarrow  # noqa: ICN001, PLC0415 - an extra, under the name that it has in errors
        import pyarrow.parquet  # noqa: PLC0415
    except ImportError:
        pyarrow = None
    if pyarrow is None:
        raise ImportError('Parquet needs an extra: pip install "allenhark-ws[parquet]"')
    arrow: Any = pyarrow  # not typed in every version
    parquet: Any = pyarrow.parquet
    types: dict[type, Any] = {
        datetime: arrow.timestamp("us", tz="UTC"),
        str: arrow.string(),
        float: arrow.float64(),
        int: arrow.int64(),
    }
    schema = arrow.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
    return lambda file: _Parquet(arrow, parquet.ParquetWriter(file, schema), schema)


@define(eq=False)
class _Parquet:
    """Parquet, a row group for each lot."""

    _pyarrow: Any
    _writer: Any
    _schema: Any

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._writer.close()

    def write(self, rows: Sequence[Row]) -> None:
        """Add rows."""
        columns = [list(column) for column in zip(*rows, strict=True)]
        slot = list(COLUMNS).index("slot")
        columns[slot] = [_fitting(value) for value in columns[slot]]
        arrays = [self._pyarrow.array(values, each.type) for values, each in zip(columns, self._schema, strict=True)]
        self._writer.write_batch(self._pyarrow.record_batch(arrays, schema=self._schema))


def _fitting(number: int | None) -> int | None:
    """A slot beyond 64 bits, which the chain never has, is none rather than the end of the conversion."""
    return number if number is None or number in _INT64 else None

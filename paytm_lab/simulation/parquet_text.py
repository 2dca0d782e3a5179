"""A Parquet file as the CSV text that it stands for, so that one reader judges both."""

from __future__ import annotations

from typing import IO

from paytm_lab.core.errors import MalformedFile
from paytm_lab.core.extras import need

PARQUET_MAGIC = b"PAR1"
_ROWS_AT_ONCE = 65_536


def parquet_as_csv(source: IO[bytes], target: IO[bytes], place: str) -> None:
    """Writes a header and a line a row. Times become ISO 8601, what is null an empty field.

    Raises MissingPart without the extra ``science``; MalformedFile for a damaged file, and for
    columns that no text stands for (lists, structs, bytes).
    """
    need("pyarrow")
    import pyarrow as pa
    import pyarrow.csv as pc
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(source)
        nested = [field.name for field in file.schema_arrow if not _is_plain(field.type)]
        if nested:
            raise MalformedFile(
                f"No text stands for the columns {', '.join(nested)[:200]}",
                place=place,
                remedy="Write the file without them.",
            )
        schema = pa.schema([(field.name, _plain(field.type)) for field in file.schema_arrow])
        with pc.CSVWriter(
            target, schema, write_options=pc.WriteOptions(quoting_style="needed")
        ) as out:
            for batch in file.iter_batches(_ROWS_AT_ONCE):
                out.write_batch(batch.cast(schema, safe=False))  # of nanoseconds
    except (pa.ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise MalformedFile(
            f"The Parquet file is damaged: {str(error)[:200]}",
            place=place,
            remedy="Write it again.",
        ) from error


def _is_plain(kind: object) -> bool:
    import pyarrow.types as pt

    return not (pt.is_nested(kind) or pt.is_binary(kind) or pt.is_large_binary(kind))


def _plain(kind: object) -> object:
    """Dictionaries as their values; nanoseconds as microseconds, which dates are read with."""
    import pyarrow as pa
    import pyarrow.types as pt

    if pt.is_dictionary(kind):
        return _plain(kind.value_type)  # type: ignore[attr-defined]
    if pt.is_timestamp(kind):
        return pa.timestamp("us", kind.tz)  # type: ignore[attr-defined]
    return kind

"""What a collection in a Milvus consists of, and what it says of itself, by which strangers are told from one's own."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from indexing.address import Address
from indexing.batch import Make
from indexing.columns import LIST_LENGTH, TEXT_BYTES, Column, columns_of
from towers.errors import ArtefactError, InputError

FORMAT = 1
ABOUT = "twotower"  # the property that holds it; also the description, as some Milvus keeps only one of them
ID, VECTOR = "item_id", "vector"


def about(make: Make) -> str:
    """The text that `read_about` reads."""
    attributes = None if make.attributes is None else base64.b64encode(make.attributes.serialize()).decode()
    return json.dumps(
        {
            "format": FORMAT,
            "space": make.space,
            "dimension": make.dimension,
            "ids": str(make.ids),
            "attributes": attributes,
        }
    )


def schema_of(client: Any, make: Make, columns: Sequence[Column]) -> Any:
    """The fields of a collection, as a client of pymilvus puts them."""
    from pymilvus import DataType

    schema = client.create_schema(auto_id=False, enable_dynamic_field=False, description=about(make))
    text: dict[str, Any] = {"max_length": TEXT_BYTES}
    if pa.types.is_large_string(make.ids):
        schema.add_field(ID, DataType.VARCHAR, is_primary=True, **text)
    else:
        schema.add_field(ID, DataType.INT64, is_primary=True)
    schema.add_field(VECTOR, DataType.FLOAT_VECTOR, dim=make.dimension)
    for column in columns:
        kind = getattr(DataType, column.stored)
        limits = text if column.stored == "VARCHAR" else {}
        if column.is_list:
            schema.add_field(
                column.field, DataType.ARRAY, element_type=kind, max_capacity=LIST_LENGTH, nullable=True, **limits
            )
        else:
            schema.add_field(column.field, kind, nullable=True, **limits)
    return schema


def read_about(address: Address, described: dict[str, Any]) -> Make:
    """What a collection that pymilvus described says of itself.

    Raises:
        ArtefactError: it is a stranger's, of a newer format, or has not the fields that it says it has.
    """
    said = (described.get("properties") or {}).get(ABOUT) or described.get("description") or ""
    try:
        about = json.loads(said)
        number = about["format"]
    except (ValueError, TypeError, KeyError):
        raise ArtefactError(
            f"the collection {address.collection!r} at {address.uri} is not one of twotower's: name another one, as in "
            f"{address.uri}#songs"
        ) from None
    if number != FORMAT:
        raise ArtefactError(f"{address} is of format {number}, this version reads {FORMAT}: update twotower")
    try:
        schema = None
        if about["attributes"] is not None:
            schema = pa.ipc.read_schema(pa.py_buffer(base64.b64decode(about["attributes"])))
        kind = {"int64": pa.int64(), "large_string": pa.large_string()}[about["ids"]]
        make = Make(kind, int(about["dimension"]), str(about["space"]), schema)
        expected = {ID, VECTOR, *(column.field for column in columns_of(schema))}
        dimensions = [field["params"].get("dim") for field in described["fields"] if field["name"] == VECTOR]
        if {field["name"] for field in described["fields"]} != expected or dimensions != [make.dimension]:
            raise ValueError("its fields are not those that it says it has")
    except (ValueError, TypeError, KeyError, InputError, pa.ArrowException) as error:
        raise ArtefactError(f"the collection at {address} is damaged: {type(error).__name__}: {error}") from error
    return make

"""What a collection says of itself, so that a stranger, another space and a newer format are told from one's own."""

from __future__ import annotations

import base64
import json
from typing import Any

import pyarrow as pa

from indexing.address import Address
from indexing.batch import Make
from indexing.columns import columns_of
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

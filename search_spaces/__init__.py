"""One file per method: networks and their choices, nothing about search."""

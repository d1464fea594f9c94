"""Videos and annotations over HTTP: fetched whole, verified, never fetched twice."""

"""Download videos and annotations over HTTP: complete, verified, and only once."""

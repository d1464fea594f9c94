"""The config: every key of it, and how it is read and checked."""

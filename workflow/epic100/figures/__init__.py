"""The report's pictures, a module a topic; each reads result files and writes picture files."""

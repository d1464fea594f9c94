"""The report's pictures, one module per topic; each reads result files and writes picture files."""

"""What every part of the library uses: errors, atomic writes, text tables, logs, the config."""

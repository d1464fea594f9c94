"""What every part uses: errors, whole files, text tables, logs, the config."""

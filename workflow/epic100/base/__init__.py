"""What every part of the library uses: errors, disks, atomic writes, text tables, logs."""

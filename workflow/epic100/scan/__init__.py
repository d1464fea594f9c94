"""The scan: decode every frame of every video once, and find the damaged ones."""

"""Convert what a lab has from before this workflow: its lists, checkpoint and order of pairs."""

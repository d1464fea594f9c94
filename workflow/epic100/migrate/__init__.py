"""What a lab brings from before this workflow: its lists, its checkpoint, its order of pairs."""

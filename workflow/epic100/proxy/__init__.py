"""Small copies of complete videos, fast to read clips from."""

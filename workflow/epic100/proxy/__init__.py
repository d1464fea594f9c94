"""Small copies of whole videos, fast to read clips from; and clips, a file for each segment."""

"""Features of whole videos at a stride, and a probe that learns actions from them."""

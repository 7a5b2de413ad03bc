"""Real small models without a GPU, and what is measured with them."""

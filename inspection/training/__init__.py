"""Training of the multimodal model's own parts: episodes in, weights with their card out. Resumable; the same code on a GPU."""

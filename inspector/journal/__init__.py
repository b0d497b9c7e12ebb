"""Every verdict on record before it is published: one writer, readers beside it, and proof that nothing was changed."""

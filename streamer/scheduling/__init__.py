"""Windows of all streams into batches, by deadline: what is computed next, what is left out, what can't be done."""

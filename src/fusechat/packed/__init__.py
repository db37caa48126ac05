"""Many texts as one row of tokens, without padding, through unpatched transformers models."""

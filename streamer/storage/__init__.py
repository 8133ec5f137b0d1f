"""The store: Redis or Valkey, the embedded one too, and what goes in and comes out."""

"""depositd's indexer."""

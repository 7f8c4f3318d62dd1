"""Reads model folders that others made: what their small files say, as the contract's values."""

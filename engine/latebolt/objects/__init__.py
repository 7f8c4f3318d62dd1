"""Indexes in object stores: published there, and opened from there by machines that only read."""

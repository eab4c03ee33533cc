"""Predictions as files: drawn pictures, label maps, and formats that other programs read. Nothing is ever overwritten."""

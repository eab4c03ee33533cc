"""TRAIN: networks in torch, as a backbone and a head."""

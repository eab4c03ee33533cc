"""What computes a bundle's graph: the engines behind the ``Infer`` seam, and which of them is best on this machine."""

"""Bundles served over HTTP: requests are batched, limited and counted, and a bundle that is replaced is swapped in (``run.serve``)."""

"""One file a task: the layers after the backbone."""

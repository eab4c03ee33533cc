"""TRAIN: the plan, the loop, the objective, augmentation and checkpoints."""

"""A smaller and faster model made from a bundle: shapes that fit what is asked for, taught by the bundle, each of them measured."""

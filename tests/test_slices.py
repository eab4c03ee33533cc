from sightline.evaluation.gaps import *

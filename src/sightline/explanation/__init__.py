"""Why a model says what it says, without torch: heat maps over its outputs, the nearest training images, and tests of both."""

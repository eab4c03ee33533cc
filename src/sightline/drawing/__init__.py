"""What is drawn on pictures: boxes with their labels, label maps in colours, in numpy and Pillow."""

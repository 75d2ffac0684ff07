"""What a segmentation says about a material, in numbers and figures."""

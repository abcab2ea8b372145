"""From the archive to images, labels and pixels."""

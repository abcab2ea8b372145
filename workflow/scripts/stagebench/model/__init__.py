"""From weights to prepared ONNX files."""

"""To LiteRT (.tflite), from PyTorch and from Keras."""

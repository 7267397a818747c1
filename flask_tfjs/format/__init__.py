"""TensorFlow.js on paper: bytes and JSON in, values or errors out."""

"""Keras models on paper: what a file of Keras says, and how TensorFlow.js says it."""

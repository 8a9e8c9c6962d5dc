"""Keras networks (.keras, .h5, live) as Graphs: read as data, without Keras and without executing anything of them."""

"""What exported Keras code brings along where Keras has nothing of that kind: read as text, never imported."""

"""HTTP: who may ask, what they asked, one broker call, the answer's shape."""

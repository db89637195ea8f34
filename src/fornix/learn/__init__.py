"""Networks from q-space features to answers, the stream that trains them, and their weights."""

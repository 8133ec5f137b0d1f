"""What is said on a stream: sound in, words with their times out."""

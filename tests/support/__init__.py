"""What the tests share: tiny models and data, runs, and what is read off them."""

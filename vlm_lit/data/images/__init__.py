"""Images: which file, bytes or pixels a record's image stands for."""

"""Records: a data set's files and tables as rows with our names, every key of them accounted for."""

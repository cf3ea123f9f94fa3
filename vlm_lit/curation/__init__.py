"""Curation: from folders of pictures and question files of several sources to one data set that accounts for each row."""

"""Curation: pictures and question files of several sources as one data set that accounts for each row."""

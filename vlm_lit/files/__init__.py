"""Files written whole and durably, and files read strictly: JSON, YAML, text that may be packed by gzip."""

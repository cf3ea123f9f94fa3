"""Class whose defaults a config's `model` or `data` has where it says nothing."""

from __future__ import annotations

from vlm_lit.commands.config_files import ConfigFiles
from vlm_lit.commands.early_check import class_paths
from vlm_lit.commands.known_options import BASE_CLASSES, DEFAULT_CLASSES, section_class
from vlm_lit.commands.option_errors import importable_packages
from vlm_lit.commands.signatures import lineage


def default_class(section: str, files: ConfigFiles) -> str:
    """The class that the command line names last, as far as it can be made; where it names none, ours.

    Were it always ours, its defaults would count as said to another class that has settings of the same names.
    """
    for path in class_paths(section, files)[-1:]:
        found = section_class(section, path)
        allowed = "." not in path or path.partition(".")[0] in importable_packages()
        if found is not None and allowed and BASE_CLASSES[section] in lineage(found):
            return path
    return DEFAULT_CLASSES[section]

"""Fine-tune vision-language models with PyTorch Lightning. Importing the package loads nothing heavy."""

__version__ = "0.1.0"

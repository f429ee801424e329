"""SecurityNet: how vulnerable are the models that people really download?"""

__version__ = "0.1.0"

"""The one trainer: self-trained models, surrogates, backdoor injection."""

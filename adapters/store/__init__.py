"""The local store of adapters: names, versions and aliases. Every change is atomic."""

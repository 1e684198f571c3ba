"""A generated music shop whose listeners have a known taste, of which text, cover and sound each tell a part.

Nobody in it is real: tracks, covers, texts, listeners and their choices are all drawn from a seed. What a method finds
here says which modality it reads, not how it does on people.
"""

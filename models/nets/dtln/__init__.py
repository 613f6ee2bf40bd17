"""DTLN: entry.py says what it is, net.py how it computes, card.md how good it is."""

"""From token ids to text: what every generating engine needs."""

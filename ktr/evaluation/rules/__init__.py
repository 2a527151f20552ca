"""Rules by which a reply is read and scored: each a named, pure function of the reply and what was asked."""

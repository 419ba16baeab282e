"""From a photograph to the ages and genders of its faces."""

"""code-align: a base code model becomes an Instruct model, with labels from running code."""

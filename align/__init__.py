"""code-align: turns a base code model into an Instruct model, with labels that come from running code."""

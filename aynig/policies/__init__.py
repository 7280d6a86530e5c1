"""One file a policy: facts and a time in, a verdict out, no input or output."""

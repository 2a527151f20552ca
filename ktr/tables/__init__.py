"""Tables of the paper from run folders: collected, checked, beside the published numbers, in text and figures."""

"""A pool of HTTP servers: started, guarded, asked, restarted, ended. What they serve is their caller's affair."""

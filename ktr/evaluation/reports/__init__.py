"""What is made of the folders of evaluations: pages, a leaderboard, comparisons."""

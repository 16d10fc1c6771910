"""How good a ranking is: judged queries, nDCG@10, MRR, recall, zero results, with intervals, and a gate that refuses a worse one."""

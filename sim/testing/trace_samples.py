"""A small file of every trace format, as text, for tests."""

AZURE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:51.2225670,879,55"""
AZURE_2024 = """TIMESTAMP,ContextTokens,GeneratedTokens
2024-05-10 00:00:00.009930+00:00,2162,5
2024-05-10 00:00:01+00:00,2399,6
"""
BURSTGPT = """Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type
5,a,2.5,ChatGPT,472,18,490,Conversation log
45,b,7.1,ChatGPT,1087,230,1317,Conversation log
118,a,0,GPT-4,417,0,417,API log
120,,1.2,GPT-4,417,276,693,API log
"""
BURSTGPT_OLD = """Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type
5,ChatGPT,472,18,490,Conversation log
45,ChatGPT,1087,230,1317,Conversation log
"""
VIDUR = "num_prefill_tokens,num_decode_tokens\n3772,54\n2514,126\n"
VIDUR_TIMED = "arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,3772,54\n2.25,2514,126\n"
MOONCAKE = """{"timestamp": 0, "input_length": 600, "output_length": 50, "hash_ids": [0, 1]}
{"timestamp": 3052, "input_length": 1100, "output_length": 9, "hash_ids": [0, 1, 2]}
{"timestamp": 6104, "input_length": 512, "output_length": 3, "hash_ids": [7]}
"""
BAILIAN = """\
{"chat_id": 4, "parent_chat_id": -1, "timestamp": 0.5, "input_length": 20, "output_length": 7, "type": "text", \
"turn": 1, "hash_ids": [11, 12]}
{"chat_id": 9, "parent_chat_id": 4, "timestamp": 61.5, "input_length": 40, "output_length": 8, "type": "text", \
"turn": 2, "hash_ids": [11, 12, 13]}
"""
APEX = """{"StartTimeOffset": 618518284, "ContextTokens": 304, "GeneratedTokens": 822}
{"StartTimeOffset": 1236439963, "ContextTokens": 497, "GeneratedTokens": 1783, "RequestID": "x"}
"""
PLANSIM = """{"plansim": "requests", "version": 1, "name": "mine", "block_size": 16}
{"arrival_s": 0.0, "input_tokens": 20, "output_tokens": 3, "session_id": 1, "block_ids": [5, 6]}
{"arrival_s": 1.5, "input_tokens": 10, "output_tokens": 2, "session_id": 2, "block_ids": [5]}
"""
TEXTS: dict[str, str] = {
    "azure": AZURE,
    "burstgpt": BURSTGPT,
    "vidur": VIDUR_TIMED,
    "mooncake": MOONCAKE,
    "bailian": BAILIAN,
    "apex": APEX,
    "plansim-jsonl": PLANSIM,
}

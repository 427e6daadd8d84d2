"""Asks a base model with an adapter: `chat.py MODEL ADAPTER "question"`. The four lines in the middle are all that anybody needs."""

import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

folder, adapter, question = sys.argv[1:4]

tokenizer = AutoTokenizer.from_pretrained(folder)
model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained(folder), adapter)
prompt = tokenizer.apply_chat_template([{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt")
print(tokenizer.decode(model.generate(**prompt, max_new_tokens=80)[0][prompt["input_ids"].shape[1] :], skip_special_tokens=True))

"""Load a trained run and recommend for two histories. First: `redraft demo`."""

import redraft
from redraft.records import Interactions

model = redraft.load("runs/demo/tiger")
histories = Interactions.from_lists([[3, 14, 15], [9, 26]])  # item numbers, oldest first
found = model.recommend(histories, k=5)
for user in range(histories.n_users):
    print("after:", ", ".join(model.catalogue.describe(item) for item in histories.history(user).tolist()))
    for item, score in zip(found.items[user].tolist(), found.scores[user].tolist()):
        print(f"  {score:7.2f}  {model.catalogue.describe(item)}")

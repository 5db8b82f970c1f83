# Topic model with a seed, n_jobs left alone. Expected: the same topics.
# Source: scikit-learn#8020 (randomness in LatentDirichletAllocation), scikit-learn#9287 (n_jobs changes results)
# Kind: C
# Slow
from sklearn.decomposition import LatentDirichletAllocation
from sklearn.feature_extraction.text import CountVectorizer

subjects = ["cat dog pet vet fur", "stock bond fund bank rate", "rain snow wind cloud sun", "goal team ball match cup"]
docs = [" ".join([subjects[i % 4]] * 2 + [subjects[(i * 7 + 1) % 4]]) for i in range(120)]
counts = CountVectorizer().fit_transform(docs)
lda = LatentDirichletAllocation(n_components=4, max_iter=8, random_state=0)
weights = lda.fit_transform(counts)
print("perplexity", round(lda.perplexity(counts), 5))
print("first document", weights[0].round(4).tolist())

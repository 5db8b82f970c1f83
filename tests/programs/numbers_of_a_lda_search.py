# A search over a topic model, whose sums depend on the number of jobs, with n_jobs in the model and in the search.
# Source: scikit-learn#8020 (randomness in LatentDirichletAllocation)
# Kind: C
# Slow
from sklearn.decomposition import LatentDirichletAllocation
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.model_selection import GridSearchCV

words = ["cat dog pet", "stock bond fund", "rain snow wind"]
docs = [" ".join([words[i % 3], words[(i * 5 + 1) % 3]]) for i in range(60)]
counts = CountVectorizer().fit_transform(docs)
for inner, outer in ((None, None), (None, 2), (1, 2)):
    model = LatentDirichletAllocation(max_iter=3, random_state=0, n_jobs=inner)
    search = GridSearchCV(model, {"n_components": [2, 3]}, cv=2, n_jobs=outer).fit(counts)
    print([round(score, 8) for score in search.cv_results_["mean_test_score"]])

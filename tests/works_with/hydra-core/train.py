"""`--multirun`: a job for each value, with a configuration that is composed and an output folder for each."""

from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig
from sklearn.datasets import load_digits
from sklearn.model_selection import cross_val_score
from sklearn.svm import SVC


@hydra.main(version_base=None, config_path="conf", config_name="config")
def main(config: DictConfig) -> None:
    X, y = load_digits(return_X_y=True)
    scores = cross_val_score(SVC(C=config.model.C, gamma=config.model.gamma), X[:600], y[:600], cv=4, n_jobs=-1)
    folder = Path(HydraConfig.get().runtime.output_dir)
    (folder / "scores.txt").write_text(str(scores))
    print(folder.name, config.model, scores)


if __name__ == "__main__":
    main()
